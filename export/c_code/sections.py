"""Sections: what the runtime reads, a task or the shared weights of a bank in each, as bytes of no machine's order.

``hls_templates/c/tsn_internal.h`` says how they are made; the fields of a record follow one another as in its ``enum``.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from export.c_code.scratch import Scratch, plan, source_of
from export.c_code.weights import Optimize, SharedWords, WeightList, pack_low_first, shared_words, weight_list
from tsn_hw.core import arithmetic, artifact
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import ExportError
from tsn_hw.core.facts import LayerFacts
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Shape, Weighted, refused
from tsn_hw.core.network import PackedNetwork, Requantization

MAGIC, VERSION, HEAD_BYTES = b"TSN1", 1, 48
PADDING = bytes(3)
"""What the runtime may read behind the last bits of a section, and does not use."""
PRODUCTS, MAX_POOL, AVERAGE_POOL, ADD = range(4)
INT32 = 4
MAX_BITS = 2**32


@dataclass(frozen=True)
class Choice:
    """How the weights of a layer lie in flash, and the bytes that this takes for all of its tasks in a bank."""

    layer: str
    bank: int
    layout: str
    size_bytes: int
    other_bytes: int


@dataclass(frozen=True)
class Tensor:
    """A tensor in RAM: place in the scratch buffer plus 1 (0: the input; logits have none), type, bits, and shape."""

    place: int
    type: int
    bits: int
    shape: tuple[int, int, int]


@dataclass
class _Section:
    """A section while it is written."""

    data: bytearray
    records: bytearray

    def place(self, data: bytes) -> int:
        """Append data; the byte of the section where it begins."""
        self.data += data
        return HEAD_BYTES + len(self.data) - len(data)


@dataclass(frozen=True)
class _Words:
    """Fields of a record: where its weights are, see tsn_internal.h."""

    layout: int = 0
    bank: int = 0
    gap_bits: int = 0
    value_bits: int = 0
    value_bytes: int = 0
    table_at: int = 0
    words_at: int = 0
    mask_at: int = 0
    entries: int = 0


@dataclass(frozen=True, eq=False)
class Sections:
    """The bytes of a network: a section a task, then those of the banks that share words."""

    tasks: tuple[bytes, ...]
    banks: tuple[bytes, ...]
    choices: tuple[Choice, ...]
    scratch_bytes: int

    @property
    def flash_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(map(len, self.tasks + self.banks))


def sections(net: PackedNetwork, optimize: Optimize) -> Sections:
    """The sections of a network; ExportError where this back end does not compute a layer."""
    lists = {
        (task, index): weight_list(net.weights(task, index), optimize)
        for task in range(len(net.tasks))
        for index, layer, _ in net.run_order(task)
        if isinstance(layer, Weighted)
    }
    choices, shared = _choose(net, lists, optimize)
    banks, words = _bank_sections(net, shared)
    plans = [plan(net, task) for task in range(len(net.tasks))]
    digests = [bytes(8)] + [_digest(net.first_tasks(count + 1)) for count in range(len(net.tasks))]
    tasks = []
    for task, scratch in enumerate(plans):
        made = _Section(bytearray(), bytearray())
        for index, layer, _ in net.run_order(task):
            if not isinstance(layer, Flatten):
                found = _weights(made, net, (task, index), lists, words)
                made.records += _record(made, net, (task, index), scratch, found)
        name = made.place(net.tasks[task].name.encode() + b"\0")
        layers = sum(not isinstance(layer, Flatten) for _, layer, _ in net.run_order(task))
        outputs = len(net.tasks[task].classes)
        tasks.append(_sealed(made, (layers, outputs, name), digests[task] + digests[task + 1]))
    return Sections(tuple(tasks), tuple(banks), tuple(choices), max(scratch.size_bytes for scratch in plans))


def _digest(net: PackedNetwork) -> bytes:
    return hashlib.sha256(artifact.to_bytes(net)).digest()[:8]


def _choose(
    net: PackedNetwork, lists: Mapping[tuple[int, int], WeightList], optimize: Optimize
) -> tuple[list[Choice], dict[tuple[int, int], SharedWords]]:
    """Lists or shared words for every layer of every bank: what is smaller; lists alone where speed counts."""
    choices, shared = [], {}
    for bank in range(len(net.banks)):
        for index in net.weighted:
            tasks = [task for task in net.bank_tasks(bank) if (task, index) in lists]
            if not tasks:
                continue
            listed = sum(lists[task, index].size_bytes for task in tasks)
            words = shared_words([(net.mask(task, index), net.weights(task, index)) for task in tasks])
            masked = words.size_bytes + len(tasks) * -(-words.entries.size // 8)
            is_shared = optimize == "size" and masked < listed
            if is_shared:
                shared[bank, index] = words
            layout, sizes = ("shared", (masked, listed)) if is_shared else ("lists", (listed, masked))
            choices.append(Choice(net.layers[index].name, bank, layout, *sizes))
    return choices, shared


def _bank_sections(
    net: PackedNetwork, shared: Mapping[tuple[int, int], SharedWords]
) -> tuple[list[bytes], dict[tuple[int, int], _Words]]:
    """A section for every bank that has shared words, and where they are, by bank and layer."""
    made: list[bytes] = []
    places: dict[tuple[int, int], _Words] = {}
    for bank in sorted({bank for bank, _ in shared}):
        section = _Section(bytearray(), bytearray())
        for (own, index), words in shared.items():
            if own == bank:
                values, number = words.values, len(net.tasks) + len(made)
                places[bank, index] = _Words(
                    layout=1,
                    bank=number,
                    value_bits=values.bits,
                    value_bytes=values.entry_bytes,
                    table_at=section.place(values.data),
                    words_at=section.place(words.data),
                    entries=words.entries.size,
                )
        made.append(_sealed(section, (0, 0, 0), bytes(16)))
    return made, places


def _weights(
    made: _Section,
    net: PackedNetwork,
    place: tuple[int, int],
    lists: Mapping[tuple[int, int], WeightList],
    shared: Mapping[tuple[int, int], _Words],
) -> _Words:
    """The weights of a (task, layer), their data appended to its section."""
    task, index = place
    if place not in lists:
        return _Words()
    words = shared.get((net.tasks[task].bank, index))
    if words is not None:
        mask_at = made.place(pack_low_first(net.mask(task, index), 1))
        return _Words(**{**vars(words), "mask_at": mask_at})
    own = lists[place]
    bits = own.gap_bits + own.values.bits
    if len(own.gaps) * bits >= MAX_BITS:
        raise ExportError(f"layer {net.layers[index].name!r}: its weights take 2**32 bits or more, too many for C")
    table_at, words_at = made.place(own.values.data), made.place(own.data)
    value_bits, value_bytes = own.values.bits, own.values.entry_bytes
    return _Words(0, 0, own.gap_bits, value_bits, value_bytes, table_at, words_at, 0, len(own.gaps))


def _tensor(net: PackedNetwork, task: int, index: int, scratch: Scratch) -> Tensor:
    source, shape = source_of(net, index), _three(net.shape(index))
    if source == net.head(task):
        return Tensor(0, INT32, 32, shape)
    form: ActFormat = net.format(task, source)
    place = 0 if source == INPUT else scratch.places[source] + 1
    return Tensor(place, form.signed + 2 * (form.bits > 8), form.bits, shape)


def _three(shape: Shape) -> tuple[int, int, int]:
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width


def _record(made: _Section, net: PackedNetwork, place: tuple[int, int], scratch: Scratch, words: _Words) -> bytes:
    """The record of a layer, its scales appended to the section."""
    task, index = place
    layer = net.layers[index]
    kind, window = _geometry(layer)
    sources = [_tensor(net, task, source, scratch) for source in layer.inputs]
    source, other, target = sources[0], sources[-1], _tensor(net, task, index, scratch)
    shifts, widths, scales, signed = [0, 0], [0, 0], [0] * 5, [0, 0]
    if layer.computes:
        facts = net.facts(task, index)
        shifts = [*facts.left_shifts, 0][:2]
        scales, signed = _scales(made, facts.requantization)
        widths = [int(facts.accumulator >= 1 << 31), int(_is_narrow(facts, bool(scales[0])))]
    fields = [kind, index, source.place, source.type, other.place, other.type, target.place, target.type, target.bits]
    fields += [*source.shape, *target.shape, *window, *shifts, *widths, *scales, *astuple(words)]
    return b"".join(map(varint, fields)) + b"".join(map(_signed_varint, signed))


def _is_narrow(facts: LayerFacts, is_bias: bool) -> bool:
    """Whether 32 bits hold what the requantization adds, and what it gives before it saturates."""
    scales = facts.requantization
    addend = scales.offset // scales.multiplier if is_bias else scales.offset
    reach = arithmetic.magnitude(facts.low + addend, facts.high + addend) if is_bias else facts.bound
    largest = max(facts.accumulator, reach, (facts.bound >> scales.shift) + 1)
    return scales.shift < 32 and largest < 1 << 31 and arithmetic.magnitude(addend) < 1 << 31


def _geometry(layer: Layer) -> tuple[int, tuple[int, ...]]:
    """Kind of a layer, and kernel, stride, padding and groups."""
    match layer:
        case Linear():
            return PRODUCTS, (1, 1, 1, 1, 0, 0, 1)
        case Conv2d():
            if layer.dilation != (1, 1):
                raise ExportError(f"layer {layer.name!r}: dilation {layer.dilation} is not supported by C")
            return PRODUCTS, (*layer.kernel, *layer.stride, *layer.padding, layer.groups)
        case MaxPool() | AvgPool():
            kind = MAX_POOL if isinstance(layer, MaxPool) else AVERAGE_POOL
            return kind, (*layer.kernel, *layer.stride, 0, 0, 1)
        case Add():
            return ADD, (1, 1, 1, 1, 0, 0, 1)
        case _:
            raise refused(layer, "C")


def _scales(made: _Section, requantization: Requantization) -> tuple[list[int], list[int]]:
    """Form, shift, widths and place of multipliers and addends, and the smallest of both.

    The addend is the offset, or offset / multiplier where that is exact and narrower: it then comes before the product.
    """
    multiplier, offset = requantization.multiplier, requantization.offset
    forms: list[tuple[int, Ints]] = [(0, offset)]
    if multiplier.all() and not (offset % multiplier).any():
        forms.append((1, offset // multiplier))
    is_bias, addend = min(forms, key=lambda form: _span_bits(form[1]))
    pairs = np.stack([multiplier, addend], axis=1)
    least = [int(multiplier.min()), int(addend.min())]
    bits = [_span_bits(multiplier), _span_bits(addend)]
    rest = [[(value - low) % 2**64 for value, low in zip(pair, least, strict=True)] for pair in pairs.tolist()]
    at = made.place(pack_low_first(np.array(rest, np.uint64), np.broadcast_to(bits, pairs.shape)))
    return [is_bias, requantization.shift, *bits, at], least


def _span_bits(values: Ints) -> int:
    """Bits of the distance of any value from the smallest."""
    return (int(values.max()) - int(values.min())).bit_length()


def varint(value: int) -> bytes:
    """7 bits a byte, the lowest first; the highest bit says that another byte follows.

    >>> varint(300).hex()
    'ac02'
    """
    septets = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([septet | 0x80 for septet in septets[:-1]] + septets[-1:])


def _signed_varint(value: int) -> bytes:
    """0, -1, 1, -2 ... as 0, 1, 2, 3 ..."""
    return varint(2 * value if value >= 0 else -2 * value - 1)


def _sealed(made: _Section, numbers: Sequence[int], digests: bytes) -> bytes:
    """Head, data and records; ``numbers``: layers, outputs and the place of the name."""
    records_at = HEAD_BYTES + len(made.data)
    size = records_at + len(made.records) + len(PADDING)
    if size >= MAX_BITS // 8:
        raise ExportError(f"C holds sections below {MAX_BITS // 8} bytes, one has {size}")
    body = np.array([VERSION, records_at, *numbers], "<u4").tobytes() + digests + made.data + made.records + PADDING
    return MAGIC + np.array([size, zlib.crc32(body)], "<u4").tobytes() + body
