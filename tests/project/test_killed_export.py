"""An export that is killed at any step leaves the old folder or the new one, and the next one leaves nothing hidden."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from export.project.folder import MANIFEST, write_folder
from tsn_hw.core.errors import ExportError, FileError
from tsn_hw.core.locks import lock_of, sole_writer

ROOT = Path(__file__).parents[2]
THEIRS = {"notes": "mine", "a/mine/log": "mine", "d/e": "mine"}
OLD = {"a/one": "old", "a/two": "old", "b/three": "old"} | THEIRS
NEW = {"a/one": "new", "c/four": "new"} | THEIRS


@pytest.mark.parametrize(("how", "missing"), [("exchange", 0), ("rename", 1)])
def test_a_kill_at_any_step_leaves_the_old_folder_or_the_new_one(how, missing, tmp_path):
    """Where folders cannot change places, there is a moment without any; the next call puts the old one back."""
    command = [sys.executable, ROOT / "tests/helpers/killed_export.py", tmp_path / "build" / "hls", how]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = [left for left, *_ in lines]
    assert len(found) > 40
    assert (found[0], found[-1]) == (OLD, NEW)
    assert [left for left in found if left not in (OLD, NEW)] == [{}] * missing
    assert [after for _, *after in lines if after != [OLD, [".hls.mine", "hls"]]] == []


def test_files_and_folders_of_others_stay_as_they_are(tmp_path):
    folder = tmp_path / "hls"
    write_folder(folder, {"a/ours": b"", "b/ours": b""})
    (folder / "a/log").write_text("mine")
    (folder / "empty/below").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    (folder / "dangling").symlink_to("nowhere")
    log = (folder / "a/log").open("a")
    write_folder(folder, {"c/ours": b""})
    with log:
        log.write(", and more")  # who writes it goes on
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
        *("a", "a/log", "c", "c/ours", "dangling", "empty", "empty/below", "link", MANIFEST),
    ]
    assert (folder / "a/log").read_text() == "mine, and more"
    assert ((folder / "link").readlink(), (folder / "dangling").readlink()) == (tmp_path, Path("nowhere"))
    assert [path.name for path in tmp_path.iterdir()] == ["hls"]


def test_a_file_of_others_is_not_overwritten(tmp_path):
    write_folder(tmp_path / "hls", {"a": b""})
    (tmp_path / "hls/b").write_text("mine")
    with pytest.raises(ExportError) as caught:
        write_folder(tmp_path / "hls", {"a": b"", "b": b""})
    assert str(caught.value) == (
        f"{tmp_path}/hls: 'b' is not of the earlier export, and the new one writes it; move it away"
    )
    assert (tmp_path / "hls/b").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["hls"]


def test_a_link_to_a_folder_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "hls").symlink_to("disk")
    for content in (b"old", b"new"):
        write_folder(tmp_path / "hls", {"a": content})
    assert (tmp_path / "hls").readlink() == Path("disk")
    assert (tmp_path / "disk/a").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "hls"]


def test_a_folder_that_another_process_writes_is_left_alone(tmp_path):
    with sole_writer(lock_of(tmp_path / "hls")):
        code = f"from export.project.folder import *; write_folder(Path('{tmp_path}/hls'), {{}})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert f"FileError: {tmp_path}/hls: process " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_current_folder_cannot_be_replaced(tmp_path, monkeypatch):
    (tmp_path / "hls/below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "hls/below")
    with pytest.raises(FileError) as caught:
        write_folder(Path(".."), {"a": b""})
    assert str(caught.value) == ("cannot write ..: it is replaced as a whole, and holds the current folder; leave it")
