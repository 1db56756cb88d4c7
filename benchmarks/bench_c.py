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

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.nets import random_cnn

MAIN = """
#include <stdio.h>
#include "golden.h"
#define SYSTICK ((volatile uint32_t *)0xE000E010)
static uint32_t scratch[TSN_SCRATCH_WORDS];
static int32_t logits[TSN_MOST_LOGITS];
int main(void) {
    tsn_net net;
    uint64_t ticks = 0;
    int status = tsn_init(&net, &tsn_constants, scratch, sizeof scratch);
    SYSTICK[1] = 0xFFFFFF, SYSTICK[2] = 0, SYSTICK[0] = 5;
    for (uint32_t i = 0; i < TSN_GOLDENS; i++) {
        uint32_t before = SYSTICK[2];
        status |= tsn_run(&net, tsn_goldens[i].task, tsn_goldens[i].input, logits);
        ticks += (before - SYSTICK[2]) & 0xFFFFFF;
    }
    status |= tsn_self_test(&net, tsn_goldens, TSN_GOLDENS);
    printf("%d %lu\\n", status, (unsigned long)(40u * ticks / TSN_GOLDENS));
    return status;
}
"""
"""40 instructions are a tick: of 25 MHz, where an instruction takes 1 ns."""


def golden(net):
    for task in range(len(net.tasks)):
        x = np.random.default_rng(task).integers(net.input.range[0], net.input.range[1] + 1, (2, *net.input_shape))
        yield GoldenRun(task, x, reference.run(net, task, x))


def cortex_m4(folder):
    """Instructions of an inference."""
    (folder / "bench.c").write_text(MAIN)
    machine = cortex_m("mps2-an386", icount=True)
    build(machine, folder, ["bench.c"])
    command = [*machine.run, "bench"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=300)
    return int(done.stdout.split()[-1])


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
    nets = [(path, artifact.load(path)) for path in sys.argv[1:]] or [("random_cnn", random_cnn())]
    for path, net in nets:
        dense = sum(layer.weight_count for t in range(len(net.tasks)) for _, layer, _ in net.run_order(t))
        for optimize in ("size", "speed"):
            with tempfile.TemporaryDirectory() as name:
                made = write_c(net, Path(name) / "c", golden=list(golden(net)), optimize=optimize)
                folder = Path(name) / "c"
                print(
                    f"{path}, {optimize}: constants {made.flash_bytes:,} bytes "
                    f"({made.flash_bytes / dense:.1%} of int8 weights), scratch buffer "
                    f"{made.scratch_bytes:,}, code {code_bytes(folder):,}, instructions {cortex_m4(folder):,}"
                )


if __name__ == "__main__":
    main()
