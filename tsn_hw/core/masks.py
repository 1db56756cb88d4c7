"""Coding of masks: which weights of one layer many tasks read, within a few percent of the entropy.

Tasks are taken in groups of ``group``. In a group every weight has a *symbol*: one bit a task, the first task least
significant. The symbols of a layer, in flat C order, are one text::

    text    = plan value* flags* rest      plan = number of peeled values << 4 | kind of the rest
    rest    = RAW: symbols of ``width`` bits | CONSTANT: value | HUFFMAN: lengths payload
    lengths = 4 bits for each of the 2**width symbols, written plainly (width <= 4) or as a text of width 4
    flags   = plan density count [lengths] payload low      plan = number of low bits << 1 | inverted

A value is one byte, two if the width exceeds 8; every part ends on a byte, padded with zeros. Codes are canonical:
shorter ones first, then smaller symbols first; 15 bits at most.

A Huffman code spends at least one bit a symbol, and loses several percent on some small alphabets. So frequent
symbols are *peeled* off where that pays: flags tell where the value does not stand, and the text goes on without it
(by the chain rule of entropy nothing is lost). Flags, inverted if most are ones, are coded as the gaps before ones:
the low bits of each gap plainly, the others in unary, as that many zeros and a one. These ``count`` (LEB128) unary
bits are cut into bytes and Huffman-coded, with the code for independent bits that are ones with probability
``density`` / 32 (package-merge of the counts density**ones * (32 - density)**zeros; among equal weights symbols come
before packages, smaller symbols first), or with 256 plain lengths of their own (density 0). It is a Rice code with an
entropy-coded unary part.

Huffman 1952; Rice and Plaunt 1971; Larmore and Hirschberg 1990 (package-merge).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice

import numpy as np
from bitarray import bitarray
from bitarray.util import canonical_decode
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import ArtifactError, NetworkError
from tsn_hw.core.huffman import MAX_LENGTH, Lengths, canonical, code_lengths, huffman_bits
from tsn_hw.core.memory import pack_fields, unpack_fields
from tsn_hw.core.network import Bools

Symbols = NDArray[np.uint16]

GROUP = 10
MAX_GROUP = 16
MAX_LOW_BITS = 15
_RAW, _CONSTANT, _HUFFMAN = range(3)
_MAX_PEELED = 6
_LENGTH_BITS = 4
_PEEL_BITS = 56
"""What a peeled value costs besides its entropy: itself, plan, density, count and padding."""
_FLAGS_LOSS = 1.01
"""Coded size of flags over their entropy, as a rule."""


def encode_masks(planes: Bools, group: int = GROUP) -> bytes:
    """Masks (tasks, weights) as bytes. Adding tasks changes only the bytes of the last, incomplete group."""
    return b"".join(_encode_symbols(symbols, width) for symbols, width in _groups(planes, group))


def decode_masks(data: bytes, tasks: int, weights: int, group: int = GROUP) -> Bools:
    """The masks (tasks, weights) that :func:`encode_masks` coded; ArtifactError if ``data`` is not such a text."""
    _check_group(group)
    reader = _Reader(data)
    planes = np.empty((tasks, weights), np.bool_)
    for start in range(0, tasks, group):
        width = min(group, tasks - start)
        symbols = _decode_symbols(reader, weights, width)
        for task in range(width):
            np.not_equal(symbols & np.uint16(1 << task), 0, out=planes[start + task])
    if left := len(reader.rest()):
        raise ArtifactError(f"masks: {left} bytes left over at the end")
    return planes


def entropy_bits(planes: Bools, group: int = GROUP) -> float:
    """Order-0 entropy of the symbols of masks (tasks, weights), in bits: what no code of single symbols can beat."""
    return sum(_entropy(np.bincount(symbols)) for symbols, _ in _groups(planes, group))


def _groups(planes: Bools, group: int) -> Iterator[tuple[Symbols, int]]:
    """The symbols of every group of tasks, and their width in bits."""
    _check_group(group)
    for start in range(0, len(planes), group):
        members = planes[start : start + group]
        symbols = np.zeros(planes.shape[1], np.uint16)
        bit = np.empty_like(symbols)
        for task, plane in enumerate(members):
            np.left_shift(plane, np.uint16(task), out=bit, dtype=np.uint16, casting="unsafe")
            np.bitwise_or(symbols, bit, out=symbols)
        yield symbols, len(members)


def _check_group(group: int) -> None:
    if not 1 <= group <= MAX_GROUP:
        raise NetworkError(f"masks: groups of {group} tasks, must be 1..{MAX_GROUP}")


def _entropy(counts: Ints) -> float:
    used = counts[counts > 0]
    return float((used * np.log2(used.sum() / used)).sum())


class _Reader:
    """A cursor over bytes that refuses to run over their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise ArtifactError(f"masks: {size} bytes expected at byte {start}, the text has {len(self._data)}")
        return self._data[start : self._position]

    def rest(self) -> bytes:
        """What has not been taken."""
        return self._data[self._position :]

    def fields(self, width: int, count: int) -> Symbols:
        return unpack_fields(self.take((width * count + 7) // 8), width, count).astype(np.uint16)

    def value(self, width: int) -> int:
        value = int.from_bytes(self.take(_value_bytes(width)), "little")
        if value >> width:
            raise ArtifactError(f"masks: symbol {value} is wider than {width} bits")
        return value

    def count(self, largest: int) -> int:
        """A LEB128 integer in 0..largest."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if value > largest or shift > 35:
                raise ArtifactError(f"masks: count {value} exceeds {largest}")
            if byte < 0x80:
                return value


def _value_bytes(width: int) -> int:
    return 1 if width <= 8 else 2


def _leb128(value: int) -> bytes:
    septets = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([septet | 0x80 for septet in septets[:-1]] + septets[-1:])


# ---------------------------------------------------------------------------------------------------------- symbols


def _encode_symbols(symbols: Symbols, width: int) -> bytes:
    counts = np.bincount(symbols, minlength=1 << width)
    if len(symbols) * width > 16 and counts[symbols[0]] == len(symbols):
        return bytes([_CONSTANT]) + int(symbols[0]).to_bytes(_value_bytes(width), "little")
    peeled = _choose_peeled(counts, width)
    head, flags, rest = bytearray(), b"", symbols
    for value in peeled:
        head += value.to_bytes(_value_bytes(width), "little")
        others = rest != value
        flags += _encode_flags(others)
        counts[value] = 0
        if np.count_nonzero(counts) > 1:  # a constant rest is not read
            rest = rest[np.flatnonzero(others)]
    kind, body = _encode_rest(rest, counts, width)
    coded = bytes([len(peeled) << 4 | kind]) + head + flags + body
    if len(coded) > 1 + (len(symbols) * width + 7) // 8:
        return bytes([_RAW]) + pack_fields(symbols, width)
    return coded


def _encode_rest(symbols: Symbols, counts: Ints, width: int) -> tuple[int, bytes]:
    used = np.flatnonzero(counts)
    if len(used) <= 1:
        return _CONSTANT, int(used.sum()).to_bytes(_value_bytes(width), "little")
    if huffman_bits(counts) >= int(counts.sum()) * width:
        return _RAW, pack_fields(symbols, width)
    lengths, table = _choose_lengths(counts, width)
    return _HUFFMAN, table + _encode_huffman(symbols, lengths)


def _choose_lengths(counts: Ints, width: int) -> tuple[Lengths, bytes]:
    """Code lengths and their table: shorter limits cost some bits of the text and save some of the table."""
    best, lengths, table = 0, np.zeros(0, np.uint8), b""
    limit = MAX_LENGTH
    while 1 << limit >= np.count_nonzero(counts):
        candidate = code_lengths(counts, limit)
        if width <= _LENGTH_BITS:
            coded = pack_fields(candidate, _LENGTH_BITS)
        else:
            coded = _encode_symbols(candidate.astype(np.uint16), _LENGTH_BITS)
        bits = int((counts * candidate).sum()) + 8 * len(coded)
        if table and bits >= best:
            break
        best, lengths, table = bits, candidate, coded
        limit = int(candidate.max()) - 1
    return lengths, table


def _decode_symbols(reader: _Reader, count: int, width: int) -> Symbols:
    plan = reader.take(1)[0]
    peeled = [reader.value(width) for _ in range(plan >> 4)]
    flags: list[Bools] = []
    remaining = count
    for _ in peeled:
        flags.append(_decode_flags(reader, remaining))
        remaining = int(np.count_nonzero(flags[-1]))
    symbols = _decode_rest(reader, plan & 15, remaining, width)
    for value, others in zip(reversed(peeled), reversed(flags), strict=True):
        whole = np.full(len(others), value, np.uint16)
        whole[np.flatnonzero(others)] = symbols  # four times as fast as whole[others]
        symbols = whole
    return symbols


def _decode_rest(reader: _Reader, kind: int, count: int, width: int) -> Symbols:
    if kind == _RAW:
        return reader.fields(width, count)
    if kind == _CONSTANT:
        return np.full(count, reader.value(width), np.uint16)
    if kind != _HUFFMAN:
        raise ArtifactError(f"masks: {kind} is no kind of text")
    if width <= _LENGTH_BITS:
        lengths = reader.fields(_LENGTH_BITS, 1 << width)
    else:
        lengths = _decode_symbols(reader, 1 << width, _LENGTH_BITS)
    return _decode_huffman(reader, lengths, count)


def _choose_peeled(counts: Ints, width: int) -> list[int]:
    """The most frequent symbols, as many as it pays to peel off."""
    order = np.argsort(-counts, kind="stable")
    remaining = counts.copy()
    total, spent = int(counts.sum()), 0
    best, chosen = total * width + 1, 0
    for peeled in range(min(_MAX_PEELED + 1, int(np.count_nonzero(counts)))):
        if spent + min(_entropy(remaining) - 1, total * width) < best:  # no code takes less than the entropy
            cost = spent + min(huffman_bits(remaining), total * width)
            if cost < best:
                best, chosen = cost, peeled
        top = int(remaining[order[peeled]])
        spent += round(_FLAGS_LOSS * _entropy(np.array([top, total - top]))) + _PEEL_BITS
        remaining[order[peeled]] = 0
        total -= top
    return [int(value) for value in order[:chosen]]


# ------------------------------------------------------------------------------------------------------------ flags


def _encode_flags(flags: Bools) -> bytes:
    inverted = 2 * int(np.count_nonzero(flags)) > len(flags)
    flags = ~flags if inverted else flags
    low_bits = _choose_low_bits(int(np.count_nonzero(flags)), len(flags))
    unary, low = _split_gaps(flags, low_bits)
    blocks = np.packbits(unary)
    density = min(max(1, round(32 * int(np.count_nonzero(unary)) / max(1, len(unary)))), 31)
    lengths, table = _block_lengths(density), b""
    counts = np.bincount(blocks, minlength=256)
    own = code_lengths(counts)
    if int((counts * own).sum()) + 256 * _LENGTH_BITS < int((counts * lengths).sum()):
        density, lengths, table = 0, own, pack_fields(own, _LENGTH_BITS)
    head = bytes([low_bits << 1 | inverted, density]) + _leb128(len(unary)) + table
    return head + _encode_huffman(blocks, lengths) + pack_fields(low, low_bits)


@cache
def _block_lengths(density: int) -> Lengths:
    """Code lengths of bytes whose bits are ones with probability density / 32, independently."""
    ones = np.bitwise_count(np.arange(256, dtype=np.uint8)).astype(np.int64)
    return code_lengths(density**ones * (32 - density) ** (8 - ones))


def _choose_low_bits(ones: int, count: int) -> int:
    """So many that about a third of the unary bits (0.25..0.43) are ones: blocks of them suit a Huffman code."""
    low_bits = 0
    while low_bits < MAX_LOW_BITS and 7 * (ones << low_bits) < 2 * count:
        low_bits += 1
    return low_bits


def _split_gaps(flags: Bools, low_bits: int) -> tuple[Bools, Ints]:
    """The gaps before the ones: their upper parts in unary, and their low bits."""
    ones = np.flatnonzero(flags)
    if low_bits == 0:
        return flags[: int(ones[-1]) + 1 if len(ones) else 0], np.zeros(0, np.int64)
    gaps = np.diff(ones, prepend=-1) - 1
    ends = np.cumsum((gaps >> low_bits) + 1)
    unary = np.zeros(int(ends[-1]) if len(ends) else 0, np.bool_)
    unary[ends - 1] = True
    return unary, gaps & ((1 << low_bits) - 1)


def _decode_flags(reader: _Reader, count: int) -> Bools:
    plan, density = reader.take(2)
    low_bits, inverted = plan >> 1, bool(plan & 1)
    if low_bits > MAX_LOW_BITS or density > 31:
        raise ArtifactError(f"masks: {plan:#04x}, {density:#04x} is no plan of flags")
    unary = _decode_unary(reader, reader.count(count), density)
    flags = np.full(count, inverted)
    if low_bits == 0:
        flags[: len(unary)] = unary ^ inverted
        return flags
    ends = np.flatnonzero(unary)
    low = reader.fields(low_bits, len(ends))
    places = np.cumsum(((np.diff(ends, prepend=-1) - 1) << low_bits) + low + 1) - 1
    if len(places) and places[-1] >= count:
        raise ArtifactError(f"masks: a flag at {places[-1]}, there are {count}")
    flags[places] = not inverted
    return flags


def _decode_unary(reader: _Reader, size: int, density: int) -> Bools:
    lengths = _block_lengths(density) if density else reader.fields(_LENGTH_BITS, 256)
    blocks = _decode_huffman(reader, lengths, (size + 7) // 8)
    bits = np.unpackbits(blocks.astype(np.uint8)).view(np.bool_)
    if (size and not bits[size - 1]) or bits[size:].any():
        raise ArtifactError(f"masks: {size} unary bits do not end with a one and zeros to the byte")
    return bits[:size]


# ---------------------------------------------------------------------------------------------------------- Huffman


def _encode_huffman(symbols: NDArray[np.unsignedinteger], lengths: Lengths) -> bytes:
    counts, order = canonical(lengths)
    words = np.zeros(len(lengths), np.uint64)
    first = start = 0
    for count in counts:
        first <<= 1
        words[order[start : start + count]] = np.arange(first, first + count)
        first, start = first + count, start + count
    return pack_fields(words[symbols], lengths[symbols])


def _decode_huffman(reader: _Reader, lengths: NDArray[np.integer], count: int) -> Symbols:
    counts, order = canonical(lengths)
    kraft = sum(number << (MAX_LENGTH - length) for length, number in enumerate(counts))
    if kraft != 1 << MAX_LENGTH and not (len(order) == 1 and counts[1] == 1):
        raise ArtifactError(f"masks: code lengths fill {kraft} of {1 << MAX_LENGTH} leaves of the code tree")
    data = reader.rest()
    if count > 8 * len(data):
        raise ArtifactError(f"masks: {count} symbols in {len(data)} bytes")
    bits = bitarray(endian="big")
    bits.frombytes(data)
    try:
        symbols = np.fromiter(islice(canonical_decode(bits, counts, order.tolist()), count), np.uint16, count=count)
    except ValueError as error:
        raise ArtifactError(f"masks: a Huffman text of {count} symbols is cut or altered: {error}") from error
    size = int(lengths[symbols].sum(dtype=np.int64))
    reader.take((size + 7) // 8)
    if size % 8 and data[size // 8] & (0xFF >> size % 8):
        raise ArtifactError("masks: a Huffman text is not padded with zeros")
    return symbols
