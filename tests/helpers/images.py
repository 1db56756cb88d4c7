"""Legal foldings of random networks, and the words of their memory images."""

import numpy as np

from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings, divisors
from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.pipeline import accelerator, unit_names


def settings(net: PackedNetwork, pe=1, simd=1, mask="deep", **room) -> HardwareSettings:
    """The same settings for every unit, as far as they divide what it has."""
    ones = accelerator(net, HardwareSettings(dict.fromkeys(unit_names(net), UnitSettings(Folding(1), mask)), **room))
    units = {}
    for unit in ones.units:
        most = (unit.rows, pe), (unit.most_simd, simd)
        folding = Folding(*(max(d for d in divisors(whole) if d <= wanted) for whole, wanted in most))
        units[unit.name] = UnitSettings(folding, mask)
    return HardwareSettings(units, **room)


def word(image, address: int) -> int:
    """A word of a memory as one integer."""
    return sum(int(limb) << 64 * i for i, limb in enumerate(image.limbs[address]))


def own_images(design, unit, task: int) -> dict[str, MemoryImage]:
    """The memories of a unit by kind, after what is loaded for a task has been loaded."""
    return {image.kind: image for image in (*design.images, *design.task_images(task)) if image.unit == unit.name}


def field(value: int, low: int, width: int, signed: bool = False) -> int:
    bits = value >> low & ((1 << width) - 1)
    return bits - (1 << width) if signed and width and bits >> width - 1 else bits


def decoded(design, unit, images, task) -> np.ndarray:
    """(rows, columns) weights of a unit for a task, read from its memories."""
    pe, simd = unit.settings.folding.pe, unit.settings.folding.simd
    parameters, masks, books = images["task"], images.get("mask"), images["codebook"]
    runtime = unit.settings.mask == "runtime"
    held = 0 if runtime else task
    region = field(word(parameters, held), 1, max(1, (unit.regions - 1).bit_length()))
    weights = np.zeros((unit.rows, unit.columns), np.int64)
    for row in range(unit.rows):
        for column in range(unit.columns):
            line = row // pe * unit.column_folds + column // simd
            lane = row % pe * simd + column % simd
            if masks is not None and not field(word(masks, held * unit.lines + line), lane, 1):
                continue
            address = field(word(images["words"], region * unit.lines + line), lane * unit.word_bits, unit.word_bits)
            book = (0 if runtime else region) << unit.word_bits
            weights[row, column] = field(word(books, book + address), 0, unit.centroid_bits, signed=True)
    return weights
