"""A folder of exported files that is there whole or not at all, and is written again only over itself."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tsn_hw.errors import ArtifactError, ExportError, FileError
from tsn_hw.files import read_bytes, write_atomically

MANIFEST = "manifest.json"
FORMAT = "tsn-hw hls project 1"


def write_folder(folder: Path, files: Mapping[str, bytes], form: str = FORMAT) -> None:
    """Write files (path in the folder → content) and a manifest of them; an earlier export is replaced as a whole.

    Files of others in the folder, such as what a build left there, stay. ``form``: what kind of export it is. Raises
    ExportError where the folder is not empty and no export of ours of that kind, FileError where it cannot be written.
    """
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or name == MANIFEST:
            raise ExportError(f"file {name!r}: must be a path within the folder, other than {MANIFEST}")
    earlier = manifest_of(folder, form) if _is_occupied(folder) else {}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = json.dumps({"format": form, "files": digests}, indent=1) + "\n"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            new.chmod(0o755)
            for path, content in (dict(files) | {MANIFEST: manifest.encode()}).items():
                write_atomically(new / path, content)
            _replace(folder, new, set(earlier) | {MANIFEST})
        finally:
            shutil.rmtree(new, ignore_errors=True)  # renamed by now, unless something went wrong
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error.strerror or error}") from error


def manifest_of(folder: Path, form: str = FORMAT) -> dict[str, str]:
    """SHA-256 of every file that an export wrote into a folder, by its path; ExportError if there was none."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ExportError(f"{folder}: is not empty and no earlier export; choose another folder")
    try:
        content: Any = json.loads(read_bytes(path))
    except ValueError as error:
        raise ArtifactError(f"{path}: no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != form or not isinstance(content.get("files"), dict):
        raise ExportError(f"{folder}: {MANIFEST} is not of a {form!r}; choose another folder")
    return {str(name): str(digest) for name, digest in content["files"].items()}


def _is_occupied(folder: Path) -> bool:
    if folder.exists() and not folder.is_dir():
        raise FileError(f"cannot write {folder}: is no folder")
    return folder.is_dir() and any(folder.iterdir())


def _replace(folder: Path, new: Path, ours: set[str]) -> None:
    """Put the new folder in the place of the old one, and what was not ours in the old one into it."""
    old = new.with_name(f"{new.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    for path in sorted(old.rglob("*")):
        target = folder / path.relative_to(old)
        if path.is_dir() or path.relative_to(old).as_posix() in ours or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    shutil.rmtree(old, ignore_errors=True)
