"""The shared weight memory of a folder of ONNX graphs: ``banks.bin``, as bits that only ever are added.

The file is a sequence of *planes*: a plane holds one bit for every weight of a layer, see :func:`packed`. Planes that
are read together lie one behind the other, from a multiple of 64 bytes on. For every task in turn come

* the code planes of every layer that its bank did not hold before: plane j is bit j of the codes (and, if this task
  has wider codes than all before it, the further planes of layers that the bank does hold);
* its mask planes: those of the layers that entered the bank together lie side by side.

The word of a weight is prefix and code. The code stands at the same place in every code plane; the prefix is not
stored a second time: it is the number of the first mask plane that holds the weight, because the owner of a weight is
the first task that uses it. A weight that no task uses is 0 in all planes.

So a task that is added sets bits that were 0, in words that no earlier task reads, and appends planes at the end. An
earlier task addresses the planes up to its own mask, in which no prefix can exceed its own: whatever the rest of the
file holds, it finds the same words, and no bits can lead it outside of its table of codebooks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from export.onnx_graphs.metadata import DIGEST_LETTERS, digest
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import Weighted
from tsn_hw.core.network import BankLayer, Bools, Bytes, PackedNetwork, code_bits

BANK_FILE = "banks.bin"
ALIGNMENT = 64
"""Bytes; onnxruntime maps tensors of this alignment without a copy."""


@dataclass(frozen=True)
class PlaneRun:
    """Planes that lie one behind the other in the file: offset in bytes, number of planes."""

    offset: int
    planes: int


@dataclass(frozen=True)
class Segment:
    """Layers that entered a bank together, and where their planes lie in the file, in bytes.

    codes: a layer's planes, lowest bit first. masks: by position in the bank, tasks that read any of the layers.
    """

    bank: int
    layers: dict[int, int]
    """Bytes of a plane of every layer."""
    codes: dict[int, list[int]] = field(default_factory=dict)
    masks: dict[int, int] = field(default_factory=dict)

    @property
    def mask_bytes(self) -> int:
        """Size of the mask planes of one task."""
        return sum(self.layers.values())

    def positions(self, last: int) -> list[int]:
        """Tasks of the bank that have masks here, up to a position; their codebooks are the rows of a table."""
        return [position for position in self.masks if position <= last]

    def mask_runs(self, last: int) -> list[PlaneRun]:
        """Where the mask planes up to a position lie."""
        return _runs((self.masks[position] for position in self.positions(last)), self.mask_bytes)

    def code_runs(self, layer: int, planes: int) -> list[PlaneRun]:
        """Where the lowest code planes of a layer lie."""
        return _runs(self.codes[layer][:planes], self.layers[layer])


@dataclass(frozen=True)
class BankLayout:
    """Where everything lies in the bank file of a network; a network with more tasks only adds to it."""

    segments: list[Segment]
    size: int

    def task_segments(self, net: PackedNetwork, task: int) -> list[tuple[Segment, list[int]]]:
        """The segments that a task reads, with the layers that it reads there."""
        read = bank_layers(net, task)
        found = [(s, [i for i in read if i in s.layers]) for s in self.segments if s.bank == net.tasks[task].bank]
        return [(segment, layers) for segment, layers in found if layers]


def bank_layers(net: PackedNetwork, task: int) -> list[int]:
    """Weighted layers that a task reads from its bank: all but its head."""
    return [i for i, layer, _ in net.run_order(task) if isinstance(layer, Weighted) and i != net.head(task)]


def position(net: PackedNetwork, task: int) -> int:
    """The place of a task among those of its bank: the prefix of the words that it owns."""
    return net.bank_tasks(net.tasks[task].bank).index(task)


def code_planes(words: BankLayer, last: int) -> int:
    """Code planes of a layer that tasks up to a position need."""
    return max(1, *(code_bits(book) for book in words.codebooks[: last + 1]))


def bank_layout(net: PackedNetwork) -> BankLayout:
    """Place the planes of one task after another."""
    segments: list[Segment] = []
    end = 0
    for task in range(len(net.tasks)):
        read, bank, own = bank_layers(net, task), net.tasks[task].bank, position(net, task)
        held = {i for segment in segments if segment.bank == bank for i in segment.layers}
        new = {i: _plane_bytes(net, i) for i in read if i not in held}
        if new:
            segments.append(Segment(bank, new, {i: [] for i in new}))
        used = BankLayout(segments, end).task_segments(net, task)
        for segment, layers in used:
            for i in layers:
                held_planes, needed = len(segment.codes[i]), code_planes(net.words(task, i), own)
                if needed > held_planes:
                    start, size = _aligned(end), segment.layers[i]
                    end = start + (needed - held_planes) * size
                    segment.codes[i].extend(range(start, end, size))
        for segment, _ in used:
            follows = bool(segment.masks) and end == max(segment.masks.values()) + segment.mask_bytes
            segment.masks[own] = end if follows else _aligned(end)
            end = segment.masks[own] + segment.mask_bytes
    return BankLayout(segments, end)


def bank_file(net: PackedNetwork, layout: BankLayout) -> bytes:
    """The content of ``banks.bin``."""
    content = np.zeros(layout.size, np.uint8)
    for segment in layout.segments:
        members = net.bank_tasks(segment.bank)
        for i, offsets in segment.codes.items():
            words = net.words(members[0], i)
            for bit, offset in enumerate(offsets):
                _put(content, offset, (words.code >> bit) % 2 == 1)
        for own, offset in segment.masks.items():
            read = bank_layers(net, members[own])
            for i, size in segment.layers.items():
                if i in read:
                    _put(content, offset, net.mask(members[own], i))
                offset += size
    return content.tobytes()


def addresses(mask: Bools, row: Ints, code: Ints, columns: int) -> Ints:
    """The word of every weight as a task reads it: row * columns + code under the mask, -1 outside, in whole bytes."""
    words = np.where(mask, row * columns + code, -1).reshape(-1)
    return np.pad(words, (0, -words.size % 8), constant_values=-1)


def words_digest(words: Ints) -> str:
    """Digest of :func:`addresses` as 32-bit little-endian integers: what the metadata keep."""
    return digest(words.astype("<i4").tobytes())[:DIGEST_LETTERS]


def _plane_bytes(net: PackedNetwork, layer: int) -> int:
    return -(-net.layers[layer].weight_count // 8)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def packed(bits: Bools) -> Bytes:
    """Bits (..., elements) as planes (..., 1, bytes): bit j of byte i is that of element ``j * bytes + i``.

    >>> packed(np.array([1, 0, 1, 0, 0, 0, 0, 0, 1], bool)).tolist()
    [[19, 0]]
    """
    size = -(-bits.shape[-1] // 8)
    padding = [(0, 0)] * (bits.ndim - 1) + [(0, 8 * size - bits.shape[-1])]
    return np.packbits(np.pad(bits, padding).reshape(*bits.shape[:-1], 8, size), axis=-2, bitorder="little")


def _put(content: Bytes, offset: int, bits: Bools) -> None:
    plane = packed(bits.reshape(-1)).reshape(-1)
    content[offset : offset + len(plane)] = plane


def _runs(offsets: Iterable[int], stride: int) -> list[PlaneRun]:
    """Merge planes that follow one another.

    >>> _runs([0, 64, 256], 64)
    [PlaneRun(offset=0, planes=2), PlaneRun(offset=256, planes=1)]
    """
    runs: list[PlaneRun] = []
    for offset in offsets:
        if runs and runs[-1].offset + runs[-1].planes * stride == offset:
            runs[-1] = PlaneRun(runs[-1].offset, runs[-1].planes + 1)
        else:
            runs.append(PlaneRun(offset, 1))
    return runs
