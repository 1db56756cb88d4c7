"""What every command of the command line has: how it is added, refused, and how its options are read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tsn_hw.core.errors import SettingsError

DEFAULT_DEVICE = "xc7z020"
EXIT_DIFFERENT = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

Result = tuple[str, Any, int]
"""What a command prints as text, the same as data for --json, and its exit code."""


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, as commands do."""

    def error(self, message: str) -> NoReturn:
        """Raises SettingsError."""
        raise SettingsError(f"{message.removeprefix('argument ')} ('{self.prog} --help' tells more)")


def add_command(
    commands: Any, name: str, function: Callable[..., Result], help_text: str, *, interrupted: str = ""
) -> argparse.ArgumentParser:
    """A command that calls ``function`` with its options, and prints what that gives.

    interrupted: how it goes on after Ctrl-C, if it need not begin anew.
    """
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text, description=f"{name}: {help_text}.")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="do not tell how far it is")
    parser.set_defaults(name=name, command=function, interrupted=interrupted)
    return parser


def path(text: str) -> Path:
    """The type of an option that names a file or a folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"must name a file or a folder, found {text!r}")
    return Path(text)


def task(text: str) -> int | str:
    """The type of an option that names a task, by its number or its name."""
    try:
        return int(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class Number:
    """The type of an option that is a number within a range, its ends included.

    >>> Number(int, 1, 64)("7")
    7
    """

    kind: Callable[[str], float]
    low: float
    high: float

    def __call__(self, text: str) -> float:
        try:
            value = self.kind(text)
        except ValueError:
            value = math.nan
        if not self.low <= value <= self.high:
            kind = "a whole number" if self.kind is int else "a number"
            raise argparse.ArgumentTypeError(
                f"must be {kind} within {self.low:.10g}..{self.high:.10g}, found {text[:40]}"
            )
        return value


def whole(low: int, high: int) -> Number:
    """Whole numbers from ``low`` to ``high``."""
    return Number(int, low, high)


def real(low: float, high: float) -> Number:
    """Numbers from ``low`` to ``high``."""
    return Number(float, low, high)


RATE = real(1e-3, 1e9)
"""The type of an option that is a number of inferences a second."""


def add_platform_options(
    parser: argparse.ArgumentParser, what: str, default: str | None = None, *, estimates: bool = True
) -> None:
    """The options that name a part and change what is known of it; ``estimates``: whether the command makes any."""
    told = "" if default is None else f" (default: {default})"
    parser.add_argument("--device", help=f"{what}; 'tsn-hw cost --devices' lists them{told}")
    parser.add_argument("--device-file", type=path, help="TOML file with further parts, or changes to ours")
    if estimates:
        parser.add_argument(
            "--coefficients", type=path, help="estimate area with this file of 'tsn-hw calibrate' instead of ours"
        )


def require_device(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse options about an accelerator where --device puts none on a part."""
    for name in names:
        if options.device is None and getattr(options, name) is not None:
            raise SettingsError(f"--{name.replace('_', '-')}: is about an accelerator; name its part with --device")
