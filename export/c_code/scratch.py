"""Where the tensors of a task lie in the scratch buffer while it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.layers import INPUT
from tsn_hw.core.network import PackedNetwork

ALIGNMENT = 4


@dataclass(frozen=True)
class Scratch:
    """Byte of the scratch buffer where the output of each layer begins, by index, and the bytes of all together."""

    places: Mapping[int, int]
    size_bytes: int


def element_bytes(form: ActFormat) -> int:
    """Bytes of an integer of a format in RAM."""
    return 1 if form.bits <= 8 else 2


def source_of(net: PackedNetwork, index: int) -> int:
    """The layer whose tensor a layer's output is: itself, or what a Flatten reads."""
    while index != INPUT and net.layers[index].kind == "Flatten":
        index = net.layers[index].inputs[0]
    return index


def plan(net: PackedNetwork, task: int) -> Scratch:
    """Places of all tensors but the input and the logits; those that are needed at the same time do not overlap."""
    last_use: dict[int, int] = {}
    for index, layer, _ in net.run_order(task):
        for source in layer.inputs:
            last_use[source_of(net, source)] = index
    placed: dict[int, tuple[int, int]] = {}  # index → first byte and the one behind its last
    head = net.head(task)
    for index, _, _ in net.run_order(task):
        if index == head or source_of(net, index) != index:
            continue
        size = math.prod(net.shapes[index]) * element_bytes(net.format(task, index))
        size += -size % ALIGNMENT
        alive = sorted(place for other, place in placed.items() if last_use.get(other, other) >= index)
        begin = 0
        for first, behind in alive:
            if begin + size <= first:
                break
            begin = max(begin, behind)
        placed[index] = begin, begin + size
    places = {index: begin for index, (begin, _) in placed.items()}
    return Scratch(places, max((behind for _, behind in placed.values()), default=0))
