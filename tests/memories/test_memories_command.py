"""`tsn-hw memories` and `tsn-hw hls --patch`: what they write, tell and refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from export import read_memories
from export.memories.patch_files import PATCH, PATCH_FOLDER
from export.project.folder import MANIFEST, manifest_of
from export.project.folding_json import folding_json
from tests.helpers.images import settings
from tests.helpers.patches import patched
from tests.helpers.small_network import NET
from tsn_hw.app.cli.main import main
from tsn_hw.core import artifact
from tsn_hw.hardware.pipeline import accelerator

OLD = NET.first_tasks(1)
ROOM = settings(NET, pe=2, max_tasks=2, code_bits=2, max_classes=3)


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """A folder with old.tsn, new.tsn and folding.json."""
    monkeypatch.chdir(tmp_path)
    artifact.save(OLD, Path("old.tsn"))
    artifact.save(NET, Path("new.tsn"))
    Path("folding.json").write_text(folding_json(ROOM, NET))


def run(capsys, *arguments, code=0):
    """What a command prints; of one that is refused, its one line."""
    assert main(list(arguments)) == code
    text, error = capsys.readouterr()
    if code == 2:
        assert text == ""
        assert error.count("\n") == 1
    return text if code != 2 else error.removeprefix("tsn-hw: ").rstrip("\n")


def test_memories_are_written_told_and_checked(capsys):
    text = run(capsys, "memories", "new.tsn", "--folding", "folding.json", "-o", "out", "--formats", "mem,coe")
    images = accelerator(NET, ROOM).images
    assert f"{sum(image.bits for image in images)} bits in all\n\n{2 * len(images) + 1} files in out\n" in text
    assert len(list(Path("out").iterdir())) == 2 * len(images) + 1
    for found, image in zip(read_memories(Path("out")), images, strict=True):
        np.testing.assert_array_equal(found.limbs, image.limbs)
    assert run(capsys, "memories", "--check", "out").endswith("\n\nall files are right\n")


def test_json_tells_the_same(capsys):
    told = json.loads(run(capsys, "memories", "new.tsn", "--folding", "folding.json", "-o", "out", "--json"))
    images = accelerator(NET, ROOM).images
    assert told["bits"] == sum(image.bits for image in images)
    assert told["memories"]["mix.words"] == {"depth": 2, "width_bits": 6}
    assert len(told["files"]) == 7 * len(images) + 1
    checked = json.loads(run(capsys, "memories", "--check", "out", "--json"))
    assert (checked["passed"], checked["memories"]) == (True, told["memories"])


def test_a_damaged_file_is_told_in_one_line(capsys):
    run(capsys, "memories", "new.tsn", "--folding", "folding.json", "-o", "out", "--formats", "dat")
    Path("out/mix.mask.dat").write_text("0\n1\n2\n")
    assert run(capsys, "memories", "--check", "out", code=2) == "mix.mask.dat: 6 bytes, must be 8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("new.tsn", "-o", "out"), "memories: takes a network, --folding and --out, or --check alone"),
        (("new.tsn", "--check", "out"), "memories: --check takes a folder alone"),
        (("--check", "out"), "cannot read out/memories.json: No such file or directory"),
        (
            ("new.tsn", "--folding", "folding.json", "-o", "out", "--formats", "mem,bin"),
            "format 'bin': must be one of mem, hex, coe, mif, dat, h, npy",
        ),
        (
            ("new.tsn", "--folding", "new.tsn", "-o", "out"),
            "new.tsn: not JSON (Expecting value: line 1 column 1 (char 0))",
        ),
    ],
)
def test_what_has_no_memories_is_refused_in_one_line(capsys, arguments, message):
    assert run(capsys, "memories", *arguments, code=2) == message
    assert not Path("out").exists()


def test_a_patch_is_written_told_and_applied(capsys):
    text = run(capsys, "hls", "new.tsn", "--patch", "old.tsn", "--folding", "folding.json", "-o", "patch")
    assert text.endswith("\n\nb added to 1 tasks: no bit that an earlier task reads is changed\npatch\n")
    assert {path.relative_to("patch").as_posix() for path in Path("patch").rglob("*") if path.is_file()} == {
        MANIFEST,
        *manifest_of(Path("patch"), PATCH_FOLDER),
    }
    memories = patched(Path("patch", PATCH).read_text(), accelerator(OLD, ROOM).images)
    for found, image in zip(memories, accelerator(NET, ROOM).images, strict=True):
        np.testing.assert_array_equal(found.limbs, image.limbs)


def test_json_tells_what_a_patch_changes(capsys):
    arguments = ("hls", "new.tsn", "--patch", "old.tsn", "--folding", "folding.json", "-o", "patch", "--json")
    told = json.loads(run(capsys, *arguments))
    assert (told["folder"], told["tasks"], told["new_tasks"]) == ("patch", 1, ["b"])
    assert told["memories"]["mix.mask"] == {"changed_words": 1, "changed_bits": 2, "read_bits": 4}
    assert told["memories"]["mix.scales"] == {"changed_words": 0, "changed_bits": 0, "read_bits": 34}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("new.tsn", "--patch", "old.tsn"), "--patch: needs the --folding that the accelerator was built with"),
        (
            ("old.tsn", "--patch", "new.tsn", "--folding", "folding.json"),
            "the new network has 1 tasks, the old one 2: there is nothing to add",
        ),
        (
            ("new.tsn", "--patch", "old.tsn", "--folding", "folding.json", "--masks", "deep"),
            "--masks: is for the search; the file of --folding says everything about the units",
        ),
    ],
)
def test_what_is_no_patch_is_refused_in_one_line(capsys, arguments, message):
    assert run(capsys, "hls", *arguments, "-o", "patch", code=2) == message
    assert not Path("patch").exists()


def test_a_patch_replaces_an_earlier_one_and_nothing_else(capsys):
    arguments = ("hls", "new.tsn", "--patch", "old.tsn", "--folding", "folding.json", "-o", "patch")
    run(capsys, *arguments)
    run(capsys, *arguments)
    Path("patch", MANIFEST).unlink()
    message = "patch: is not empty and no earlier export; choose another folder"
    assert run(capsys, *arguments, code=2) == message
