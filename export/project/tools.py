"""Programs that other people wrote: found where they are installed, run in a project, their complaints in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tsn_hw.core.errors import EngineError


def required_tool(title: str, names: Sequence[str], install: str) -> str:
    """The first of some programs that is on the path or beside the interpreter, or EngineError: what to install."""
    for place in (None, str(Path(sys.executable).parent)):
        for name in names:
            found = shutil.which(name, path=place)
            if found is not None:
                return found
    raise EngineError(f"{title} is not installed; {install}")


def run_tool(command: Sequence[str], folder: Path, see: Path | None = None) -> str:
    """Standard output of a program in a folder.

    If it fails: EngineError with its first line of complaint, and where to ``see`` more.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except PermissionError as error:
        raise EngineError(
            f"{command[0]}: {error.strerror} in {folder} (mounted noexec?); set TMPDIR or choose another folder"
        ) from error
    if done.returncode:
        told = (done.stderr + done.stdout).strip().splitlines() or ["failed without a word"]
        errors = (line for line in told if "error" in line.lower() and not line.startswith("collect2:"))
        complaint = next(errors, told[0])  # what ld says stands in front of collect2's "error", which says nothing
        raise EngineError(f"{Path(command[0]).name}: {complaint}{f'; see {see}' if see else ''}")
    return done.stdout
