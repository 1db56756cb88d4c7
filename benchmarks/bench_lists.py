"""Lists of used weights beside dense words and masks: cycles, busy lanes and bits on chip of the widest layer.

``python benchmarks/bench_lists.py [NET.tsn]``; without a file a random network, 784-100-100, whose task uses a
twentieth of the weights. Bits are those of all memories of the layer and, apart, of its buffers: every lane of a list
has two vectors of its own. ``equal``: if training made all rows of a task equally long.
"""

import sys

import numpy as np
from nets import random_mlp

from tsn_hw import load
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import Folding, HardwareSettings, Layout, UnitSettings
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.list_unit import ListUnit
from tsn_hw.hardware.lists import schedule
from tsn_hw.hardware.pipeline import least_accelerator, refold

FOLDINGS: tuple[tuple[Layout, int, int], ...] = (
    ("dense", 4, 4), ("dense", 4, 8), ("dense", 10, 16),
    ("lists", 2, 2), ("lists", 2, 4), ("lists", 4, 4), ("lists", 4, 8), ("lists", 2, 16),
)  # fmt: skip


def told(net: PackedNetwork, unit: MatrixUnit, bits: int) -> str:
    """A line of the table."""
    tasks = range(len(net.tasks))
    steps = [unit.steps_of(task) for task in tasks]
    used = [int(net.mask(task, unit.layers[task]).sum()) * unit.positions for task in tasks]
    busy = np.mean([count / (unit.lanes * taken) for count, taken in zip(used, steps, strict=True)])
    buffers = sum(memory.bits * memory.copies for memory in unit.buffers)
    gap = unit.gap_bits if isinstance(unit, ListUnit) else "-"
    shape = f"{unit.settings.layout} {unit.pe} x {unit.simd}"
    return f"{shape:>16}{max(steps):>10}{np.mean(steps):>10.0f}{busy:>8.2f}{bits:>12}{buffers:>10}{gap:>5}"


def equal_rows(net: PackedNetwork, unit: MatrixUnit) -> str:
    """The cycles if every row of a task used as many weights as the others, and none of them needed an escape."""
    used = [int(net.mask(task, unit.layers[task]).sum()) for task in range(len(net.tasks))]
    rows = [np.array([count // unit.rows + (row < count % unit.rows) for row in range(unit.rows)]) for count in used]
    steps = [schedule(entries, unit.pe, unit.simd).lines * unit.positions for entries in rows]
    shape = f"equal {unit.pe} x {unit.simd}"
    return f"{shape:>16}{max(steps):>10}{np.mean(steps):>10.0f}"


def main() -> None:
    net = load(sys.argv[1]) if len(sys.argv) > 1 else random_mlp((784, 100, 100, 10), density=0.05)
    design = least_accelerator(net)
    widest = max(design.matrices, key=lambda unit: unit.rows * unit.columns)
    print(f"{widest.name}: {widest.rows} x {widest.columns}, {len(net.tasks)} tasks")
    print(f"{'layout PE x SIMD':>16}{'slowest':>10}{'mean':>10}{'busy':>8}{'bits':>12}{'buffers':>10}{'gap':>5}")
    for layout, pe, simd in FOLDINGS:
        if widest.rows % pe or widest.most_simd % simd:
            continue
        own = UnitSettings(Folding(pe, simd), layout=layout)
        settings = HardwareSettings(dict(design.settings.units) | {widest.name: own})
        made = refold(design, settings)
        unit = made.units[widest.number]
        assert isinstance(unit, MatrixUnit)
        print(told(net, unit, sum(memory.bits for memory in made.layouts_of(unit))))
        if unit.skips_zeros:
            print(equal_rows(net, unit))


if __name__ == "__main__":
    main()
