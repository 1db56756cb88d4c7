"""Tasks in one bank beside dense 8-bit copies of the weights, in gates: block RAMs, LUTs, flip-flops, DSPs and clock.

    python benchmarks/bench_rtl.py                       a layer of 256 x 64 weights, 4 and 16 tasks
    python benchmarks/bench_rtl.py 784-300-100-10        LeNet-300-100: half an hour
    python benchmarks/bench_rtl.py 784-100-100-10 4      the number of tasks, too

"bank": all tasks share words, each a prefix and a code of 4 bits, with their masks on chip. "dense": every task has
8-bit weights of its own, and no masks. Both have the same folding: 2 x 2 in the first layer, 1 x 1 in the others.
Dense weights pass the decoder of words too; it is an inverter, and synthesis finds that out.

Counts are those of yosys, for ecp5 and xc7; the clock is nextpnr's, where the design fits ecp5-85. More block RAMs than
BLOCKS are not synthesized: the estimate, which equals what yosys counts, stands alone.
"""

import itertools
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.rtl.place import place_and_route
from export.rtl.project import write_rtl
from export.rtl.synthesis import synthesize
from sim.devices import device
from sim.resources import RESOURCES, Resources, estimate_resources
from tsn_hw.app.hardware.rtl import PARTS
from tsn_hw.app.output import Table, table_text
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.layers import Layer, Linear
from tsn_hw.core.network import Bank, BankLayer, PackedNetwork, Requantization, Step, Task
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator

CODE_BITS = 4
BLOCKS = 600
U8 = ActFormat(8, signed=False, exponent=0)


@dataclass(frozen=True)
class Comparison:
    """Features of the input and of every layer, classes at last; tasks; whether every task has weights of its own."""

    widths: tuple[int, ...]
    tasks: int
    is_dense: bool


def network(wanted: Comparison) -> PackedNetwork:
    """Tasks that share one bank, or each with a bank of dense 8-bit weights."""
    rng = np.random.default_rng(0)
    tasks, (*body, classes) = wanted.tasks, wanted.widths
    layers: list[Layer] = [Linear(f"fc{i}", a, b, (i - 1,)) for i, (a, b) in enumerate(itertools.pairwise(body))]
    count = len(layers)
    layers += [Linear(f"head{task}", body[-1], classes, (count - 1,)) for task in range(tasks)]
    shapes = [layer.weight_shape for layer in layers[:count]]  # type: ignore[union-attr]
    bodies = [
        [_dense(rng, shape) if wanted.is_dense else _shared(rng, shape, tasks) for shape in shapes]
        for _ in range(tasks if wanted.is_dense else 1)
    ]
    heads: list[list[BankLayer | None]] = [[None] * tasks for _ in bodies]
    for task in range(tasks):
        bank, place = (task, 0) if wanted.is_dense else (0, task)
        heads[bank][task] = _head(rng, (classes, body[-1]), place, 1 if wanted.is_dense else tasks)
    learned = []
    for task in range(tasks):
        steps: list[Step | None] = []
        for words in bodies[task if wanted.is_dense else 0]:
            owner = words.owner
            mask = (owner == task) | ((owner < task) & (rng.random(owner.shape) < 0.5)) | wanted.is_dense
            steps.append(Step(mask, _scale(len(owner), 10 + task % 4, U8)))
        steps += [None] * tasks
        steps[count + task] = Step(np.ones((classes, body[-1]), bool), _scale(classes, 0, None))
        names = tuple(f"class{i}" for i in range(classes))
        learned.append(Task(f"task{task}", task if wanted.is_dense else 0, names, tuple(steps)))
    banks = tuple(Bank((*words, *own)) for words, own in zip(bodies, heads, strict=True))
    return PackedNetwork((body[0],), U8, tuple(layers), banks, tuple(learned))


def _shared(rng: np.random.Generator, shape: tuple[int, ...], tasks: int) -> BankLayer:
    owner = rng.integers(0, tasks, shape).astype(np.int16)
    code = rng.integers(0, 1 << CODE_BITS, shape).astype(np.uint8)
    books = tuple(np.sort(rng.choice(np.arange(-128, 128), 1 << CODE_BITS, replace=False)) for _ in range(tasks))
    return BankLayer(owner, code, books, 8, -7)


def _dense(rng: np.random.Generator, shape: tuple[int, ...]) -> BankLayer:
    code = rng.integers(0, 256, shape).astype(np.uint8)
    return BankLayer(np.zeros(shape, np.int16), code, (np.arange(-128, 128),), 8, -7)


def _head(rng: np.random.Generator, shape: tuple[int, int], place: int, tasks: int) -> BankLayer:
    book = np.array([-100, -10, 10, 100])
    books = tuple(book if number == place else book[:0] for number in range(tasks))
    return BankLayer(np.full(shape, place, np.int16), rng.integers(0, 4, shape).astype(np.uint8), books, 8, -7)


def _scale(channels: int, shift: int, output: ActFormat | None) -> Requantization:
    return Requantization(np.ones(channels, np.int64), np.zeros(channels, np.int64), shift, output)


def design(wanted: Comparison) -> Accelerator:
    """The accelerator. Masks of heads leave nothing out."""
    units = {
        f"fc{i}": UnitSettings(Folding(2, 2) if i == 0 else Folding(1, 1), "none" if wanted.is_dense else "deep")
        for i in range(len(wanted.widths) - 2)
    }
    return accelerator(network(wanted), HardwareSettings(units | {"head": UnitSettings(Folding(1, 1), "none")}))


def compare(wanted: Comparison, target: str) -> list[object]:
    """A row: measured and estimated resources, and the clock."""
    made, part = design(wanted), device(PARTS[target])
    estimate = estimate_resources(made, part)
    label = ["-".join(map(str, wanted.widths)), wanted.tasks, "dense" if wanted.is_dense else "bank", target]
    names = ("lut", "ff", "bram", "dsp")
    expected = dict(zip(RESOURCES, estimate.resources.counts, strict=True))
    if estimate.resources.bram > BLOCKS:
        return [*label, *(f"- / {expected[name]}" for name in names), "-"]
    with tempfile.TemporaryDirectory(prefix="tsn-hw-") as temporary:
        folder = Path(temporary) / "rtl"
        write_rtl(made, folder)
        found = synthesize(folder, target).resources
        clock = "-"
        if target == "ecp5":
            fits = Resources(lut=found["lut"], ff=found["ff"], bram=found["bram"], dsp=found["dsp"])
            clock = "does not fit" if _exceeds(fits, target) else f"{_clock(folder, part.name):.1f} MHz"
    return [*label, *(f"{found[name]} / {expected[name]}" for name in names), clock]


def _exceeds(used: Resources, target: str) -> bool:
    whole = device(PARTS[target]).capacities
    return any(getattr(used, name) > getattr(whole, name) for name in ("lut", "ff", "bram", "dsp"))


def _clock(folder: Path, name: str) -> float:
    return place_and_route(folder, name, device(name).capacities.clock_mhz).fmax_mhz


def main(widths: str = "256-64-4", *tasks: str) -> None:
    rows = []
    for count in map(int, tasks or ("4", "16")):
        for target in ("ecp5", "xc7"):
            for is_dense in (False, True):
                rows.append(compare(Comparison(tuple(map(int, widths.split("-"))), count, is_dense), target))
                print(rows[-1], flush=True)
    header = ["network", "tasks", "weights", "family", "LUT", "FF", "block RAM", "DSP", "clock of ecp5-85"]
    print(f"\n{table_text(Table.of_rows(header, rows))}\nmeasured / estimated")


if __name__ == "__main__":
    main(*sys.argv[1:])
