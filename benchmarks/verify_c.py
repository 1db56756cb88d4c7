"""Every integer of C for microcontrollers on every machine, at scale: how many were compared, and that none differs.

    python benchmarks/verify_c.py [--network FILE.tsn] [--random COUNT] [--machine NAME] [--no-streams] [--quick]

Networks: trained ones if named (``tsn-hw demo`` writes build/demo/net.tsn); streams of tasks of an MLP for permuted
MNIST, of a network of convolutions, of a residual one and of one with depthwise convolutions, with random words; and
random ones of tests/helpers/networks.py, every second of them with requantizations at the ends of what the core allows.
Every task runs on the machines of export/c_code/machines.py, in all layouts where a network is trained, in two where it
is a stream, the random ones in turns; every integer behind every layer must be that of tsn_hw.core.reference. A machine
whose compiler or qemu is missing is named, and so is a network that does not fit into the memory of a board.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from benchmarks.nets import Numbers, random_alexnet, random_ds_cnn, random_mlp, random_resnet18  # noqa: E402
from benchmarks.streams import stream_of  # noqa: E402
from benchmarks.verify_onnx import random_recipes  # noqa: E402
from export.c_code.host import CompiledC  # noqa: E402
from export.c_code.machines import MACHINES  # noqa: E402
from export.c_code.weights import Optimize  # noqa: E402
from tests.helpers.networks import adversarial_inputs, random_network  # noqa: E402
from tsn_hw.core import artifact, reference  # noqa: E402
from tsn_hw.core.errors import EngineError  # noqa: E402
from tsn_hw.core.network import PackedNetwork  # noqa: E402

LAYOUTS: tuple[Optimize, ...] = ("size", "balanced", "speed")


@dataclass(frozen=True)
class Trial:
    """A network, the layouts in which it is tried, and inputs a task."""

    group: str
    make: Callable[[], PackedNetwork]
    layouts: tuple[Optimize, ...]
    inputs: int


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """All networks, made when they are needed."""
    for path in options.network:
        yield Trial(str(path), lambda path=path: artifact.load(path), LAYOUTS, 100)  # type: ignore[misc]
    many = 1 if options.quick else 4
    batch_norm = Numbers(multiplier_bits=8)
    named: dict[str, tuple[Callable[[], PackedNetwork], int]] = {
        "MLP 784-100-100-10, 10 tasks": (
            lambda: stream_of(random_mlp((784, 100, 100, 10)), 10, density=0.06),
            25 * many,
        ),
        "convolutions, 3 tasks": (
            lambda: stream_of(random_alexnet(batch_norm, channels=(8, 16, 32), hidden=(64, 32)), 3),
            2 * many,
        ),
        "residual (ResNet-18, width 8), 2 tasks": (lambda: stream_of(random_resnet18(8, numbers=batch_norm), 2), many),
        "depthwise (DS-CNN), 2 tasks": (lambda: stream_of(random_ds_cnn(), 2), many),
    }
    for name, (make, inputs) in named.items() if options.streams else ():
        yield Trial(name, make, LAYOUTS[1:], inputs)
    for i, recipe in enumerate(random_recipes(5 if options.quick else options.random)):
        drawn = replace(recipe, extremes=bool(i % 2))
        layout = LAYOUTS[i // 2 % 3]
        yield Trial("random networks", lambda drawn=drawn: random_network(drawn), (layout,), 6)  # type: ignore[misc]


def verify(net: PackedNetwork, trial: Trial, machines: list[str]) -> Counter[str]:
    """Compare a network on machines; gives the integers of each, and of ``(a machine, why not)`` how often."""
    counts: Counter[str] = Counter()
    tasks = range(len(net.tasks))
    inputs = {task: adversarial_inputs(net, trial.inputs, task) for task in tasks}
    wanted = [reference.run(net, task, inputs[task]) for task in tasks]
    for name, optimize in itertools.product(machines, trial.layouts):
        engine = CompiledC(net, optimize, MACHINES[name])
        try:
            engine.compile()
        except EngineError as error:
            counts[f"{name}: not run, {str(error).rpartition(': ')[2]}"] += 1
            continue
        for task, got in engine.run_tasks(inputs).items():
            for layer, values in wanted[task].items():
                place = f"{name}, {optimize}, task {task}, layer {layer}"
                np.testing.assert_array_equal(got[layer], values, err_msg=place)
                counts[name] += values.size
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, action="append", default=[], help="also a trained network, a .tsn file")
    parser.add_argument("--random", type=int, default=50, help="random networks (default: %(default)s)")
    parser.add_argument("--machine", action="append", choices=list(MACHINES), help="only on this one")
    parser.add_argument("--no-streams", dest="streams", action="store_false", help="no streams of random tasks")
    parser.add_argument("--quick", action="store_true", help="a few of it all")
    options = parser.parse_args()
    machines = options.machine or list(MACHINES)
    total: Counter[str] = Counter()
    for group, members in itertools.groupby(trials(options), key=lambda trial: trial.group):
        counts: Counter[str] = Counter()
        for trial in tqdm(members, desc=group, leave=False):
            counts.update(verify(trial.make(), trial, machines))
        show(group, counts)
        total.update(counts)
    show("all", Counter({name: total[name] for name in machines}))


def show(group: str, counts: Counter[str]) -> None:
    """Print what was compared."""
    lines = [f"  {name:44} {f'{count:,}':>15}" for name, count in counts.items()]
    print(f"{group}: 0 integers differ", *lines, sep="\n", flush=True)


if __name__ == "__main__":
    main()
