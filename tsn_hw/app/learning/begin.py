"""The command init: a settings file to begin with."""

from __future__ import annotations

from pathlib import Path

from tsn_hw.app.output import CommandResult, Note
from tsn_hw.app.reference.keys import commented_settings
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.files import write_atomically


def write_settings(path: Path) -> CommandResult:
    """Write a settings file with every key; SettingsError if there is a file already."""
    if path.exists():
        raise SettingsError(f"{path}: is there already; name another file")
    write_atomically(path, commented_settings().encode())
    told = f"{path}: change what you like, then\ntsn-hw check {path}\ntsn-hw train {path} -o build/{path.stem}"
    return CommandResult([Note(told)], {"file": str(path)})
