"""What every command of the command line has."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

EXIT_DIFFERENT = 1
EXIT_BAD_INPUT = 2

Result = tuple[str, Any, int]
"""What a command prints as text, the same as data for --json, and its exit code."""


def add_command(commands: Any, name: str, function: Callable[..., Result], help_text: str) -> argparse.ArgumentParser:
    """A command that calls ``function`` with its options, and prints what that gives."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text, description=f"{name}: {help_text}.")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=function)
    return parser
