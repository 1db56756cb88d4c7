"""Writing files so that a reader finds the old one or the new one, never half of either."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from tsn_hw.core.errors import FileError

StrPath = str | os.PathLike[str]
"""What names a file or a folder wherever users call."""


def write_atomically(path: StrPath, data: bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it; creates the folder.

    What a process that was killed left under the temporary name, the next one that writes the file uses again.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.new"
        with _sole(temporary) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else a loss of power may keep the new name and lose the content
                temporary.chmod(0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error


def _sole(path: Path) -> BinaryIO:
    """A file, empty and open, that no other process writes as long as it is."""
    while True:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644), "wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate()
                return file
        except FileNotFoundError:  # its writer has renamed it while we waited
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files (path in the folder → content) where nobody reads before all are there; OSError if one cannot be."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def read_bytes(path: StrPath) -> bytes:
    """The content of a file, or FileError in one line."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
