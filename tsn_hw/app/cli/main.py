"""The command line. Each command reads, calls one function, and prints; bad input is one line and exit code 2."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

import tsn_hw
from tsn_hw.app.cli import deploy, hardware, learning
from tsn_hw.app.cli.command import EXIT_BAD_INPUT, EXIT_INTERRUPTED, refusal
from tsn_hw.app.output import CommandResult, Note
from tsn_hw.core.errors import SettingsError, TsnError
from tsn_hw.learn.progress import LOG, stage

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

MOST_LETTERS = 900
"""Of a line of complaint."""
AGAIN = "the same command goes on where it was"
GOES_ON = {"demo": "it goes on with --resume", "train": "it goes on with --resume"} | dict.fromkeys(
    ("calibrate", "sweep", "bench"), AGAIN
)
"""How a command that need not begin anew goes on after Ctrl-C."""


def completion(shell: Literal["bash", "zsh", "fish"], /) -> CommandResult:
    """Print what makes a shell complete commands, options and choices with the Tab key.

    For bash: tsn-hw completion bash > ~/.local/share/bash-completion/completions/tsn-hw

    For zsh, into a folder of $fpath: tsn-hw completion zsh > ~/.zfunc/_tsn-hw

    For fish: tsn-hw completion fish > ~/.config/fish/completions/tsn-hw.fish

    Args:
        shell: the shell that reads it
    """
    script = app.generate_completion(shell=shell)
    return CommandResult([Note(script)], {"script": script})


COMMANDS: dict[str, tuple[Callable[..., CommandResult], ...]] = {
    "Networks": (
        *(learning.demo, learning.init, learning.train, learning.show),
        *(learning.gate, learning.simulate, learning.verify),
    ),
    "Deployment": (hardware.check, deploy.onnx, deploy.run, deploy.c, deploy.release),
    "Hardware": (
        *(hardware.hls, hardware.rtl, hardware.memories),
        *(hardware.cost, hardware.synth, hardware.board, hardware.calibrate),
    ),
    "Results": (learning.report, learning.page, learning.sweep, learning.bench),
    "Shell": (completion,),
}


def about(command: Callable[..., CommandResult]) -> str:
    """What a command says of itself above its options: its docstring, a line a paragraph."""
    told = (inspect.getdoc(command) or "").partition("\n\nArgs:")[0]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in told.split("\n\n"))


class Columns:
    """Prints --help: names at the left, what they are at the right, without frames."""

    def render_usage(self, console: Console, options: ConsoleOptions, usage: object) -> None:
        """How the command is called."""
        console.print(f"Usage: {usage}\n", markup=False)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """A group of options or commands."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        for entry in panel.entries:
            names = ", ".join(sorted(entry.display_labels, key=len))
            value = f" {entry.metavar}" if entry.metavar and not entry.positional_label else ""
            told = " ".join(entry.description.primary_renderable.plain.split())
            facts = [f"one of {', '.join(entry.choices)}"] if entry.choices else []
            if entry.default not in (None, "False", "()") and "default:" not in told:
                facts.append(f"default: {entry.default}")
            table.add_row(
                Text(f"  {names}{value}", no_wrap=True), Text(f"{told} ({'; '.join(facts)})" if facts else told)
            )
        if panel.entries:
            console.print(Text(f"{panel.title}:"), table, "")


app = App(
    name="tsn-hw",
    version=lambda: f"tsn-hw {tsn_hw.__version__}",
    help="TinySubNets on hardware: one network, many tasks, the same integers in every engine.",
    help_epilogue="Start with 'tsn-hw demo'. Every command explains itself with --help. Exit code 2: bad input.",
    help_format="plaintext",
    help_formatter=Columns(),
    group_parameters=Group("Options"),
    default_parameter=Parameter(negative=(), allow_repeating=True),
)
for group, commands in COMMANDS.items():
    section = Group.create_ordered(group)
    for number, command in enumerate(commands):
        app.command(command, help=about(command), group=section, sort_key=number, help_epilogue="")
app["--help"].group = app["--version"].group = Group.create_ordered("Options")


@dataclass(frozen=True)
class Call:
    """A command with its options."""

    name: str
    run: Callable[[], CommandResult]
    json: bool = False
    quiet: bool = False


@app.meta.default
def _call(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    json: Annotated[bool, Parameter(group="Output", help="print the result as JSON")] = False,
    quiet: Annotated[bool, Parameter(group="Output", help="do not tell how far it is")] = False,
) -> Call:
    """What every command takes, and a command with what it alone takes."""
    if not words:
        raise SettingsError("a command is missing ('tsn-hw --help' tells more)")
    function, options, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    return Call(words[0], partial(function, *options.args, **options.kwargs), json, quiet)


def parse(arguments: Sequence[str] | None = None) -> Call:
    """The call that a command line asks for; SettingsError if it asks for none."""
    try:
        function, options, _ = app.meta.parse_args(arguments, exit_on_error=False, print_error=False)
        asked = partial(function, *options.args, **options.kwargs)
        return asked() if function is _call else Call("help", partial(_shown, asked))
    except CycloptsError as error:
        raise refusal(error) from None


def _shown(show: Callable[[], Any]) -> CommandResult:
    """What --help or --version prints."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        show()
    lines = "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines()).replace("\n\n\n", "\n\n")
    return CommandResult([Note(lines)], lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 fine, 1 engines differ or a model is not supported, 2 bad input."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold what the console's encoding lacks
    goes_on = ""
    try:
        call = parse(arguments)
        goes_on = GOES_ON.get(call.name, "")
        with _told(call.quiet), stage(call.name):
            result = call.run()
    except (TsnError, OSError, MemoryError) as error:
        return _refused(" ".join(str(error).split()) or "out of memory")
    except KeyboardInterrupt:
        _refused(f"interrupted{'; ' if goes_on else ''}{goes_on}")
        return EXIT_INTERRUPTED
    return _print(json.dumps(result.json(), indent=1) if call.json else result.text(), result.exit_code)


@contextlib.contextmanager
def _told(quiet: bool) -> Iterator[None]:
    """While a command runs, what takes long is told on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("tsn-hw: %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        LOG.setLevel(logging.NOTSET)
        LOG.removeHandler(handler)


def _print(text: str, code: int) -> int:
    """Print a result; returns the exit code that stands for it."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left must not be flushed again
        if not isinstance(error, BrokenPipeError):  # whose reader, such as `head`, has seen enough
            return _refused(f"cannot write standard output: {error.strerror}")
    return code


def _refused(message: str) -> int:
    if len(message) > MOST_LETTERS:  # some value is long
        message = f"{message[: MOST_LETTERS // 2]} ... {message[-MOST_LETTERS // 2 :]}"
    with contextlib.suppress(OSError):  # without standard error, the exit code alone tells
        print(f"tsn-hw: {message}", file=sys.stderr, flush=True)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
