"""Words and the bits they are made of.

A logical word is ``bank | prefix | code``, most significant bit first: which weight memory, which owner, and the index
into the codebook of that owner. It exists for interchange, debugging and tests: an unused weight has no word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import ArtifactError, NetworkError

Fields = NDArray[np.uint64]


def pack_fields(values: ArrayLike, widths: ArrayLike) -> bytes:
    """Unsigned integers as bit fields, most significant bit first, without gaps, zero-padded to a byte.

    ``widths``: bits of each field (0..64), one for all or one a value. A value that does not fit raises NetworkError.

    >>> pack_fields([1, 2, 3], 4).hex(), pack_fields([1, 0b10, 0b11111], [1, 2, 5]).hex()
    ('1230', 'df')
    """
    fields = values.ravel() if isinstance(values, np.ndarray) else np.asarray(values, np.uint64)
    if fields.dtype.kind != "u":
        fields = fields.astype(np.uint64)  # a negative value becomes one that fits no field below 64 bits
    bits = np.asarray(widths, np.uint64)
    # a shift by 64 gives 0 in numpy: fields of 0 and of 64 bits need no case of their own
    fits = fields >> bits == 0 if bits.ndim else fields.max(initial=0) >> bits == 0
    if not fits.all():
        place = int(np.flatnonzero(fields >> bits)[0])
        width = np.broadcast_to(bits, fields.shape)[place]
        raise NetworkError(f"field {place}: {fields[place]} does not fit {width} bits")
    return _pack_mixed(fields.astype(np.uint64, copy=False), bits) if bits.ndim else _pack_uniform(fields, int(bits))


def unpack_fields(data: bytes, widths: ArrayLike, count: int) -> Fields:
    """The ``count`` bit fields that :func:`pack_fields` wrote with these widths.

    Raises ArtifactError when ``data`` is not exactly as long as the fields, or is not padded with zeros.

    >>> unpack_fields(bytes.fromhex("df"), [1, 2, 5], 3).tolist()
    [1, 2, 31]
    """
    bits = np.asarray(widths, np.uint64)
    total = int(bits.sum()) if bits.ndim else count * int(bits)
    if len(data) != (total + 7) // 8:
        raise ArtifactError(f"{count} fields of {total} bits in all take {(total + 7) // 8} bytes, found {len(data)}")
    if total % 8 and data[-1] & (0xFF >> total % 8):
        raise ArtifactError(f"the last byte {data[-1]:#04x} is not padded with zeros after bit {total % 8}")
    return _unpack_mixed(data, bits) if bits.ndim else _unpack_uniform(data, int(bits), count)


def _pack_uniform(fields: NDArray[np.unsignedinteger], width: int) -> bytes:
    container = _container(width)
    bits = np.unpackbits(fields.astype(container).view(np.uint8)).reshape(len(fields), 8 * container.itemsize)
    return np.packbits(bits[:, bits.shape[1] - width :]).tobytes()


def _unpack_uniform(data: bytes, width: int, count: int) -> Fields:
    container = _container(width)
    bits = np.zeros((count, 8 * container.itemsize), np.uint8)
    packed = np.frombuffer(data, np.uint8)
    bits[:, bits.shape[1] - width :] = np.unpackbits(packed, count=count * width).reshape(count, width)
    return np.packbits(bits).view(container).astype(np.uint64)


def _container(width: int) -> np.dtype[np.unsignedinteger]:
    """The smallest big-endian unsigned integer that holds a field."""
    return np.dtype(next(f">u{size}" for size in (1, 2, 4, 8) if width <= 8 * size))


def _pack_mixed(fields: Fields, bits: Fields) -> bytes:
    first, start, total = _places(bits)
    words = np.zeros(total // 64 + 2, np.uint64)
    if len(fields):
        end = start + bits
        spilt = end > 64  # these go on in the next word; at most one field does so for each word
        over = np.where(spilt, end - 64, 0)
        here = (fields >> over) << np.where(spilt, 0, 64 - end)
        heads = np.flatnonzero(np.diff(first, prepend=-1))
        words[first[heads]] = np.bitwise_or.reduceat(here, heads)
        words[first[spilt] + 1] |= fields[spilt] << (64 - over[spilt])
    return words.astype(">u8").tobytes()[: (total + 7) // 8]


def _unpack_mixed(data: bytes, bits: Fields) -> Fields:
    first, start, _ = _places(bits)
    words = np.frombuffer(data + bytes(16 - len(data) % 8), ">u8").astype(np.uint64)
    joined = (words[first] << start) | (words[first + 1] >> (64 - start))
    return joined >> (64 - bits)


def _places(bits: Fields) -> tuple[Ints, Fields, int]:
    """Index of the 64-bit word that each field starts in, its first bit there, and the bits of all fields."""
    ends = np.cumsum(bits, dtype=np.int64)
    starts = ends - bits.astype(np.int64)
    return starts >> 6, (starts & 63).astype(np.uint64), int(ends[-1]) if len(ends) else 0


def index_bits(count: int) -> int:
    """Width of an index into ``count`` things: at least 1 bit.

    >>> [index_bits(count) for count in (1, 2, 3, 10)]
    [1, 1, 2, 4]
    """
    return max(1, (count - 1).bit_length())


@dataclass(frozen=True)
class WordFormat:
    """How the words of one layer are written: the width of a code, for every bank and prefix.

    ``code_bits[bank][prefix]`` is 0 where the owner has no codebook. All other widths follow from it.

    >>> layout = WordFormat(code_bits=((2, 1, 0),))  # one bank, three owners: the third owns nothing
    >>> layout.write(bank=0, prefix=0, code=3), layout.read("0011")
    ('00011', (0, 1, 1))
    """

    code_bits: tuple[tuple[int, ...], ...]

    @property
    def bank_bits(self) -> int:
        return index_bits(len(self.code_bits))

    def prefix_bits(self, bank: int) -> int:
        return index_bits(len(self.code_bits[bank]))

    def write(self, bank: int, prefix: int, code: int) -> str:
        """The word as '0' and '1', most significant bit first; NetworkError if there is no such word."""
        width = self._code_width(bank, prefix)
        if width is None or not 0 <= code < 1 << width:
            raise NetworkError(f"bank {bank}, prefix {prefix}: no word has the code {code} ({width or 0} code bits)")
        return f"{bank:0{self.bank_bits}b}{prefix:0{self.prefix_bits(bank)}b}{code:0{width}b}"

    def read(self, word: str) -> tuple[int, int, int]:
        """(bank, prefix, code) of a word of '0' and '1'; ArtifactError if it is not one."""
        if not word or set(word) - {"0", "1"}:
            raise ArtifactError(f"word {word!r}: must be digits 0 and 1")
        bank, rest = int(word[: self.bank_bits], 2), word[self.bank_bits :]
        if bank >= len(self.code_bits):
            raise ArtifactError(f"word {word!r}: bank {bank}, there are {len(self.code_bits)}")
        if len(rest) < self.prefix_bits(bank):
            raise ArtifactError(f"word {word!r}: cut within its bank or prefix")
        prefix, code = int(rest[: self.prefix_bits(bank)], 2), rest[self.prefix_bits(bank) :]
        width = self._code_width(bank, prefix)
        if width is None:
            raise ArtifactError(f"word {word!r}: prefix {prefix} has no codebook in bank {bank}")
        if len(code) != width:
            expected = self.bank_bits + self.prefix_bits(bank) + width
            raise ArtifactError(
                f"word {word!r}: {len(word)} bits, owner {prefix} of bank {bank} has words of {expected}"
            )
        return bank, prefix, int(code, 2)

    def _code_width(self, bank: int, prefix: int) -> int | None:
        known = 0 <= bank < len(self.code_bits) and 0 <= prefix < len(self.code_bits[bank])
        return (self.code_bits[bank][prefix] or None) if known else None
