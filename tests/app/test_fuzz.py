"""Every kind of file that we read, changed in thousands of ways: a right answer, or one line of ours. Never a crash."""

import json
import random
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from export.memories.files import INDEX, memory_files, read_memories
from export.project.folder import MANIFEST, manifest_of
from export.project.folding_json import folding_json, read_folding
from sim.area import OWN_FILE as OWN_COEFFICIENTS
from sim.area import read_coefficients
from sim.devices import device, devices
from sim.resources import estimate_resources
from tests.helpers.handmade import U8, linear, requantization
from tests.helpers.mutations import as_bytes, changed_text, damaged, judge, mutated
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET
from tests.helpers.tiny_run import TINY_TOML
from tests.helpers.tsn_files import header_of, parts_of
from tsn_hw.app.check.draft import draft
from tsn_hw.app.deploy.verification import read_verification
from tsn_hw.app.deploy.verify import verify
from tsn_hw.app.hardware.calibrate import fitted, read_runs
from tsn_hw.app.hardware.trials import trial_of
from tsn_hw.app.report import costs, sections
from tsn_hw.app.report.run import gather
from tsn_hw.app.sweep.plots import pictures, points_table
from tsn_hw.app.sweep.results import check_row, identity, line_of, read_sweep_summary, rows_of
from tsn_hw.core import artifact
from tsn_hw.core.container import pack
from tsn_hw.hardware.pipeline import accelerator, least_accelerator
from tsn_hw.learn.config import read_settings
from tsn_hw.learn.ready import architecture_of
from tsn_hw.learn.settings import Settings

SMALL = random_network(Recipe(tasks=2, kind="conv", seed=3))
DESIGN = least_accelerator(SMALL)


def test_a_network_that_is_read_is_the_one_that_would_be_written() -> None:
    """Digest and container are right again, so that what the header and the sections say is looked at."""
    data = artifact.to_bytes(NET)
    header, parts = header_of(data), parts_of(data)

    def make(rng: random.Random) -> bytes:
        if rng.randrange(4) == 0:
            return damaged(data, rng)
        if rng.randrange(3):
            return pack(dict(mutated(header, rng)), list(parts.values()))
        name = rng.choice(sorted(name for name, part in parts.items() if part))
        return pack(header, list((parts | {name: damaged(parts[name], rng)}).values()))

    def read(changed: bytes) -> None:
        net = artifact.from_bytes(changed)
        ours, theirs = artifact.to_bytes(net), changed
        assert header_of(ours) == header_of(theirs)
        told = artifact.sections(theirs)
        for name, part in artifact.sections(ours).items():
            assert part == told[name] or name.endswith("/masks"), name  # whose encoder may choose

    judge(make, read)


def test_foldings() -> None:
    given = json.loads(folding_json(DESIGN.settings, SMALL)) | {"Defaults": {"PE": 1, "SIMD": 1, "mask_mode": "deep"}}

    part = device("xc7z020")

    def read(changed: bytes) -> None:
        made = accelerator(SMALL, read_folding(changed.decode(errors="replace"), "f.json", SMALL))
        estimate_resources(made, part)

    def make(rng: random.Random) -> bytes:
        return damaged(as_bytes(given), rng) if rng.randrange(3) == 0 else as_bytes(mutated(given, rng))

    assert judge(make, read) > 50


def test_memories(tmp_path: Path) -> None:
    net = linear([[1, 2], [3, 0]], requantization(None, channels=2), U8, head=False)
    files = memory_files(least_accelerator(net), ["mem", "npy"])
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    rest = [name for name in files if name != INDEX]

    def make(rng: random.Random) -> bytes:
        text = files[INDEX]
        changed = rng.choice([damaged(text, rng), changed_text(text.decode(), rng)])
        return INDEX.encode() + b"\n" + changed if rng.randrange(3) else _of_file(rng)

    def _of_file(rng: random.Random) -> bytes:
        name = rng.choice(rest)
        return name.encode() + b"\n" + damaged(files[name], rng)

    def read(both: bytes) -> None:
        name, _, changed = both.partition(b"\n")
        path = tmp_path / name.decode()
        path.write_bytes(changed)
        try:
            read_memories(tmp_path)
            if changed != files[name.decode()]:
                pytest.fail(f"believed: {both[:300]!r}")
        finally:
            path.write_bytes(files[name.decode()])

    judge(make, read, tmp_path)


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"

    def read(changed: bytes) -> None:
        path.write_bytes(changed)
        settings: Settings = read_settings(path)
        draft(architecture_of(settings, (1, 8, 8)), settings, [("a", "b")] * 2)

    def make(rng: random.Random) -> bytes:
        return damaged(TINY_TOML.encode(), rng) if rng.randrange(3) == 0 else changed_text(TINY_TOML, rng)

    assert judge(make, read, path) > 50


ROW: dict[str, Any] = {
    "accuracy_percent": 50.0,
    "total_percent": 5.0,
    "bops": 1e6,
    "used_weights": 1,
    "sha256": "0" * 64,
}


def test_results_of_a_sweep(tmp_path: Path) -> None:
    lines = line_of('{"a": 1}', ROW) + line_of('{"a": 2}', ROW)

    def make(rng: random.Random) -> bytes:
        if rng.randrange(2):
            return damaged(lines, rng)
        return line_of(identity({"a": 1}), mutated(ROW, rng))

    def read(changed: bytes) -> None:
        for row in rows_of(Path("results.jsonl"), changed).values():
            check_row(row, "results.jsonl")
        if not set(changed.splitlines(keepends=True)) <= set(lines.splitlines(keepends=True)):
            assert changed.startswith(b'{"point": {"a": 1}, '), changed  # the digest was made anew

    judge(make, read)


def test_the_summary_of_a_sweep(tmp_path: Path) -> None:
    row = {
        "point": 0,
        "keep_ratio": 0.5,
        "bits.fc1": 2,
        "bits.head": 3,
        "activation_bits": 8,
        "device_percent": 3.0,
    } | ROW
    found = {
        "rows": [row, row | {"point": 1, "accuracy_percent": 60.0, "device_percent": None}],
        "runs": ["x"], "float_percent": 51.0, "front": [0, 1], "chosen": 1,
        "budget": {"accuracy_drop": 1.0, "total_percent": None, "part": {"device": "xc7z020", "target_fps": 1.0}},
    }  # fmt: skip
    path = tmp_path / "sweep.json"

    def read(changed: bytes) -> None:
        path.write_bytes(changed)
        swept = read_sweep_summary(tmp_path)
        _ = points_table(swept, range(len(swept.rows))).cells
        if random.Random(changed).randrange(200) == 0:  # a picture takes a tenth of a second
            costs.sweep(swept)
            pictures(swept)

    assert judge(lambda rng: as_bytes(mutated(found, rng)), read, path) > 50


def test_verifications(tmp_path: Path) -> None:
    net = linear([[1, 2], [3, 0]], requantization(None, channels=2), U8, head=False)
    artifact.save(net, tmp_path / "net.tsn")
    data, path, names = (tmp_path / "net.tsn").read_bytes(), tmp_path / "verify.json", [task.name for task in net.tasks]
    found = json.loads(json.dumps(verify(net, samples=2).to_json()))
    assert found["network"] == sha256(data).hexdigest()
    subject = gather(tmp_path / "net.tsn", None, None)

    def read(changed: bytes) -> None:
        path.write_bytes(changed)
        told = replace(subject, verification=read_verification(path, data, names))
        for section in (sections.summary(told), sections.verification(told)):
            for block in section.blocks:
                _ = getattr(block, "cells", None)

    assert judge(lambda rng: as_bytes(mutated(found, rng)), read, path) > 50


def test_runs_of_a_calibration(tmp_path: Path) -> None:
    point = {"target": "xc7", "trial": asdict(trial_of(0))}
    row = {"tool": "yosys", "resources": {"lut": 900, "ff": 800, "bram": 1, "dsp": 1}}
    others = b"".join(
        line_of(identity({"target": "xc7", "trial": asdict(trial_of(seed))}), row | {"tool": f"yosys {seed}"})
        for seed in range(1, 12)
    )
    path = tmp_path / "runs.jsonl"

    def make(rng: random.Random) -> bytes:
        entry = mutated({"point": point, "result": row}, rng)
        try:
            return line_of(identity(entry["point"]), entry["result"]) + others
        except (KeyError, TypeError, AttributeError):
            return as_bytes(entry)

    def read(changed: bytes) -> None:
        path.write_bytes(changed)
        runs = read_runs(path)
        if random.Random(changed).randrange(50) == 0:  # a fit takes a tenth of a second
            fitted(runs)

    judge(make, read, path)


OWN_PART = """\
[family.mine]
source = "mine"
lut_inputs = 4
block_shapes = [[512, 36], [1024, 18, 2]]
block_byte_bits = 9
muxed_luts = 2
ram_shapes = [[32, 2, 4]]
ultra_shapes = [[4096, 72]]
dsp_bits = [18, 25]
dsp_part_bits = 17
dsp_product_bits = 40
[device.mine]
family = "mine"
source = "me"
lut = 1000
ff = 2000
bram = 10
clock_mhz = 100.0
lut_ram = 100
uram = 3
dsp = 5
part = "x"
"""


def test_devices(tmp_path: Path) -> None:
    path, coefficients = tmp_path / "mine.toml", read_coefficients()
    coefficients = replace(coefficients, families=coefficients.families | {"mine": coefficients.families["xc7"]})

    def read(changed: bytes) -> None:
        path.write_bytes(changed)
        known = devices(path)
        if "mine" in known:
            estimate = estimate_resources(DESIGN, known["mine"], coefficients=coefficients)
            _ = estimate.fits, estimate.binding, estimate.utilization_percent, estimate.inferences_per_second

    def make(rng: random.Random) -> bytes:
        return damaged(OWN_PART.encode(), rng) if rng.randrange(3) == 0 else changed_text(OWN_PART, rng)

    assert judge(make, read, path) > 50


def test_coefficients(tmp_path: Path) -> None:
    path, given = tmp_path / "mine.json", json.loads(OWN_COEFFICIENTS.read_text())
    given["families"] = {"xc7": given["families"]["xc7"]}
    design = least_accelerator(linear([[1, 2], [3, 0]], requantization(None, channels=2), U8, head=False))

    part = device("xc7z020")

    def read(changed: bytes) -> None:
        path.write_bytes(changed)
        found = read_coefficients(path)
        if "xc7" in found.families:
            estimate = estimate_resources(design, part, coefficients=found)
            _ = estimate.fits, estimate.binding, estimate.utilization_percent

    assert judge(lambda rng: as_bytes(mutated(given, rng)), read, path) > 50


def test_manifests(tmp_path: Path) -> None:
    given = {"format": "tsn-hw hls project 1", "files": {"hls/top.cpp": "0" * 64, "README.md": "1" * 64}}

    def read(changed: bytes) -> None:
        (tmp_path / MANIFEST).write_bytes(changed)
        for name in manifest_of(tmp_path):
            assert (tmp_path / name).resolve().is_relative_to(tmp_path.resolve())

    def make(rng: random.Random) -> bytes:
        return damaged(as_bytes(given), rng) if rng.randrange(3) == 0 else as_bytes(mutated(given, rng))

    judge(make, read, tmp_path)
