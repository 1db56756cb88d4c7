"""The section of a task and its records, as bytes of no machine's order.

``hls_templates/c/tsn_internal.h`` says how they are made; the fields of a record follow one another as in its ``enum``.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from export.c_code.scratch import Scratch, plan, source_of
from export.c_code.weights import Values, WeightList, pack_low_first
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import ExportError
from tsn_hw.core.facts import LayerFacts
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Shape, refused
from tsn_hw.core.network import Bools, PackedNetwork, Requantization

MAGIC, VERSION, HEAD_BYTES = b"TSN1", 1, 56
DIGEST_BYTES = 8
"""Of a chain of seals, see :func:`export.c_code.sections.chain`."""
PADDING = bytes(3)
"""What the runtime may read behind the last bits of a section, and does not use."""
PRODUCTS, MAX_POOL, AVERAGE_POOL, ADD = range(4)
INT32 = 4
MAX_BITS = 2**32


@dataclass(frozen=True)
class Tensor:
    """A tensor in RAM: place in the scratch buffer plus 1 (0: the input; logits have none), type, bits, and shape."""

    place: int
    type: int
    bits: int
    shape: tuple[int, int, int]


@dataclass
class Section:
    """A section while it is written: data and records, which stand behind it."""

    data: bytearray
    records: bytearray

    def place(self, data: bytes) -> int:
        """Append data; the byte of the section where it begins."""
        self.data += data
        return HEAD_BYTES + len(self.data) - len(data)


@dataclass(frozen=True, eq=False)
class BankWords:
    """The words of a layer in the section of a bank: how they are written, where, and every value (places,)."""

    values: Values
    table_at: int
    words_at: int
    entries: Ints


@dataclass(frozen=True, eq=False)
class BankSection:
    """The section of a bank, its number in the network, and the words of its layers, by name."""

    number: int
    data: bytes
    words: Mapping[str, BankWords]

    @property
    def crc(self) -> int:
        """The CRC-32 that stands in its head."""
        return int.from_bytes(self.data[8:12], "little")


@dataclass(frozen=True, eq=False)
class Stored:
    """The weights of a task in a layer: those that a mask takes from words of the bank, and those of a list."""

    listed: WeightList | None = None
    mask: Bools | None = None
    words: BankWords | None = None


@dataclass(frozen=True)
class Seals:
    """Digests of all tasks before a section and with it, and the SHA-256 of the .tsn that ends with it, if any."""

    before: bytes
    after: bytes
    network: str = ""


@dataclass(frozen=True)
class _Weights:
    """The fields of a record that say where weights are."""

    bank: int = 0
    places: int = 0
    bank_value_bits: int = 0
    bank_value_bytes: int = 0
    bank_table_at: int = 0
    bank_words_at: int = 0
    mask_at: int = 0
    entries: int = 0
    gap_bits: int = 0
    value_bits: int = 0
    value_bytes: int = 0
    table_at: int = 0
    words_at: int = 0


def task_section(
    net: PackedNetwork, task: int, stored: Mapping[int, Stored], bank: BankSection | None, seals: Seals
) -> bytes:
    """The section of a task: ``stored`` are its weights by layer, ``bank`` is what their masks are about."""
    made, scratch = Section(bytearray(), bytearray()), plan(net, task)
    layers = [index for index, layer, _ in net.run_order(task) if not isinstance(layer, Flatten)]
    for index in layers:
        found = _weights(made, net.layers[index].name, stored.get(index, Stored()), bank)
        made.records += _record(made, net, (task, index), scratch, found)
    name = made.place(net.tasks[task].name.encode() + b"\0" + seals.network.encode() + b"\0")
    is_masked = any(part.words is not None for part in stored.values())
    crc = bank.crc if bank is not None and is_masked else 0
    numbers = (len(layers), len(net.tasks[task].classes), name, scratch.size_bytes, crc)
    return sealed(made, numbers, seals.before + seals.after)


def bank_section(words: Mapping[str, tuple[Values, bytes, Ints]], number: int) -> BankSection:
    """The section of a bank from the values, the packed words and every value of its layers, by name."""
    made, places = Section(bytearray(), bytearray()), {}
    for name, (values, data, entries) in words.items():
        places[name] = BankWords(values, made.place(values.data), made.place(data), entries)
    return BankSection(number, sealed(made, (0,) * 5, bytes(2 * DIGEST_BYTES)), places)


def _weights(made: Section, layer: str, stored: Stored, bank: BankSection | None) -> _Weights:
    """Where the weights of a layer are, their data appended to the section of the task."""
    fields = _Weights()
    if bank is not None and stored.mask is not None and stored.words is not None:
        words = stored.words
        at = made.place(pack_low_first(stored.mask, 1))
        places = (words.values.bits, words.values.entry_bytes, words.table_at, words.words_at, at)
        fields = _Weights(bank.number, stored.mask.size, *places)
    own = stored.listed
    if own is None or not len(own.gaps):
        return fields
    if len(own.gaps) * (own.gap_bits + own.values.bits) >= MAX_BITS:
        raise ExportError(f"layer {layer!r}: its weights take 2**32 bits or more, too many for C")
    table_at, words_at = made.place(own.values.data), made.place(own.data)
    return replace(
        fields,
        entries=len(own.gaps),
        gap_bits=own.gap_bits,
        value_bits=own.values.bits,
        value_bytes=own.values.entry_bytes,
        table_at=table_at,
        words_at=words_at,
    )


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


def _record(made: Section, net: PackedNetwork, place: tuple[int, int], scratch: Scratch, weights: _Weights) -> bytes:
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
        widths = [int(facts.accumulator >= 1 << 31), int(is_narrow(facts))]
    fields = [kind, index, source.place, source.type, other.place, other.type, target.place, target.type, target.bits]
    fields += [*source.shape, *target.shape, *window, *shifts, *widths, *scales, *astuple(weights)]
    return b"".join(map(varint, fields)) + b"".join(map(_signed_varint, signed))


def is_narrow(facts: LayerFacts) -> bool:
    """Whether 32 bits hold what the requantization computes before it saturates, half of 2**shift included."""
    shift = facts.requantization.shift
    return shift < 32 and facts.bound + (1 << shift >> 1) < 1 << 31


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


def _scales(made: Section, requantization: Requantization) -> tuple[list[int], list[int]]:
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


def sealed(made: Section, numbers: Sequence[int], digests: bytes) -> bytes:
    """Head, data and records; ``numbers``: layers, outputs, place of the name, bytes of tensors, CRC-32 of the bank."""
    records_at = HEAD_BYTES + len(made.data)
    size = records_at + len(made.records) + len(PADDING)
    if size >= MAX_BITS // 8:
        raise ExportError(f"C holds sections below {MAX_BITS // 8} bytes, one has {size}")
    body = np.array([VERSION, records_at, *numbers], "<u4").tobytes() + digests + made.data + made.records + PADDING
    return MAGIC + np.array([size, zlib.crc32(body)], "<u4").tobytes() + body
