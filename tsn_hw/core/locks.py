"""One writer a folder: a lock that ends with its process, however that ends, and that tells who holds it."""

from __future__ import annotations

import fcntl
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from tsn_hw.core.errors import FileError

LOCK = ".lock"
"""Name of the lock of a folder, in the folder."""
_held = threading.local()


def lock_of(file: Path) -> Path:
    """The lock of a single file, beside it."""
    return file.parent / f".{file.name}{LOCK}"  # a folder that is no file is told where it is opened


@contextmanager
def sole_writer(lock: Path) -> Iterator[None]:
    """Hold a lock file, which is there as long as it is held; FileError names the process that holds it already.

    Who holds it may ask again: a command that writes beside a run also learns it.
    """
    mine: set[Path] = _held.__dict__.setdefault("locks", set())
    if lock.absolute() in mine:
        yield
        return
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(lock)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot write {lock}: {error.strerror or error}") from error
    with file:  # closing it gives the lock back
        mine.add(lock.absolute())
        try:
            file.truncate(0)
            now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
            file.write(f"process {os.getpid()} on {platform.node()}, since {now}".encode())
            file.flush()
            yield
        finally:
            mine.remove(lock.absolute())
            lock.unlink(missing_ok=True)


def _locked(lock: Path) -> BinaryIO:
    """The lock file, opened and locked. A kill leaves it behind, but not locked."""
    while True:
        with ExitStack() as opened:
            # never through a link: the file is emptied
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
            file = opened.enter_context(os.fdopen(handle, "rb+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = "".join(letter for letter in file.read(200).decode("utf-8", "replace") if letter.isprintable())
                place = lock.parent if lock.name == LOCK else lock.with_name(lock.name[1 : -len(LOCK)])
                raise FileError(f"{place}: {holder or 'another process'} writes here; wait until it ends") from None
            if _is_still(file, lock):  # else its holder took it away between our opening and locking it
                opened.pop_all()
                return file


def _is_still(file: BinaryIO, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except FileNotFoundError:
        return False
