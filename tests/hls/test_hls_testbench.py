"""The test bench says no: to changed data, to cut files, to wrong tasks, and to every bit that flips in a memory."""

import random
import re
import shutil
import struct
import subprocess
from collections import Counter
from functools import cache

import pytest

from export import GoldenRun, write_hls
from export.hls.csim import CompiledAccelerator, compiled
from export.project.golden import bus_beats, golden_data
from tests.helpers.hls import ap_types, design, golden_runs, needs_compiler
from tests.helpers.networks import Recipe
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.loads import ALL_TASKS

pytestmark = needs_compiler

RECIPE = Recipe(kind="conv", tasks=2, banks=2, classes=3, seed=2, multipliers=True)
INPUTS = 6


@cache
def deep() -> CompiledAccelerator:
    """Everything constant."""
    return compiled(design(RECIPE))


@cache
def runtime() -> CompiledAccelerator:
    """Everything loaded over the bus."""
    return compiled(design(RECIPE, mask="runtime", ram_style="ultra"))


def golden(made: Accelerator, runs: list[GoldenRun] | None = None) -> bytes:
    return golden_data(made, golden_runs(made.net, INPUTS) if runs is None else runs)


def rejected(program: CompiledAccelerator, data: bytes, *options: str) -> list[str]:
    """What the test bench says when it fails."""
    done = program.check(data, *options)
    assert done.returncode == 1
    return done.stdout.splitlines()


@pytest.mark.parametrize("program", [deep, runtime])
def test_what_is_right_passes(program):
    done = program().check(golden(program().accelerator))
    assert re.match(r"PASS: \d+ integers, \d+ memories, \d+ probes, cycles of 5 units; 0 differ\n$", done.stdout)


@pytest.mark.parametrize("layer", ["conv0", "pool", "conv1", "fc", "head"])
def test_a_changed_integer_of_any_layer_is_found_in_both_calls_that_compute_it(layer):
    made = deep().accelerator
    task0, task1 = golden_runs(made.net, INPUTS)
    name = "head1" if layer == "head" else layer
    values = task1.layers[name].copy()
    values[4].flat[2] += 1
    lines = rejected(deep(), golden(made, [task0, GoldenRun(1, task1.inputs, task1.layers | {name: values})]))
    wrong = [
        re.match(rf"FAIL layer {layer}, task 1, inference 4, integer \d+: (-?\d+), expected (-?\d+)$", line)
        for line in lines[:2]
    ]
    assert [int(match[2]) - int(match[1]) for match in wrong] == [1, 1]
    assert re.match(r"FAIL: .* 2 differ$", lines[2])


def test_a_changed_input_is_found():
    made = deep().accelerator
    task0, task1 = golden_runs(made.net, INPUTS)
    inputs = task0.inputs.copy()
    inputs[5] = 255 - inputs[5]
    assert rejected(deep(), golden(made, [GoldenRun(0, inputs, task0.layers), task1]))[0].startswith(
        "FAIL layer conv0, task 0, inference 5, integer "
    )


def test_the_integers_of_another_task_are_found():
    made = deep().accelerator
    _, task1 = golden_runs(made.net, INPUTS)
    renamed = {name.replace("head1", "head0"): values for name, values in task1.layers.items()}
    assert rejected(deep(), golden(made, [GoldenRun(0, task1.inputs, renamed)]))[0].startswith("FAIL layer conv")


@pytest.mark.parametrize("program", [deep, runtime])
def test_a_task_that_is_not_there_is_found(program):
    made = program().accelerator
    run = golden_runs(made.net, INPUTS)[1]
    inputs = bus_beats(made, run.inputs).astype("<u8").tobytes()
    header = struct.pack("<II", 1, INPUTS)
    data = golden(made).replace(header + inputs, struct.pack("<II", 2, INPUTS) + inputs)
    assert rejected(program(), data)[0] == "FAIL task 2: status 1"


@pytest.mark.parametrize("kept", [0, 7, 8, 100, 5000, -1])
def test_a_cut_file_is_told(kept):
    lines = rejected(deep(), golden(deep().accelerator)[:kept])
    assert len(lines) == 1
    assert re.match(r"FAIL .*golden\.dat: ends too early$", lines[0])


def test_a_longer_file_and_another_file_are_told():
    data = golden(deep().accelerator)
    assert rejected(deep(), data + b"\0")[0].endswith("golden.dat: goes on behind its end")
    assert rejected(deep(), b"something" + data)[0].endswith("golden.dat: is no golden data")


def test_a_missing_file_and_unknown_options_are_told(tmp_path):
    def said(*arguments: str) -> str:
        done = subprocess.run([deep().test_bench, *arguments], capture_output=True, text=True)
        assert done.returncode == 1
        return done.stdout

    assert said(str(tmp_path / "nothing.dat")) == f"FAIL {tmp_path}/nothing.dat: cannot be opened\n"
    assert said().startswith("FAIL no data; ")
    assert said("a.dat", "--quick").startswith("FAIL --quick: unknown; ")
    assert said("a.dat", "--flip").startswith("FAIL --flip: unknown; ")


def test_faults_that_cannot_be_planted_are_told():
    data = golden(deep().accelerator)
    assert rejected(deep(), data, "--flip", "fc") == ["FAIL --flip fc: no fault"]
    for fault in ("fc.words:100000:0", "fc.words:0:100000", "nobody.words:0:0"):
        memory = fault.partition(":")[0]
        assert rejected(deep(), data, "--flip", fault) == [f"FAIL --flip {memory}: no such memory, line or bit"]


def test_other_cycles_are_found():
    made = deep().accelerator
    cycles = made.units[0].steps
    tasks = len(made.net.tasks)
    data = golden(made).replace(
        struct.pack(f"<{tasks}Q", *[cycles] * tasks), struct.pack(f"<{tasks}Q", *[cycles + 1] * tasks), 1
    )
    calls = 2 * INPUTS * 2
    window = calls * made.units[0].window.cycles
    assert rejected(deep(), data)[0] == (
        f"FAIL layer conv0: {window} and {calls * cycles} cycles, expected {window} and {calls * (cycles + 1)}"
    )


@pytest.mark.parametrize("program", [deep, runtime])
def test_every_bit_that_flips_in_a_memory_is_caught(program, tmp_path):
    made, rng = program().accelerator, random.Random(0)
    path = tmp_path / "golden.dat"
    path.write_bytes(golden(made))
    images, caught = made.images, Counter()
    for i in range(200):
        image = images[i % len(images)]
        fault = f"{image.name}:{rng.randrange(image.depth)}:{rng.randrange(image.width_bits)}"
        done = subprocess.run([program().test_bench, path, "--flip", fault], capture_output=True, text=True)
        assert done.returncode == 1, f"{fault} was not caught: {done.stdout}"
        assert f"FAIL memory {image.name}: another checksum" in done.stdout
        caught["integers"] += "FAIL layer " in done.stdout
        caught["probes"] += "FAIL probe " in done.stdout
    assert min(caught["integers"], caught["probes"]) > 50  # the others are bits that no task reads, or rounding hides


def test_a_load_packet_says_where_a_line_goes():
    made = runtime().accelerator
    images = made.load(1).images
    assert [image.name for image in images[:5]] == [
        "conv0.codebook", "conv0.mask", "conv0.scales", "conv0.task", "conv1.codebook",
    ]  # fmt: skip
    beats = made.load(1).beats
    mask = images[1]
    first = 1 + 2 * images[0].depth  # behind the head and the codebook's packets, a header and a limb each
    assert [hex(beat) for beat in beats[first : first + 4]] == [
        "0x1020000",  # unit 0, kind 2 (mask), 1 limb, address 0
        hex(mask.limbs[0, 0]),
        "0x101020000",  # address 1
        hex(mask.limbs[1, 0]),
    ]
    assert made.loads == (ALL_TASKS, 0, 1)
    assert deep().accelerator.loads == ()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_an_exported_project_compiles_with_the_vendors_types(tmp_path):
    made = design(Recipe(kind="mlp", tasks=2, seed=3), mask="runtime")
    write_hls(made, tmp_path / "hls", golden=golden_runs(made.net, 4))
    command = ["make", "-s", "csim", "CXXFLAGS=-O0", f"AP_TYPES={ap_types()}"]
    done = subprocess.run(command, cwd=tmp_path / "hls", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASS: ")
