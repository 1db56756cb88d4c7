"""Docstrings as Sphinx reads them: what is written to be read as plain text, with the marks that it needs."""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass
from typing import Any

LITERAL = re.compile(r"(``.*?``|:\w+:`.*?`)")
LISTED = re.compile(r"(\w+(?:, \w+)*): +")


def as_markup(lines: list[str], parameters: set[str]) -> list[str]:
    """A docstring whose lines about parameters are a list, and whose stars are stars.

    >>> as_markup(["One of *all*.", "", "x, y: where it is,", "      in pixels", "z: how deep"], {"x", "y", "z"})
    ['One of \\\\*all\\\\*.', '', '* **x, y**: where it is,', '  in pixels', '* **z**: how deep']
    """
    found = []
    in_list = False
    for line in lines:
        plain = line if line.lstrip().startswith((">>>", "...")) else _stars(line)
        named = LISTED.match(line)
        if named is not None and set(named[1].split(", ")) <= parameters:
            in_list = True
            plain = f"* **{named[1]}**: {plain[named.end() :]}"
        elif in_list and line[:1].isspace():
            plain = f"  {plain.strip()}"
        elif in_list and line:  # the paragraph goes on below what was listed
            plain = f"  {plain}"
        in_list = in_list and bool(line)
        found.append(plain)
    return found


def _stars(line: str) -> str:
    parts = LITERAL.split(line)
    return "".join(part if place % 2 else part.replace("*", r"\*") for place, part in enumerate(parts))


def process(_app: Any, _what: str, _name: str, of: Any, _options: Any, lines: list[str]) -> None:
    """Sphinx's event autodoc-process-docstring: changes the lines in place."""
    known = inspect.isfunction(of) or (inspect.isclass(of) and is_dataclass(of))
    lines[:] = as_markup(lines, set(inspect.signature(of).parameters) if known else set())
