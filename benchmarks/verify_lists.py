"""Units that skip zeros in every engine, against the int64 loop: that no integer differs, and no cycle.

    python benchmarks/verify_lists.py [--outputs N] [--random N] [--network FILE.tsn]

Three networks, and those that are named, with lists in every unit and with lists and dense units in turn: an MLP whose
layers use nothing, everything, one weight or some, task by task (also loaded task by task); a convolutional one with
strides and padding; a residual one with a strided skip. Every task gives at least N logits in

* Verilator, vectors of changing tasks and calls of many, at full speed and with stalls in 40 % of the cycles: all
  integers of all units, the steps of every loop, and the cycles between two vectors at full speed;
* C++ by g++ and by clang, vectors of changing tasks and all of a task in a call: the same, and every memory;
* the simulator.

Then networks at random in foldings and layouts at random, six vectors a task, in Icarus Verilog (where bits without a
value show), in C++ by g++ and clang in turn, and in the simulator. A line tells what was compared; exit code 1 if any
integer or cycle differs.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from export import GoldenRun  # noqa: E402
from export.hls.csim import compiled  # noqa: E402
from export.project.golden import golden_data  # noqa: E402
from export.rtl.project import write_rtl  # noqa: E402
from export.rtl.simulation import RtlCall, RtlSimulation, compile_rtl, loading_calls  # noqa: E402
from export.rtl.simulators import simulator  # noqa: E402
from sim import Simulator  # noqa: E402
from tests.helpers.images import settings  # noqa: E402
from tests.helpers.networks import MASKS, Recipe, adversarial_inputs, random_network  # noqa: E402
from tsn_hw.core import artifact, reference  # noqa: E402
from tsn_hw.core.arithmetic import Ints  # noqa: E402
from tsn_hw.core.network import PackedNetwork  # noqa: E402
from tsn_hw.hardware.accelerator import Accelerator  # noqa: E402
from tsn_hw.hardware.pipeline import accelerator  # noqa: E402

KINDS = ("empty", "full", "one weight", "random")
NETWORKS = {
    "MLP, any masks": Recipe(tasks=4, classes=10, widths=(48, 32, 24), mask_kinds=KINDS, density=0.2, seed=1),
    "conv, stride, padding": Recipe(kind="conv", tasks=3, banks=2, classes=10, density=0.2, multipliers=True, seed=3),
    "residual, strided skip": Recipe(kind="resnet", tasks=2, classes=10, density=0.15, multipliers=True, seed=6),
}
LAYOUTS = {"lists": ("lists",), "lists and dense": ("lists", "dense"), "dense and lists": ("dense", "lists")}
COMPILERS = ("g++", "clang++")
CHUNK = 400
"""Vectors of a task that are simulated at once."""
STALL_PERCENT = 40


def design_of(net: PackedNetwork, pe: int, simd: int, layout: str, mask: str = "deep") -> Accelerator:
    """The accelerator of a network with layouts in turn."""
    layouts = LAYOUTS[layout]
    chosen = settings(net, pe=pe, simd=simd, mask=mask, layout=lambda number: layouts[number % len(layouts)])
    return accelerator(net, chosen)


def predicted(design: Accelerator, task: int, inferences: int) -> dict[tuple[str, str], int]:
    """Steps of every loop."""
    units = {(unit.name, "unit"): unit.steps_of(task) * inferences for unit in design.units}
    return units | {(u.name, "window"): u.window.cycles * inferences for u in design.units if u.window}


def interval(design: Accelerator, task: int) -> int:
    """Cycles between two vectors of a task."""
    return max(design.input_beats, design.head.rows, *(unit.cycles_of(task) for unit in design.units))


def same(found: dict[str, Ints], truth: dict[str, Ints], rows: slice) -> tuple[int, int]:
    """Integers that were compared, of all layers that were found, and those that differ."""
    pairs = [(values, truth[name][rows]) for name, values in found.items()]
    return sum(values.size for values, _ in pairs), sum(int((values != true).sum()) for values, true in pairs)


def rtl(compiled_rtl: RtlSimulation, runs: list[GoldenRun], stalls: int, told: Counter[str]) -> None:
    """Half of the vectors each a call, the task changing; then the others of each task in two calls."""
    design, count = compiled_rtl.accelerator, len(runs[0].inputs)
    half = count // 2
    ranges = [(run, slice(i, i + 1)) for i in range(half) for run in runs]
    rest = count - half
    ranges += [(run, rows) for run in runs for rows in (slice(half, half + rest // 2), slice(half + rest // 2, count))]
    calls, places = list[RtlCall](), list[int]()
    for run, rows in ranges:
        calls += loading_calls(design, run.task)
        places.append(len(calls))
        calls.append(RtlCall(run.task, run.inputs[rows]))
    results = compiled_rtl.run(calls, stalls)
    told["rtl wrong status"] += sum(result.status != 0 for result in results)
    ran = [results[place] for place in places]
    for (run, rows), result in zip(ranges, ran, strict=True):
        compared, different = same(result.layers, dict(run.layers), rows)
        told["rtl integers"] += compared
        told["rtl different"] += different
        told["rtl loops"] += len(result.steps)
        told["rtl steps different"] += result.steps != predicted(design, run.task, len(run.inputs[rows]))
    if stalls == 0 and rest % 2 == 1 and rest > 8:  # calls of n and n + 1 vectors
        for number, run in enumerate(runs):
            fewer, more = ran[len(ran) - 2 * len(runs) + 2 * number :][:2]
            told["intervals"] += 1
            told["intervals different"] += more.cycles - fewer.cycles != interval(design, run.task)


def hls(design: Accelerator, runs: list[GoldenRun], compilers: Sequence[str], told: Counter[str]) -> None:
    """C++ by some compilers: integers, memories and cycles."""
    data = golden_data(design, runs)
    for compiler in compilers:
        done = compiled(design, compiler=compiler).check(data)
        passed = re.match(r"PASS: (\d+) integers, .*, cycles of (\d+) units; 0 differ\n$", done.stdout)
        told[f"{compiler} integers"] += int(passed[1]) if passed else 0
        told[f"{compiler} designs different"] += passed is None or done.returncode != 0


def chunks(net: PackedNetwork, vectors: int) -> Iterator[list[GoldenRun]]:
    """Inputs of every task and what the int64 loop gives for them, some at a time."""
    for first in range(0, vectors, CHUNK):
        count = min(CHUNK, vectors - first) | 1  # an odd half: two calls that differ by one vector
        count += count // 2 % 2 != 1
        inputs = [adversarial_inputs(net, count, seed=first + task) for task in range(len(net.tasks))]
        yield [GoldenRun(task, x, _layers(net, task, x)) for task, x in enumerate(inputs)]


def _layers(net: PackedNetwork, task: int, inputs: Ints) -> dict[str, Ints]:
    return dict(reference.run(net, task, inputs))


def verify(design: Accelerator, vectors: int, chosen: str, compilers: Sequence[str]) -> Counter[str]:
    """What was compared of an accelerator in all engines, and what differs."""
    net, told = design.net, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        write_rtl(design, Path(folder) / "rtl")
        simulation = compile_rtl(design, Path(folder) / "rtl", chosen=simulator(chosen))
        for runs in chunks(net, vectors):
            for stalls in (0, STALL_PERCENT):
                rtl(simulation, runs, stalls, told)
            hls(design, runs, compilers, told)
            for run in runs:
                compared, different = same(
                    dict(Simulator(net, run.task).taps(run.inputs)), dict(run.layers), slice(None)
                )
                told["simulator integers"] += compared
                told["simulator different"] += different
            told["vectors a task"] += len(runs[0].inputs)
    return told


def telling(name: str, design: Accelerator, told: Counter[str]) -> str:
    """What was compared, as one line."""
    lists = sum(unit.settings.layout == "lists" for unit in design.units)
    what = ", ".join(f"{key} {count:,}" for key, count in told.items() if "different" not in key and count)
    wrong = sum(count for key, count in told.items() if "different" in key or "wrong" in key)
    units = f"{lists} of {len(design.matrices)} units with lists, {len(design.net.tasks)} tasks"
    return f"{name}: {units}; {what}; {wrong} differ"


def at_random(seed: int) -> Accelerator:
    """A small network in a folding and layouts at random."""
    rng = np.random.default_rng(seed)

    def one_of(*values: int) -> int:
        return int(rng.choice(values))

    recipe = Recipe(
        kind=str(rng.choice(["mlp", "conv", "residual"])), tasks=one_of(1, 2, 3, 5), act_bits=one_of(4, 8, 16),
        centroid_bits=one_of(4, 8, 12), signed_input=bool(one_of(0, 1)), multipliers=bool(one_of(0, 1)),
        density=float(rng.choice([0.05, 0.3, 0.9])), seed=seed,
        mask_kinds=tuple(rng.permutation(MASKS)[: one_of(1, 3, 5)].tolist()),
    )  # fmt: skip
    net = random_network(replace(recipe, banks=one_of(1, recipe.tasks)))
    layout, mask = str(rng.choice(list(LAYOUTS))), str(rng.choice(["deep", "runtime"]))
    return design_of(net, one_of(1, 2, 3, 4), one_of(1, 2, 4, 8), layout, mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=int, default=10_000, help="logits of every task (default: 10,000)")
    parser.add_argument("--random", type=int, default=50, help="random networks (default: 50)")
    parser.add_argument("--network", type=Path, action="append", default=[], help="also a .tsn file")
    options = parser.parse_args()
    nets = {name: random_network(recipe) for name, recipe in NETWORKS.items()}
    nets |= {path.stem: artifact.load(path) for path in options.network}
    wrong = False

    def tell(
        name: str, design: Accelerator, vectors: int, chosen: str = "verilator", compilers: Sequence[str] = COMPILERS
    ) -> None:
        nonlocal wrong
        line = telling(name, design, verify(design, vectors, chosen, compilers))
        wrong |= not line.endswith("; 0 differ")
        print(line, flush=True)

    for name, net in nets.items():
        vectors = -(-options.outputs // min(len(task.classes) for task in net.tasks))
        for layout in ("lists", "lists and dense"):
            tell(f"{name}, {layout}", design_of(net, 2, 4, layout), vectors)
    first = next(iter(nets.values()))
    loaded = design_of(first, 2, 4, "lists and dense", "runtime")
    tell(f"{next(iter(nets))}, loaded", loaded, -(-options.outputs // 10))
    for seed in range(options.random):
        tell(f"random network {seed}", at_random(seed), 5, "icarus", COMPILERS[seed % 2 :][:1])
    sys.exit(wrong)


if __name__ == "__main__":
    main()
