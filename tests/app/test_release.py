"""What goes out with a network: digests hold, the bill is of its schema, and the same input gives the same bytes."""

import hashlib
import json
import shutil

import pytest

from tests.helpers.networks import Recipe, random_network
from tests.helpers.tiny_run import copied_run
from tsn_hw.core import artifact


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "net.tsn"
    artifact.save(random_network(Recipe(tasks=2, seed=3)), path)
    return path


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_release_holds_network_exports_and_the_digest_of_each_and_is_the_same_again(tmp_path, stored, say):
    assert say("c", stored, "-o", tmp_path / "c", "--samples", 1)[0] == 0
    assert say("release", stored, tmp_path / "c", "-o", tmp_path / "out", "--license", "CC-BY-4.0")[0] == 0
    out = content(tmp_path / "out")
    assert out["net.tsn"] == stored.read_bytes()
    assert {f"c/{name}": data for name, data in content(tmp_path / "c").items()}.items() <= out.items()
    told = dict(reversed(line.split("  ")) for line in out["SHA256SUMS"].decode().splitlines())
    others = out.keys() - {"SHA256SUMS", "manifest.json"}
    assert told == {name: hashlib.sha256(out[name]).hexdigest() for name in others}
    bill = json.loads(out["sbom.cdx.json"])
    assert bill["metadata"]["component"]["hashes"][0]["content"] == told["net.tsn"]
    files = {part["name"]: part["hashes"][0]["content"] for part in bill["components"] if part["type"] == "file"}
    assert files.items() == told.items() - {("sbom.cdx.json", told["sbom.cdx.json"])}
    assert b"licence of the network: CC-BY-4.0" in out["MODEL_CARD.md"]
    assert b"Apache License" in out["LICENSE.tsn-hw"]
    assert say("release", stored, tmp_path / "c", "-o", tmp_path / "again", "--license", "CC-BY-4.0")[0] == 0
    assert content(tmp_path / "again") == out


def test_the_bill_of_materials_is_of_its_schema(tmp_path, stored, say):
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    schema = pytest.importorskip("cyclonedx.schema")
    assert say("release", stored, "-o", tmp_path / "out")[0] == 0
    text = (tmp_path / "out" / "sbom.cdx.json").read_text()
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"SHA-256"', '"SHA-257"', 1)) is not None


def test_the_card_of_a_run_tells_its_accuracies(tmp_path, say):
    run = copied_run(tmp_path / "my run")
    assert say("release", run, "-o", tmp_path / "out")[0] == 0
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text("utf-8")
    assert card.startswith("# my run\n")
    assert "- Mean test accuracy: **" in card
    assert "- Backward transfer: **0.00 points**, nothing is forgotten" in card


def test_exports_that_are_not_as_they_were_written_do_not_go_out(tmp_path, stored, say, refused):
    folder, out = tmp_path / "c", tmp_path / "out"
    assert say("c", stored, "-o", folder, "--samples", 1)[0] == 0
    shutil.copytree(folder, tmp_path / "other" / "c")
    assert refused("release", stored, folder, tmp_path / "other" / "c", "-o", out).endswith(
        "another part of the release has the name 'c'; rename the folder"
    )
    (folder / "tsn.c").write_text("// mine\n")
    assert (
        refused("release", stored, folder, "-o", out) == f"{folder}: 'tsn.c' is not as it was exported; export it anew"
    )
    (tmp_path / "empty").mkdir()
    assert refused("release", stored, tmp_path / "empty", "-o", out) == f"{tmp_path / 'empty'}: holds no file"
    assert "is no folder" in refused("release", stored, tmp_path / "absent", "-o", out)
    assert not out.exists()
