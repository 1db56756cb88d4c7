"""A wide network with many tasks on a small part: what the search finds with dense units, with lists, and with both.

    python benchmarks/bench_lists_fit.py NET.tsn [--device xc7z020] [--save FOLDER]

NET.tsn is trained, 784-100-100 (examples/permuted_mnist.toml). Its first layer is made three times as wide: rows of all
tasks are those of the trained one, three times, with their columns in other orders; so are the columns of the second.
So rows are as long, and as unequal, as training makes them. A line a layout tells the fastest design that fits 80 % of
the part; ``--save`` keeps the network and the foldings for ``tsn-hw rtl`` and ``tsn-hw synth``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.project.folding_json import folding_json
from sim import device, search_folding
from sim.resources import Estimate
from sim.search import SearchLimits
from tsn_hw import load
from tsn_hw.core import artifact
from tsn_hw.core.errors import FoldingError
from tsn_hw.core.layers import Linear
from tsn_hw.core.network import Bank, BankLayer, PackedNetwork, Step
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Layout

TIMES = 3
LAYOUTS: dict[str, tuple[Layout, ...]] = {"dense": ("dense",), "lists": ("lists",), "auto": ("dense", "lists")}


def widened(net: PackedNetwork) -> PackedNetwork:
    """The network with its first layer of neurons TIMES as wide."""
    rng = np.random.default_rng(0)
    first, second = (i for i, layer in enumerate(net.layers) if isinstance(layer, Linear) and i not in net.heads)
    layers = list(net.layers)
    (neurons, columns), (rows, _) = (linear(net, index).weight_shape for index in (first, second))
    of_columns, of_rows = ([rng.permutation(size) for _ in range(TIMES)] for size in (columns, rows))

    def repeated(index: int, values: NDArray[Any]) -> NDArray[Any]:
        if index == first:
            return np.concatenate([values[:, order] for order in of_columns])
        return np.concatenate([values[order] for order in of_rows], axis=1) if index == second else values

    def words(index: int, memory: BankLayer | None) -> BankLayer | None:
        return memory and replace(memory, owner=repeated(index, memory.owner), code=repeated(index, memory.code))

    def step(index: int, own: Step | None) -> Step | None:
        if own is None or own.mask is None:
            return own
        scale = own.requantization
        if index == first and scale is not None:
            scale = replace(scale, multiplier=np.tile(scale.multiplier, TIMES), offset=np.tile(scale.offset, TIMES))
        return replace(own, mask=repeated(index, own.mask), requantization=scale)

    layers[first] = Linear(layers[first].name, columns, neurons * TIMES, linear(net, first).inputs)
    layers[second] = Linear(layers[second].name, neurons * TIMES, rows, linear(net, second).inputs)
    banks = tuple(Bank(tuple(words(i, memory) for i, memory in enumerate(bank.layers))) for bank in net.banks)
    tasks = tuple(replace(task, steps=tuple(step(i, own) for i, own in enumerate(task.steps))) for task in net.tasks)
    return replace(net, layers=tuple(layers), banks=banks, tasks=tasks)


def linear(net: PackedNetwork, index: int) -> Linear:
    """A layer that is a Linear."""
    layer = net.layers[index]
    assert isinstance(layer, Linear)
    return layer


def told(name: str, made: Accelerator, estimate: Estimate) -> str:
    """A line of the table."""
    used = estimate.resources
    units = ", ".join(
        f"{u.settings.layout} {u.settings.folding.pe} x {u.settings.folding.simd} {u.settings.ram_style}"
        for u in made.matrices
    )
    return (
        f"{name:8} {estimate.interval_cycles:6} cycles, {used.lut:6} LUTs, {used.ff:6} flip-flops, "
        f"{used.bram:4} block RAMs, {used.dsp:3} DSPs: {units}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("--device", default="xc7z020")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    net, part = widened(load(options.network)), device(options.device)
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
        artifact.save(net, options.save / "net.tsn")
    for name, layouts in LAYOUTS.items():
        try:
            found = search_folding(net, part, limits=SearchLimits(layouts=layouts))
        except FoldingError as error:
            print(f"{name:8} {error}", flush=True)
            continue
        print(told(name, found.accelerator, found.estimate), flush=True)
        if options.save:
            (options.save / f"{name}.json").write_text(folding_json(found.accelerator.settings, net))


if __name__ == "__main__":
    main()
