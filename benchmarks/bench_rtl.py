"""RTL in yosys: what is predicted beside what is measured, and tasks in one bank beside dense copies of the weights.

    python benchmarks/bench_rtl.py

A layer of 256 x 64 weights with a head of four classes a task. "bank": all tasks share words, each a prefix and a code
of 4 bits, with their masks on chip. "dense": every task has 8-bit weights of its own, and no masks. Both have the same
folding. Dense weights pass the decoder of words too, so that of them only the block RAMs are compared.
"""

import tempfile
from pathlib import Path

import numpy as np

from export.rtl import write_rtl
from export.rtl_synthesis import synthesize
from sim.devices import device
from sim.resources import RESOURCES, estimate_resources
from tsn_hw.app.rtl import PARTS
from tsn_hw.app.tables import table
from tsn_hw.arithmetic import ActFormat
from tsn_hw.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.layers import INPUT, Layer, Linear
from tsn_hw.network import Bank, BankLayer, PackedNetwork, Requantization, Step, Task
from tsn_hw.pipeline import accelerator
from tsn_hw.units import Accelerator

ROWS, COLUMNS, CLASSES, CODE_BITS = 64, 256, 4, 4
U8 = ActFormat(8, signed=False, exponent=0)
MEASURED = [("ecp5", Folding(1, 1)), ("ecp5", Folding(4, 2)), ("xc7", Folding(1, 1)), ("xc7", Folding(4, 2))]
COMPARED = Folding(1, 2)


def network(tasks: int, is_dense: bool) -> PackedNetwork:
    """Tasks that share one bank, or each with a bank of dense 8-bit weights."""
    rng = np.random.default_rng(0)
    bodies = [_dense(rng) for _ in range(tasks)] if is_dense else [_shared(rng, tasks)]
    heads: list[list[BankLayer | None]] = [[None] * tasks for _ in bodies]
    for task in range(tasks):
        bank, place = (task, 0) if is_dense else (0, task)
        heads[bank][task] = _head(rng, place, 1 if is_dense else tasks)
    banks = tuple(Bank((body, *own)) for body, own in zip(bodies, heads, strict=True))
    layers: list[Layer] = [Linear("fc", COLUMNS, ROWS, (INPUT,))]
    layers += [Linear(f"head{task}", ROWS, CLASSES, (0,)) for task in range(tasks)]
    learned = []
    for task in range(tasks):
        owner = bodies[task if is_dense else 0].owner
        mask = (owner == task) | ((owner < task) & (rng.random(owner.shape) < 0.5)) | is_dense
        steps: list[Step | None] = [Step(mask, _scale(ROWS, 12, U8)), *[None] * tasks]
        steps[1 + task] = Step(np.ones((CLASSES, ROWS), bool), _scale(CLASSES, 0, None))
        classes = tuple(f"class{i}" for i in range(CLASSES))
        learned.append(Task(f"task{task}", task if is_dense else 0, classes, tuple(steps)))
    return PackedNetwork((COLUMNS,), U8, tuple(layers), banks, tuple(learned))


def _shared(rng: np.random.Generator, tasks: int) -> BankLayer:
    owner = rng.integers(0, tasks, (ROWS, COLUMNS)).astype(np.int16)
    code = rng.integers(0, 1 << CODE_BITS, owner.shape).astype(np.uint8)
    books = tuple(np.sort(rng.choice(np.arange(-128, 128), 1 << CODE_BITS, replace=False)) for _ in range(tasks))
    return BankLayer(owner, code, books, 8, -7)


def _dense(rng: np.random.Generator) -> BankLayer:
    code = rng.integers(0, 256, (ROWS, COLUMNS)).astype(np.uint8)
    return BankLayer(np.zeros(code.shape, np.int16), code, (np.arange(-128, 128),), 8, -7)


def _head(rng: np.random.Generator, place: int, tasks: int) -> BankLayer:
    book = np.array([-100, -10, 10, 100])
    books = tuple(book if number == place else book[:0] for number in range(tasks))
    owner = np.full((CLASSES, ROWS), place, np.int16)
    return BankLayer(owner, rng.integers(0, 4, owner.shape).astype(np.uint8), books, 8, -7)


def _scale(channels: int, shift: int, output: ActFormat | None) -> Requantization:
    return Requantization(np.ones(channels, np.int64), np.zeros(channels, np.int64), shift, output)


def design(tasks: int, folding: Folding, is_dense: bool = False) -> Accelerator:
    """An accelerator with a folding of the layer; its head computes a product a cycle."""
    units = {"fc": UnitSettings(folding, "none" if is_dense else "deep"), "head": UnitSettings(Folding(1, 1))}
    return accelerator(network(tasks, is_dense), HardwareSettings(units))


def measured(made: Accelerator, target: str) -> tuple[dict[str, int], dict[str, int], str]:
    """Resources that were measured and estimated, and the tool."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "rtl"
        write_rtl(made, folder)
        found = synthesize(folder, target)
    estimate = estimate_resources(made, device(PARTS[target])).resources
    return found.resources, dict(zip(RESOURCES, estimate.counts, strict=True)), found.tool


def main() -> None:
    names = ("lut", "ff", "bram", "dsp")
    rows: list[list[object]] = []
    blocks: dict[str, int] = {}
    for target, folding in MEASURED:
        found, wanted, tool = measured(design(2, folding), target)
        pairs = [f"{found[name]} / {wanted[name]}" for name in names]
        rows.append([f"{folding.pe} x {folding.simd}", target, *pairs])
        print(rows[-1], flush=True)
    print(table(["PE x SIMD", "family", "LUT", "FF", "block RAM", "DSP"], rows))
    print(f"measured by {tool} / estimated\n")
    for label, is_dense in (("bank", False), ("dense", True)):
        found, wanted, tool = measured(design(4, COMPARED, is_dense), "ecp5")
        blocks[label] = found["bram"]
        print(f"4 tasks, {label}: {found['bram']} block RAMs of ecp5 measured, {wanted['bram']} estimated", flush=True)
    print(f"bank / dense: {blocks['bank'] / blocks['dense']:.2f}")


if __name__ == "__main__":
    main()
