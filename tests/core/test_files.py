"""Files are written whole or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tsn_hw.core.errors import FileError
from tsn_hw.core.files import read_bytes, write_atomically


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_written_and_its_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"\x00new\n")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"\x00new\n"
    assert names_in(tmp_path / "a" / "b") == ["file"]


def test_an_older_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"something longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


class HalfWritten:
    """A file on a full disk: takes half of the data, then fails."""

    def __init__(self, handle: int, failure: BaseException) -> None:
        self.file, self.failure = os.fdopen(handle, "wb"), failure

    def __enter__(self) -> "HalfWritten":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def fileno(self) -> int:
        return self.file.fileno()

    def truncate(self) -> None:
        self.file.truncate()

    def write(self, data: bytes) -> None:
        self.file.write(data[: len(data) // 2])
        raise self.failure


@pytest.mark.parametrize(
    ("failure", "seen"),
    [(OSError(28, "No space left on device"), FileError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_failure_in_the_middle_leaves_the_old_file_and_nothing_else(
    failure: BaseException, seen: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    fdopen = os.fdopen

    def half(handle: int, mode: str) -> Any:
        monkeypatch.setattr(os, "fdopen", fdopen)
        return HalfWritten(handle, failure)

    monkeypatch.setattr(os, "fdopen", half)
    with pytest.raises(seen):
        write_atomically(path, b"new and long")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_failure_of_the_rename_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(FileError, match=r"cannot write .*folder: Is a directory"):
        write_atomically(tmp_path / "folder", b"new")
    assert names_in(tmp_path) == ["folder"]


def test_a_folder_that_is_a_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileError) as error:
        write_atomically(tmp_path / "file" / "below" / "new", b"new")
    assert str(error.value) == f"cannot write {tmp_path}/file/below/new: Not a directory"
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing", "No such file or directory"), (".", "Is a directory"), ("x" * 300, "File name too long")],
)
def test_what_cannot_be_read_is_one_error_with_the_reason(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(FileError) as error:
        read_bytes(tmp_path / name)
    assert str(error.value) == f"cannot read {tmp_path / name}: {reason}"


def test_what_a_kill_left_is_used_again_and_what_is_being_written_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_bytes(b"half of something long")
    (tmp_path / ".file.mine").write_bytes(b"of another")
    write_atomically(tmp_path / "file", b"1")
    assert (sorted(names_in(tmp_path)), (tmp_path / "file").read_bytes()) == ([".file.mine", "file"], b"1")
    with ThreadPoolExecutor(8) as pool:
        contents = [bytes([number]) * 100_000 for number in range(40)]
        list(pool.map(lambda data: write_atomically(tmp_path / "file", data), contents))
    assert sorted(names_in(tmp_path)) == [".file.mine", "file"]
    assert (tmp_path / "file").read_bytes() in contents
