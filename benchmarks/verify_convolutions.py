"""Convolutions and linear layers of every shape on the simulator's kernels, against int64: that no integer differs.

    python benchmarks/verify_convolutions.py [--cases N] [--network FILE.tsn]

The cases are those of tests/helpers/convolutions.py: one channel, outputs one pixel wide, strides above kernels,
groups, odd strides of memory, freed memory full of NaN. They run once for every instruction set that oneDNN can be
kept to and this processor has (``ONEDNN_MAX_CPU_ISA``), with one thread and with two, each in a process of its own. A
line tells what was compared and, by carrier, what was refused: kernels that this processor computes wrong. A network
that is named is simulated as well, all its layers in batches of several sizes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

INSTRUCTION_SETS = {  # name for oneDNN: a flag of /proc/cpuinfo that it needs
    "SSE41": "sse4_1",
    "AVX": "avx",
    "AVX2": "avx2",
    "AVX2_VNNI": "avx_vnni",
    "AVX512_CORE": "avx512bw",
    "AVX512_CORE_VNNI": "avx512_vnni",
    "AVX512_CORE_BF16": "avx512_bf16",
    "AVX512_CORE_FP16": "avx512_fp16",
    "AVX512_CORE_AMX": "amx_int8",
}


def instruction_sets() -> Iterator[str]:
    """Those of this processor, and what oneDNN takes when nothing keeps it."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    yield from (name for name, flag in INSTRUCTION_SETS.items() if flag in flags)
    yield "DEFAULT"


def compare(cases: int, networks: list[Path]) -> str:
    """Compares all cases in this process; what was compared, as one line."""
    from tests.helpers.convolutions import differing, random_cases

    used = Counter[str]()
    wrong = [case for case in random_cases(seed=1, count=cases) if differing(case, used)]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {cases} cases differ, the first: {wrong[0]}")
    integers = used.pop("integers") + sum(map(compare_network, networks))
    refused = {how: count for how, count in used.items() if len(set(how.split(" as "))) > 1}
    return f"{cases:,} cases, {integers:,} integers, 0 differ; refused: {refused or 'none'}"


def compare_network(path: Path) -> int:
    """How many integers of all tasks and layers were compared."""
    from sim import Simulator
    from tests.helpers.networks import adversarial_inputs
    from tsn_hw import load
    from tsn_hw.core import reference

    net, integers = load(path), 0
    for task in range(len(net.tasks)):
        for batch in (1, 2, 7, 16, 70):
            x = adversarial_inputs(net, batch, seed=batch)
            simulator, expected = Simulator(net, task), reference.run(net, task, x)
            for name, values in simulator.taps(x).items():
                np.testing.assert_array_equal(values, expected[name], err_msg=f"{path}, task {task}, {name}")
                integers += values.size
            np.testing.assert_array_equal(simulator(x), list(expected.values())[-1])
    return integers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=6000, help="random layers (default: 6000)")
    parser.add_argument("--network", type=Path, action="append", default=[], help="also a .tsn file")
    parser.add_argument("--here", action="store_true", help="only in this process, as it is")
    options = parser.parse_args()
    if options.here:
        print(compare(options.cases, options.network))
        return
    for name in instruction_sets():
        for threads in (1, 2):
            environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": name, "OMP_NUM_THREADS": str(threads)}
            environment["OMP_WAIT_POLICY"] = "PASSIVE"  # on a busy machine, threads that spin wait for one another
            command = [sys.executable, *sys.argv, "--here"]
            done = subprocess.run(command, env=environment, check=False, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise SystemExit(f"{name}, {threads} threads: see above")
            print(f"{name:18} {threads} threads: {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
