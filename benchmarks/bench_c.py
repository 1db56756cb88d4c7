"""C for microcontrollers: bytes of constants and code, and instructions of an inference on a Cortex-M4 in qemu.

Usage: bench_c.py [net.tsn ...]; without one a random network is measured.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from export import GoldenRun, write_c
from export.c_code.host import build
from export.c_code.machines import cortex_m
from export.c_code.project import RUNTIME_SOURCES
from tsn_hw.core import artifact, reference
from tsn_hw.core.layers import Weighted

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.dense_c import dense_c
from benchmarks.nets import Numbers, random_alexnet, random_cnn, random_ds_cnn

MAIN = """
#include <stdio.h>
#include "dense.c"
#define SYSTICK ((volatile uint32_t *)0xE000E010)
static uint32_t scratch[TSN_SCRATCH_WORDS];
static int32_t logits[TSN_MOST_LOGITS];
int main(void) {
    tsn_net net;
    uint64_t ticks = 0, dense_ticks = 0;
    uint32_t dense_runs = 0;
    int status = tsn_init(&net, &tsn_constants, scratch, sizeof scratch);
    SYSTICK[1] = 0xFFFFFF, SYSTICK[2] = 0, SYSTICK[0] = 5;
    for (uint32_t i = 0; i < TSN_GOLDENS; i++) {
        uint32_t before = SYSTICK[2];
        status |= tsn_run(&net, tsn_goldens[i].task, tsn_goldens[i].input, logits);
        ticks += (before - SYSTICK[2]) & 0xFFFFFF;
        if (tsn_goldens[i].task == 0) { /* all take as long */
            before = SYSTICK[2];
            dense((const tsn_input *)tsn_goldens[i].input, logits);
            dense_ticks += (before - SYSTICK[2]) & 0xFFFFFF;
            dense_runs++;
            for (uint32_t o = 0; o < tsn_goldens[i].outputs; o++) {
                status |= logits[o] != tsn_goldens[i].logits[o];
            }
        }
    }
    status |= tsn_self_test(&net, tsn_goldens, TSN_GOLDENS);
    printf("%d %lu %lu\\n", status, (unsigned long)(40u * ticks / TSN_GOLDENS),
           (unsigned long)(40u * dense_ticks / dense_runs));
    return status;
}
"""
"""40 instructions are a tick: of 25 MHz, where an instruction takes 1 ns."""


def golden(net):
    for task in range(len(net.tasks)):
        x = np.random.default_rng(task).integers(net.input.range[0], net.input.range[1] + 1, (2, *net.input_shape))
        yield GoldenRun(task, x, reference.run(net, task, x))


def cortex_m4(folder, net):
    """Instructions of an inference: of tasks on average, and of the dense loop."""
    (folder / "bench.c").write_text(MAIN)
    (folder / "dense.c").write_text(dense_c(net, 0))
    machine = cortex_m("mps2-an386", icount=True)
    build(machine, folder, ["bench.c"])
    command = [*machine.run, "bench"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=300)
    return [int(word) for word in done.stdout.split()[1:]]


def code_bytes(folder):
    """Bytes of the runtime with -Os."""
    compile_it = ["arm-none-eabi-gcc", "-std=c99", "-Os", "-mcpu=cortex-m4", "-mthumb", "-c", *RUNTIME_SOURCES]
    subprocess.run(compile_it, cwd=folder, check=True)
    objects = [Path(name).with_suffix(".o").name for name in RUNTIME_SOURCES]
    tell = ["arm-none-eabi-size", "-t", *objects]
    told = subprocess.run(tell, cwd=folder, capture_output=True, text=True, check=True)
    return int(told.stdout.splitlines()[-1].split()[0])


def main():
    if not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")):
        print("arm-none-eabi-gcc or qemu-system-arm is not installed: nothing is measured")
        return
    nets = [(path, artifact.load(path)) for path in sys.argv[1:]]
    nets += [
        ("small network of all kinds of layers", random_cnn()),
        ("AlexNet, reduced, 1 in 2 weights", small_alexnet(0.5)),
    ]
    nets += [("AlexNet, reduced, 1 in 10 weights", small_alexnet(0.1)), ("DS-CNN of 16 channels", random_ds_cnn(16))]
    for path, net in nets:
        dense = sum(
            layer.weight_count
            for t in range(len(net.tasks))
            for _, layer, _ in net.run_order(t)
            if isinstance(layer, Weighted)
        )
        for optimize in ("size", "balanced", "speed"):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) / "c"
                made = write_c(net, folder, golden=list(golden(net)), optimize=optimize)
                own, loop = cortex_m4(folder, net)
                print(
                    f"{path}, {optimize}: constants {made.flash_bytes:,} bytes "
                    f"({made.flash_bytes / dense:.1%} of int8 weights), scratch buffer "
                    f"{made.scratch_bytes:,}, code {code_bytes(folder):,}, instructions {own:,}, "
                    f"{own / loop:.3f} of the {loop:,} of a dense loop",
                    flush=True,
                )


def small_alexnet(density):
    numbers = Numbers(multiplier_bits=8, density=density)
    return random_alexnet(numbers, side=20, channels=(8, 16, 16), hidden=(40, 30))


if __name__ == "__main__":
    main()
