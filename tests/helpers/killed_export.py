"""Writes a folder in process after process, each of which dies at a later step than the one before.

``python killed_export.py FOLDER HOW``: the folder holds OLD, and what others put there; every process writes NEW over
it and ends at once, as by kill -9, at its n-th step, of those that Python audits: what it opens, makes, links, renames
and removes. A line for each says what it left in the folder, what was there after OLD was written again, and beside it.
HOW: exchange, or rename as on systems that cannot.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from export.project import folder as hls_folder

OLD = {"a/one": b"old", "a/two": b"old", "b/three": b"old"}
NEW = {"a/one": b"new", "c/four": b"new"}
THEIRS = {"notes": b"mine", "a/mine/log": b"mine", "d/e": b"mine"}
STEPS = ("open", "os.", "shutil.", "ctypes.", "fcntl.")


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != hls_folder.MANIFEST)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(files)}


def dies_at(limit: int) -> None:
    count = 0

    def step(event: str, _: object) -> None:
        nonlocal count
        count += event.startswith(STEPS)
        if count > limit:
            os._exit(9)

    sys.addaudithook(step)


def trial(folder: Path, limit: int) -> tuple[bool, list[object]]:
    """Whether a process that dies at this step ended before it, and what it left."""
    shutil.rmtree(folder.parent, ignore_errors=True)
    hls_folder.write_folder(folder, OLD)
    for name, data in THEIRS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder.parent / f".{folder.name}.mine").mkdir()
    child = os.fork()
    if child == 0:
        dies_at(limit)
        hls_folder.write_folder(folder, NEW)
        os._exit(0)
    ended = os.waitpid(child, 0)[1] == 0
    found = content(folder)
    hls_folder.write_folder(folder, OLD)
    return ended, [found, content(folder), sorted(path.name for path in folder.parent.iterdir())]


def main(folder: Path, how: str) -> None:
    if how == "rename":
        hls_folder._exchange = lambda *_: False
    ended, limit = False, 0
    while not ended:
        ended, left = trial(folder, limit)
        sys.stdout.write(f"{json.dumps(left)}\n")
        limit += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
