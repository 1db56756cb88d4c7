"""Legal foldings of random networks, and the words of their memory images."""

from dataclasses import replace

import numpy as np

from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings, divisors
from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.list_unit import ListUnit
from tsn_hw.hardware.pipeline import accelerator, refold_unit, unit_names


def settings(net: PackedNetwork, pe=1, simd=1, mask="deep", layout=lambda number: "dense", **room) -> HardwareSettings:
    """The same settings for every unit, as far as they divide what it has; ``layout`` of units by their number.

    Lists have a simd that is a power of two, and room for as many tasks as masks have.
    """
    ones = accelerator(net, HardwareSettings(dict.fromkeys(unit_names(net), UnitSettings(Folding(1), mask)), **room))
    units = {}
    for unit in ones.units:
        most = (unit.rows, pe), (unit.most_simd, simd)
        folding = Folding(*(max(d for d in divisors(whole) if d <= wanted) for whole, wanted in most))
        units[unit.name] = own = UnitSettings(folding, mask)
        if unit.has_words and layout(unit.number) == "lists":
            simd_of_lists = max(d for d in divisors(unit.most_simd) if d <= folding.simd and not d & d - 1)
            own = replace(own, folding=replace(folding, simd=simd_of_lists), layout="lists")
            lines = refold_unit(unit, own).lines_for(room["max_tasks"]) if room.get("max_tasks") else 0
            units[unit.name] = replace(own, lines=lines)
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
    if isinstance(unit, ListUnit):
        return decoded_lists(design, unit, images, task)
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


def decoded_lists(design, unit, images, task) -> np.ndarray:
    """The same of lists, walked line by line as the hardware does."""
    runtime = unit.settings.mask == "runtime"
    held, weights, seen = 0 if runtime else task, np.zeros((unit.rows, unit.columns), np.int64), set()
    said = word(images["task"], held)
    region_bits, line_bits = max(1, (unit.regions - 1).bit_length()), max(1, (unit.lines - 1).bit_length())
    region = 0 if runtime else field(said, 1, region_bits)
    first, final = (field(said, 7 + region_bits + i * line_bits, line_bits) for i in range(2))
    entry, book = unit.word_bits + unit.gap_bits, region << unit.word_bits
    turn_bits = unit.scales.bits + unit.place_bits
    turns, base, waiting = 0, [0] * unit.lanes, [[] for _ in range(unit.simd)]
    for address in range(first, final + 1):
        line = word(images["words"], address)
        for lane in range(unit.lanes):
            team, q = divmod(lane, unit.pe)
            gap = field(line, lane * entry + unit.word_bits, unit.gap_bits)
            if gap < (1 << unit.gap_bits) - 1:
                centroid = field(word(images["codebook"], book + field(line, lane * entry, unit.word_bits)), 0,
                                 unit.centroid_bits, signed=True)  # fmt: skip
                waiting[team].append((q, base[lane] + gap, centroid))
                base[lane] += 1
            base[lane] += gap
        ends = field(line, unit.lanes * entry, unit.simd.bit_length())
        if ends:
            scales = word(images["scales"], held * unit.row_folds + turns)
            for q, column, centroid in waiting[ends - 1]:
                row = field(scales, q * turn_bits + unit.scales.bits, unit.place_bits) * unit.pe + q
                weights[row, column] = centroid
                seen.add((row, column))
            turns, waiting[ends - 1] = turns + 1, []
            base[(ends - 1) * unit.pe : ends * unit.pe] = [0] * unit.pe
    assert turns == unit.row_folds
    assert not any(waiting)
    mask = unit.arrange(design.net.mask(task, unit.layers[task]))
    assert seen == set(zip(*map(np.ndarray.tolist, np.nonzero(mask)), strict=True))
    return weights
