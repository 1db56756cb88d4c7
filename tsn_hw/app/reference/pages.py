"""Pages of the site that are made of the code: every option, every key of a file, every error, every public name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

from cyclopts.argument import Argument

from tsn_hw.app.cli.command import EXIT_BAD_INPUT, EXIT_INTERRUPTED, Number
from tsn_hw.app.cli.main import COMMANDS, about, app
from tsn_hw.app.output.result import EXIT_DIFFERENT
from tsn_hw.app.reference.keys import Key, key_files
from tsn_hw.core import errors

PACKAGES = ("tsn_hw", "tsn_hw.learn", "export", "sim")
"""Those whose names are public."""


def reference_pages() -> dict[str, str]:
    """Text in MyST Markdown by the name of the page.

    >>> list(reference_pages())
    ['commands', 'keys', 'errors', 'python']
    """
    return {"commands": commands_page(), "keys": keys_page(), "errors": errors_page(), "python": python_page()}


# --------------------------------------------------------------------------------------------------------- commands


def commands_page() -> str:
    """Every command with every argument and option: what it is, its values and its default."""
    text = ["# Commands", "", "`tsn-hw COMMAND --help` tells the same. Options of every command:", ""]
    text += [":::{program} tsn-hw", ":::", ""]
    for argument in app.meta.assemble_argument_collection(parse_docstring=True):
        text += _option(argument)
    for group, commands in COMMANDS.items():
        text += [f"## {group}", ""]
        for command in commands:
            name = command.__name__
            text += [f"### tsn-hw {name}", "", about(command), "", f":::{{program}} tsn-hw {name}", ":::", ""]
            for argument in app[name].assemble_argument_collection(parse_docstring=True):
                text += _option(argument)
    return "\n".join(text)


def _option(argument: Argument) -> Iterator[str]:
    """The lines of one option or argument; none for what only groups others, or is not shown."""
    if not argument.parse or argument.name == "*" or argument.parameter.show is False:
        return
    names = [name for name in argument.names if not name.startswith(("--no-", "--empty-"))]
    value = "" if argument.is_flag() or not names[0].startswith("-") else f" {argument.parameter.metavar or 'VALUE'}"
    yield f":::{{option}} {', '.join(name + value for name in names)}"
    yield ""
    yield f"{_sentence(argument.parameter.help or '')} {_values(argument)}".strip()
    yield ":::"
    yield ""


def _values(argument: Argument) -> str:
    """The range or the choices of an option, and its default."""
    facts = []
    if choices := argument.get_choices():
        facts.append(f"One of {', '.join(f'`{choice}`' for choice in choices)}.")
    converter = argument.parameter.converter
    if isinstance(converter, Number):
        facts.append(f"{converter.low:.10g} to {converter.high:.10g}.")
    default = argument.field_info.default
    if default not in (None, False, (), inspect.Parameter.empty):
        facts.append(f"Default: `{default}`.")
    return " ".join(["Required.", *facts] if argument.required else facts)


def _sentence(text: str) -> str:
    """A text in one line, with a stop at its end."""
    line = " ".join(text.split())
    return f"{line.rstrip('.')}." if line else ""


# ------------------------------------------------------------------------------------------------------------- keys


def keys_page() -> str:
    """Every key of every TOML file: its type, its default and what it means."""
    text = ["# Keys of TOML files", ""]
    text += ["`tsn-hw init run.toml` writes a file with all keys of a run. An unknown key is an error.", ""]
    for file in key_files():
        text += [f"## {file.title}", "", f"Read by {file.read_by}.".replace("tsn-hw", "`tsn-hw`"), ""]
        for table in file.tables:
            title = f"`{table.header}`" if table.header else "At the top"
            text += [f"### {title}", "", _markdown(table.about), ""]
            for key in table.keys:
                text += _key(f"{table.name}.{key.name}" if table.name else key.name, key)
    return "\n".join(text)


def _key(name: str, key: Key) -> Iterator[str]:
    yield f":::{{confval}} {name}"
    yield f":type: {key.kind}"
    if key.default:
        yield f":default: `{key.default}`"
    yield ""
    yield _markdown(key.meaning) + (" Required." if key.required else "")
    yield ":::"
    yield ""


def _markdown(text: str) -> str:
    """A sentence of a docstring in Markdown."""
    return text.replace("``", "`")


# ----------------------------------------------------------------------------------------------------- Python, errors


def errors_page() -> str:
    """Every error class, with the tree of them, and exit codes."""
    names = [name for name, kind in vars(errors).items() if inspect.isclass(kind)]
    text = ["# Errors and exit codes", "", "```text", (inspect.getdoc(errors) or ""), "```", ""]
    text += ["```{eval-rst}"]
    for name in names:
        text += [f".. autoexception:: tsn_hw.core.errors.{name}", "   :show-inheritance:", ""]
    text += ["```", "", "| exit code | when |", "| --- | --- |", "| 0 | all is well |"]
    text += [f"| {EXIT_DIFFERENT} | engines differ, or a model is not supported |"]
    text += [f"| {EXIT_BAD_INPUT} | bad input: one line on standard error, `tsn-hw: ` and an error's message |"]
    text += [f"| {EXIT_INTERRUPTED} | interrupted by Ctrl-C |", ""]
    return "\n".join(text)


def python_page() -> str:
    """Every public name with its signature and docstring."""
    text = ["# Python", "", "[What to import](api.md) lists these names, one line each.", ""]
    for package in PACKAGES:
        module = importlib.import_module(package)
        text += [f"## The package `{package}`", "", "```{eval-rst}"]
        for name in module.__all__:
            if not name.startswith("__"):
                text += [*_directive(package, name), ""]
        text += ["```", ""]
    return "\n".join(text)


def _directive(package: str, name: str) -> list[str]:
    value = getattr(importlib.import_module(package), name)
    if not inspect.isclass(value):
        return [f".. autofunction:: {package}.{name}"]
    if issubclass(value, Exception):
        return [f".. autoexception:: {package}.{name}", "   :no-index:"]
    return [f".. autoclass:: {package}.{name}", "   :members:"]
