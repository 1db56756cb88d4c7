"""A folder of exported files that is there whole or not at all, and is written again only over itself."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tsn_hw.core.errors import ArtifactError, ExportError, FileError, shown
from tsn_hw.core.files import read_bytes, write_files
from tsn_hw.core.locks import lock_of, sole_writer
from tsn_hw.core.records import build, read_json

MANIFEST = "manifest.json"
FORMAT = "tsn-hw hls project 1"
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True)
class _Manifest:
    format: str
    files: dict[str, str]


def write_folder(
    folder: Path, files: Mapping[str, bytes], form: str = FORMAT, extra: Mapping[str, bytes] | None = None
) -> None:
    """Write files (path in the folder → content) and a manifest of them; an earlier export is replaced as a whole.

    Files of others in the folder, such as what a build left there, stay. ``form``: what kind of export it is;
    ``extra``: files that other writers add, which must have names of their own.

    Raises ExportError where the folder is not empty and no export of ours of that kind, or a file of others is in the
    way; FileError where it cannot be written.
    """
    twice = sorted(files.keys() & (extra or {}).keys())
    if twice:
        raise ExportError(f"file {twice[0]!r}: is written by the project itself")
    files = {**files, **(extra or {})}
    for name in files:
        if _leads_out(name) or name == MANIFEST:
            raise ExportError(f"file {name!r}: must be a path within the folder, other than {MANIFEST}")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = json.dumps({"format": form, "files": digests}, indent=1) + "\n"
    if Path.cwd().is_relative_to(folder.resolve()):
        raise FileError(f"cannot write {folder}: it is replaced as a whole, and holds the current folder; leave it")
    place = folder.resolve() if folder.is_symlink() else folder
    with sole_writer(lock_of(place)):
        try:
            _write(place, files | {MANIFEST: manifest.encode()}, form)
        except OSError as error:
            raise FileError(f"cannot write {folder}: {error.strerror or error}") from error


def manifest_of(folder: Path, form: str | None = FORMAT) -> dict[str, str]:
    """SHA-256 of every file that an export wrote into a folder, by its path; ExportError if there was none.

    ``form``: the kind of export that it must be, None for any.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ExportError(f"{folder}: is not empty and no earlier export; choose another folder")
    manifest = build(_Manifest, read_json(path, ArtifactError), str(path), ArtifactError)
    if form is not None and manifest.format != form:
        raise ExportError(f"{folder}: {MANIFEST} is not of a {form!r}; choose another folder")
    for name in manifest.files:
        if _leads_out(name):
            raise ArtifactError(f"{path}: {shown(name)} leads out of the folder")
    return manifest.files


def exported_files(folder: Path) -> dict[str, bytes]:
    """The files of an export of any kind by their path in its folder; without a manifest, all files that are there.

    Raises ExportError if there are none, or one is not as it was exported.
    """
    if not folder.is_dir():
        raise ExportError(f"{folder}: is no folder; name one that an export was written into")
    if not (folder / MANIFEST).is_file():
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        if not paths:
            raise ExportError(f"{folder}: holds no file")
        return {path.relative_to(folder).as_posix(): read_bytes(path) for path in paths}
    digests = manifest_of(folder, None)
    found = {name: read_bytes(folder / name) for name in digests}
    for name, content in found.items():
        if hashlib.sha256(content).hexdigest() != digests[name]:
            raise ExportError(f"{folder}: {shown(name)} is not as it was exported; export it anew")
    return found | {MANIFEST: read_bytes(folder / MANIFEST)}


def _leads_out(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts


def _write(folder: Path, files: Mapping[str, bytes], form: str) -> None:
    """Make the new folder beside the old one, what others put there included, and let them change places.

    A kill leaves the old folder or the new one, and a hidden one beside it, which the next call removes.
    """
    hidden = folder.with_name(f".{folder.name}.new")
    new, old = hidden / "new", hidden / "old"
    _tidy(folder, hidden)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"cannot write {folder}: is no folder")
    is_occupied = folder.is_dir() and any(folder.iterdir())
    earlier = manifest_of(folder, form) if is_occupied else {}
    try:
        hidden.mkdir()
        write_files(new, files)
        new.chmod(0o755)
        for name in _others(folder, {*earlier, MANIFEST}):
            _keep(folder, name, new)
        if not folder.exists():
            new.rename(folder)
        elif not _exchange(new, folder):
            folder.rename(old)
            new.rename(folder)
    finally:
        _tidy(folder, hidden)


def _tidy(folder: Path, hidden: Path) -> None:
    """Remove a hidden folder; first put the old folder in it back, where the new one did not take its place."""
    if (hidden / "old").exists() and not (folder / MANIFEST).exists():
        if folder.exists():
            folder.rmdir()
        (hidden / "old").rename(folder)
    shutil.rmtree(hidden, ignore_errors=True)


def _others(folder: Path, ours: set[str]) -> list[str]:
    """What lies in a folder and is not ours: files, links, and folders that hold nothing of ours, outer ones first."""
    ours = ours | {parent.as_posix() for name in ours for parent in PurePosixPath(name).parents}
    below = (Path(where) / name for where, folders, names in os.walk(folder) for name in (*folders, *names))
    return [name for name in (path.relative_to(folder).as_posix() for path in below) if name not in ours]


def _keep(folder: Path, name: str, new: Path) -> None:
    """Give the new folder what another put into the old one: the same file, not a copy, where links are to be had."""
    source, target = folder / name, new / name
    if source.is_dir() and not source.is_symlink():
        target.mkdir(parents=True, exist_ok=True)
        return
    if target.exists():
        raise ExportError(f"{folder}: {name!r} is not of the earlier export, and the new one writes it; move it away")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places at once, which Linux can on most file systems; whether they did."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(
        AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE
    )
