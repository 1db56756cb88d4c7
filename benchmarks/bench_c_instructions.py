"""Instructions of C for microcontrollers: counts of networks in qemu, and the model of ``tsn-hw cost --target c``.

    python benchmarks/bench_c_instructions.py [--write]

Fits what each kind of work takes on each core to counts of random networks, in all layouts, and tells how far the
estimate of a network is off that was left out of the fit. ``--write`` keeps the result in
export/c_code/instructions.json. On Cortex-M qemu's clock counts instructions (``-icount shift=0``), on RV32IMC its
trace; code is compiled with -O2.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.nets import Numbers, random_alexnet, random_cnn, random_ds_cnn, random_mlp, random_resnet18  # noqa: E402
from benchmarks.streams import stream_of  # noqa: E402
from export import GoldenRun, write_c  # noqa: E402
from export.c_code.estimate import MODEL, WORK, Core, model_text, work  # noqa: E402
from export.c_code.host import build  # noqa: E402
from export.c_code.machines import Machine, cortex_m, riscv32  # noqa: E402
from export.c_code.project import RUNTIME_SOURCES  # noqa: E402
from export.c_code.sections import sections  # noqa: E402
from export.c_code.weights import Optimize  # noqa: E402
from tests.helpers.networks import Recipe, random_network  # noqa: E402
from tsn_hw.core import reference  # noqa: E402
from tsn_hw.core.network import PackedNetwork  # noqa: E402

Floats = NDArray[np.float64]

CORTEX_MAIN = """
#include <stdio.h>
#include "golden.h"
#define SYSTICK ((volatile uint32_t *)0xE000E010)
static uint32_t scratch[TSN_SCRATCH_WORDS];
static int32_t logits[TSN_MOST_LOGITS];
int main(void) {
    tsn_net net;
    int status = tsn_init(&net, &tsn_constants, scratch, sizeof scratch);
    SYSTICK[1] = 0xFFFFFF, SYSTICK[2] = 0, SYSTICK[0] = 5;
    uint32_t before = SYSTICK[2];
    status |= tsn_run(&net, 0, golden_input_0, logits);
    printf("%d %lu\\n", status, (unsigned long)((before - SYSTICK[2]) & 0xFFFFFF));
    return status;
}
"""
RISCV_MAIN = """
#include "golden.h"
static uint32_t scratch[TSN_SCRATCH_WORDS];
static int32_t logits[TSN_MOST_LOGITS];
int main(void) {
    tsn_net net;
    int status = tsn_init(&net, &tsn_constants, scratch, sizeof scratch);
    for (int i = 0; i < TIMES; i++) {
        status |= tsn_run(&net, 0, golden_input_0, logits);
    }
    return status;
}
"""


@dataclass(frozen=True)
class Counted:
    """A core: where its code runs, instructions a tick of the board's clock, size of objects, and assumed cycles."""

    machine: Machine
    tick: int
    size: str
    flags: tuple[str, ...]
    cycles_per_instruction: float


SWEEPS = 3000
TRACE = ("qemu-riscv32", "-singlestep", "-d", "exec,nochain")
CORES = {
    "Cortex-M0+": Counted(
        cortex_m("mps2-an385", "cortex-m0plus", icount=True),
        40,
        "arm-none-eabi",
        ("-mcpu=cortex-m0plus", "-mthumb"),
        1.5,
    ),
    "Cortex-M4": Counted(cortex_m("mps2-an386", icount=True), 40, "arm-none-eabi", ("-mcpu=cortex-m4", "-mthumb"), 1.4),
    "Cortex-M33": Counted(
        cortex_m("mps2-an505", icount=True), 50, "arm-none-eabi", ("-mcpu=cortex-m33", "-mthumb"), 1.3
    ),
    "RV32IMC": Counted(
        riscv32(run=TRACE),
        0,
        "riscv64-unknown-elf",
        ("-march=rv32imc", "-mabi=ilp32", "-ffreestanding", "-Iriscv"),
        1.4,
    ),
}


def networks() -> Iterator[tuple[str, PackedNetwork]]:
    """Networks of one to three tasks, of which the first is counted."""
    for width, density in ((40, 0.05), (80, 0.2), (30, 0.6)):
        yield f"MLP {width} {density}", stream_of(random_mlp((200, width, width, 10)), 3, density=density)
    for channels, density in ((2, 0.1), (4, 0.5)):
        numbers = Numbers(multiplier_bits=8, density=density)
        alexnet = random_alexnet(numbers, side=20, channels=(channels, 2 * channels, 2 * channels), hidden=(40, 30))
        yield f"convolutions {channels} {density}", stream_of(alexnet, 2, density=density)
    for widths, density in (((60, 120, 5), 0.1), ((30, 10, 10, 10, 3), 0.4), ((100, 40, 8), 0.8), ((20, 150, 2), 0.5)):
        yield f"MLP {widths} {density}", stream_of(random_mlp(widths), 2, density=density)
    for seed in (1, 2, 3):
        yield f"random residual {seed}", random_network(Recipe("residual", multipliers=True, seed=seed))
        yield f"random conv {seed}", random_network(Recipe("conv", act_bits=(8, 16, 4)[seed - 1], seed=seed))
        yield f"random mlp {seed}", random_network(Recipe("mlp", act_bits=16, signed_input=seed == 1, seed=seed))
    yield "residual", stream_of(random_resnet18(2, 8, numbers=Numbers(multiplier_bits=8)), 2, density=0.3)
    yield "depthwise", random_ds_cnn(3)
    yield "all kinds", random_cnn(side=16, channels=4)
    for kind, bits in (("mlp", 16), ("conv", 16), ("resnet", 8), ("residual", 8)):
        recipe = Recipe(kind, act_bits=bits, signed_input=bits == 16, multipliers=True, seed=5)
        yield f"random {kind} of {bits} bits", random_network(recipe)


def count(counted: Counted, folder: Path) -> int:
    """Instructions of the first golden input."""
    if counted.tick:
        (folder / "count.c").write_text(CORTEX_MAIN)
        build(counted.machine, folder, ["count.c"])
        command = [*counted.machine.run, str(folder / "count")]
        status, ticks = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split()
        assert status == "0", folder
        return counted.tick * int(ticks)
    lines = []
    for times in (0, 1):
        (folder / "count.c").write_text(f"#define TIMES {times}\n{RISCV_MAIN}")
        build(counted.machine, folder, ["count.c"])
        command = [*counted.machine.run, "-D", "trace", "./count"]
        subprocess.run(command, cwd=folder, check=True, timeout=300)
        lines.append((folder / "trace").read_bytes().count(b"Trace "))
    return lines[1] - lines[0]


def code_bytes(counted: Counted, folder: Path) -> int:
    """Bytes of the runtime with -Os."""
    command = [f"{counted.size}-gcc", "-std=c99", "-Os", *counted.flags, "-c", *RUNTIME_SOURCES]
    subprocess.run(command, cwd=folder, check=True)
    objects = [source.removesuffix(".c") + ".o" for source in RUNTIME_SOURCES]
    told = subprocess.run([f"{counted.size}-size", *objects], cwd=folder, capture_output=True, text=True, check=True)
    return sum(int(line.split()[0]) for line in told.stdout.splitlines()[1:])


def fitted(features: Floats, counts: Floats) -> Floats:
    """Coefficients (kinds,) of at least 0 with the least squares of relative errors of (samples, kinds), (samples,)."""
    relative = features / counts[:, None]
    scales = np.maximum(np.linalg.norm(relative, axis=0), 1e-12)
    gram = (relative / scales).T @ (relative / scales)
    target, solution = (relative / scales).sum(axis=0), np.zeros(features.shape[1])
    for _ in range(SWEEPS):
        for kind in range(len(solution)):
            rest = target[kind] - gram[kind] @ solution
            solution[kind] = max(0.0, solution[kind] + rest / max(gram[kind, kind], 1e-12))
    return solution / scales


def core_of(counted: Counted, samples: list[tuple[str, dict[str, int], int]], code: int) -> Core:
    """The model of a core, and its errors: each network, in both layouts, estimated from all others."""
    names = np.array([name for name, _, _ in samples])
    features = np.array([[work[kind] for kind in WORK] for _, work, _ in samples], float)
    counts = np.array([count for _, _, count in samples], float)
    errors = []
    for name in dict.fromkeys(names):
        out = names == name
        errors += (100 * abs(features[out] @ fitted(features[~out], counts[~out]) / counts[out] - 1)).tolist()
    instructions = dict(zip(WORK, fitted(features, counts).round(2).tolist(), strict=True))
    median, worst = round(float(np.median(errors)), 1), round(max(errors), 1)
    return Core(instructions, code, counted.cycles_per_instruction, median, worst, len(dict.fromkeys(names)))


def measure() -> dict[str, Core]:
    """Count all networks on all cores, and fit."""
    samples: dict[str, list[tuple[str, dict[str, int], int]]] = {name: [] for name in CORES}
    code: dict[str, int] = {}
    layouts: tuple[Optimize, ...] = ("size", "balanced", "speed")
    for name, net in networks():
        x = np.random.default_rng(0).integers(net.input.range[0], net.input.range[1] + 1, (1, *net.input_shape))
        golden = [GoldenRun(0, x, reference.run(net, 0, x))]
        for optimize in layouts:
            done = work(net, 0, sections(net, optimize))
            for core, counted in CORES.items():
                with tempfile.TemporaryDirectory() as folder:
                    write_c(net, Path(folder) / "c", golden=golden, optimize=optimize)
                    samples[core].append((name, done, count(counted, Path(folder) / "c")))
                    if core not in code:
                        code[core] = code_bytes(counted, Path(folder) / "c")
            print(f"{name}, {optimize}:", *(f"{core} {rows[-1][2]:,}" for core, rows in samples.items()), flush=True)
    return {name: core_of(counted, samples[name], code[name]) for name, counted in CORES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the model")
    found = measure()
    for name, core in found.items():
        print(f"{name}: left-out networks are off by {core.median_percent} % (median), {core.worst_percent} % at most")
    if parser.parse_args().write:
        MODEL.write_text(model_text("gcc 12.2 -O2, qemu 7.2", found))


if __name__ == "__main__":
    main()
