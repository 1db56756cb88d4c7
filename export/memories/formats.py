"""The content of a memory in the formats of tools, and back: each reader is the exact inverse of its writer.

=======  ========================================================================================================
format   what it is
=======  ========================================================================================================
``mem``  Verilog ``$readmemh``: hexadecimal, one word a line
``hex``  Intel HEX: every word in whole bytes, the lowest first, at byte addresses, 32 bytes a record
``coe``  Vivado's block memory generator
``mif``  Quartus; it gives every word with its address
``dat``  what FINN's memory streamers read: as ``mem``, but nothing besides the words
``h``    C: an array of words of 64-bit limbs, the lowest limb first
``npy``  NumPy: uint64 (depth, limbs), the lowest limb first
=======  ========================================================================================================

Words stand in the order of their addresses and, in hexadecimal, highest digit first. ``mem``, ``coe``, ``mif`` and
``h`` say at their head what the addresses and bits mean, and the SHA-256 of the words. A file is written one way only:
what a reader accepts is byte for byte what the writer gives for the words that were read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.errors import ArtifactError
from tsn_hw.hardware.images import Limbs, MemoryImage
from tsn_hw.hardware.memories import LIMB_BITS, MemoryLayout

Octets = NDArray[np.uint8]

DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
RECORD_BYTES = 32
RECORDS_A_PAGE = (1 << 16) // RECORD_BYTES
"""Records of Intel HEX that 16 address bits reach; before each further page stands its high address."""


@dataclass(frozen=True)
class MemoryFormat:
    """A writer and its inverse; the reader of a damaged file raises ArtifactError or gives other words."""

    write: Callable[[MemoryImage], bytes]
    read: Callable[[MemoryLayout, bytes], Limbs]


def write_memory(form: str, image: MemoryImage) -> bytes:
    """The content of a memory as a file of one of :data:`MEMORY_FORMATS`."""
    return MEMORY_FORMATS[form].write(image)


def read_memory(form: str, layout: MemoryLayout, sha256: str, data: bytes) -> MemoryImage:
    """The content of a memory from a file of one of :data:`MEMORY_FORMATS`; ``sha256`` is that of its words.

    Raises ArtifactError, with file and line, for everything but what :func:`write_memory` gives.
    """
    limbs = MEMORY_FORMATS[form].read(layout, data)
    limbs.setflags(write=False)
    image = MemoryImage(layout, limbs)
    place = f"{layout.name}.{form}"
    if (expected := write_memory(form, image)) != data:
        _refuse_difference(place, data, expected)
    if (found := words_sha256(image)) != sha256:
        raise ArtifactError(f"{place}: its words have SHA-256 {found}, must have {sha256}")
    return image


def words_sha256(image: MemoryImage) -> str:
    """SHA-256 of the words, each in whole bytes, the lowest first."""
    return hashlib.sha256(image.octets.tobytes()).hexdigest()


def described(layout: MemoryLayout, sha256: str) -> list[str]:
    """What a file says of its memory: sizes, addresses, bits and digest.

    >>> from tsn_hw.hardware.memories import Field
    >>> fields = (Field("code", 4), Field("prefix", 2))
    >>> for line in described(MemoryLayout("fc1", "words", (("region", 2), ("row_fold", 30)), 8, fields), "1f..."):
    ...     print(line)
    fc1.words: 60 words of 48 bits
    address, outermost first: region 2, row_fold 30
    word, lowest bits first: 8 x (code 4 bits, prefix 2 bits)
    SHA-256 of the words, each in 6 bytes, lowest first: 1f...
    """
    axes = ", ".join(f"{name} {length}" for name, length in layout.axes)
    fields, flags = (
        ", ".join(f"{field.name} {field.bits} bits{' signed' * field.signed}" for field in part)
        for part in (layout.fields, layout.flags)
    )
    return [
        f"{layout.name}: {layout.depth} words of {layout.width_bits} bits",
        f"address, outermost first: {axes}",
        f"word, lowest bits first: {layout.lanes} x ({fields}){', ' * bool(flags)}{flags}",
        f"SHA-256 of the words, each in {-(-layout.width_bits // 8)} bytes, lowest first: {sha256}",
    ]


def _refuse_difference(place: str, data: bytes, expected: bytes) -> NoReturn:
    """Say where a file first differs from what would have been written."""
    found, wanted = (part.split(b"\n") for part in (data, expected))
    pairs = enumerate(zip(found, wanted, strict=False), 1)
    line, (has, must) = next((pair for pair in pairs if pair[1][0] != pair[1][1]), (0, (b"", b"")))
    if not line:
        raise ArtifactError(f"{place}: {len(found) - 1} lines, must be {len(wanted) - 1}")
    if b"SHA-256" in must:
        raise ArtifactError(f"{place}, line {line}: {_text(has)!r}, but for its words {_text(must)!r}")
    column = next((i for i, (a, b) in enumerate(zip(has, must, strict=False)) if a != b), min(len(has), len(must)))
    some = slice(column, column + 20)
    raise ArtifactError(
        f"{place}, line {line}, column {column + 1}: {_text(has[some])!r}, must be {_text(must[some])!r}"
    )


def _text(line: bytes) -> str:
    return line.decode("ascii", "backslashreplace")


# ------------------------------------------------------------------------------------------------- lines of digits


@dataclass(frozen=True)
class _Lines:
    """A text with one line a word: ``#`` stands for a digit of the word, ``@`` for one of the address.

    last: what the line of the last word ends with instead.
    in_limbs: the digits of a word are those of its 64-bit limbs, the lowest limb first.
    """

    head: list[str]
    line: str
    tail: list[str]
    last: str = ""
    in_limbs: bool = False

    def size(self, depth: int) -> int:
        """Bytes of the text."""
        return sum(len(line) + 1 for line in (*self.head, *self.tail)) + depth * (len(self.line) + 1)


def _mem(layout: MemoryLayout, notes: list[str]) -> _Lines:
    return _Lines([*(f"// {note}" for note in notes), "@0"], "#" * _digits(layout), [])


def _dat(layout: MemoryLayout, notes: list[str]) -> _Lines:
    return _Lines([], "#" * _digits(layout), [])


def _coe(layout: MemoryLayout, notes: list[str]) -> _Lines:
    head = [*(f"; {note}" for note in notes), "memory_initialization_radix=16;", "memory_initialization_vector="]
    return _Lines(head, "#" * _digits(layout) + ",", [], last=";")


def _mif(layout: MemoryLayout, notes: list[str]) -> _Lines:
    sizes = [f"DEPTH = {layout.depth};", f"WIDTH = {layout.width_bits};"]
    head = [*(f"-- {note}" for note in notes), *sizes, "ADDRESS_RADIX = HEX;", "DATA_RADIX = HEX;", "CONTENT BEGIN"]
    address = "@" * len(f"{layout.depth - 1:x}")
    return _Lines(head, f"{address} : {'#' * _digits(layout)};", ["END;"])


def _h(layout: MemoryLayout, notes: list[str]) -> _Lines:
    name = c_name(layout)
    guard = f"{name.upper()}_H"
    array = f"static const unsigned long long {name}[{layout.depth}][{layout.limbs}] = {{"
    head = [*(f"// {note}" for note in notes), f"#ifndef {guard}", f"#define {guard}", array]
    limb = f"0x{'#' * (LIMB_BITS // 4)}ULL"
    return _Lines(head, f"  {{{', '.join([limb] * layout.limbs)}}},", ["};", "#endif"], in_limbs=True)


def c_name(layout: MemoryLayout) -> str:
    """Name of the array of a memory in C.

    >>> c_name(MemoryLayout("conv-1.a", "words", (), 1, ()))
    'tsn_conv_1_a_words'
    """
    return re.sub(r"\W", "_", f"tsn_{layout.name}", flags=re.ASCII)


def _digits(layout: MemoryLayout) -> int:
    """Hexadecimal digits of a word."""
    return -(-layout.width_bits // 4)


@dataclass(frozen=True)
class _Frame:
    """Everything of such a text but its words: where their digits stand, highest digit of a word first."""

    head: bytes
    lines: Octets
    columns: NDArray[np.intp]
    tail: bytes


def _frame(text: _Lines, layout: MemoryLayout) -> _Frame:
    line = np.frombuffer(text.line.encode() + b"\n", np.uint8)
    lines = np.repeat(line[None], layout.depth, axis=0)
    columns = np.flatnonzero(line == ord("#"))
    if text.in_limbs:
        columns = columns.reshape(layout.limbs, -1)[::-1].ravel()
    places = np.flatnonzero(line == ord("@"))
    addresses = np.arange(layout.depth, dtype=np.uint64)[:, None]
    lines[:, places] = DIGITS[_nibbles(addresses, len(places))]
    if text.last:
        lines[-1, -1 - len(text.last) : -1] = np.frombuffer(text.last.encode(), np.uint8)
    head, tail = ("".join(f"{part}\n" for part in parts).encode() for parts in (text.head, text.tail))
    return _Frame(head, lines, columns, tail)


def _text_format(text: Callable[[MemoryLayout, list[str]], _Lines]) -> MemoryFormat:
    def write(image: MemoryImage) -> bytes:
        frame = _frame(text(image.layout, described(image.layout, words_sha256(image))), image.layout)
        frame.lines[:, frame.columns] = DIGITS[_nibbles(image.limbs, len(frame.columns))]
        return b"".join([frame.head, frame.lines.tobytes(), frame.tail])

    def read(layout: MemoryLayout, data: bytes) -> Limbs:
        place = f"{layout.name}.{text.__name__.strip('_')}"
        lines = text(layout, described(layout, "0" * 64))
        _check_length(place, data, lines.size(layout.depth))  # before anything of that size is made
        frame = _frame(lines, layout)
        start, size = len(frame.head), frame.lines.size
        body = np.frombuffer(data[start : start + size], np.uint8).reshape(frame.lines.shape)
        return _parsed(place, layout, body[:, frame.columns], frame.head.count(b"\n") + 1)

    return MemoryFormat(write, read)


def _parsed(place: str, layout: MemoryLayout, digits: Octets, first_line: int) -> Limbs:
    """Words (depth, limbs) of digits (depth, digits), highest digit first; the first word stands in a line."""
    values = np.full(256, 16, np.uint8)
    values[DIGITS] = np.arange(16)
    nibbles = values[digits]
    wrong = np.flatnonzero((nibbles > 15).any(axis=1))
    if len(wrong):
        text = _text(digits[wrong[0]].tobytes())
        raise ArtifactError(f"{place}, line {first_line + wrong[0]}: {text!r} are no hexadecimal digits")
    padded = np.zeros((layout.depth, layout.limbs * LIMB_BITS // 4), np.uint8)
    padded[:, padded.shape[1] - nibbles.shape[1] :] = nibbles
    octets = padded[:, ::2] << 4 | padded[:, 1::2]
    limbs = octets.view(">u8")[:, ::-1].astype(np.uint64)
    _check_width(layout, limbs, lambda word: f"{place}, line {first_line + word}")
    return limbs


def _nibbles(limbs: Limbs, count: int) -> Octets:
    """The lowest ``count`` hexadecimal digits of words, highest first: (depth, count)."""
    octets = limbs[:, ::-1].astype(">u8").view(np.uint8)
    nibbles = np.stack([octets >> 4, octets & 15], axis=2).reshape(len(limbs), -1)
    return nibbles[:, nibbles.shape[1] - count :]


# --------------------------------------------------------------------------------------------------------- Intel HEX


def _write_hex(image: MemoryImage) -> bytes:
    octets = image.octets.tobytes()
    page = RECORD_BYTES * RECORDS_A_PAGE
    parts = []
    for start in range(0, len(octets), page):
        if start:
            parts.append(_record(0, 4, (start >> 16).to_bytes(2, "big")))
        some = octets[start : start + page]
        full = len(some) // RECORD_BYTES
        parts.append(_full_records(np.frombuffer(some, np.uint8, full * RECORD_BYTES).reshape(full, RECORD_BYTES)))
        if rest := some[full * RECORD_BYTES :]:
            parts.append(_record(full * RECORD_BYTES, 0, rest))
    return b"".join([*parts, _record(0, 1, b"")])


def _record(address: int, kind: int, data: bytes) -> bytes:
    record = bytes([len(data), *address.to_bytes(2, "big"), kind]) + data
    return f":{record.hex()}{-sum(record) & 255:02x}\n".upper().encode()


def _full_records(data: Octets) -> bytes:
    """Records of :data:`RECORD_BYTES` bytes each, from address 0 on."""
    addresses = np.arange(len(data), dtype=np.uint16)[:, None] * RECORD_BYTES
    kinds = np.zeros_like(data[:, :1])
    record = np.hstack([kinds + RECORD_BYTES, addresses.astype(">u2").view(np.uint8), kinds, data])
    checksums = -record.sum(axis=1, dtype=np.int64) & 255
    record = np.hstack([record, checksums[:, None].astype(np.uint8)])
    digits = np.frombuffer(record.tobytes().hex().upper().encode(), np.uint8).reshape(len(data), 2 * record.shape[1])
    colons, ends = np.full((2, len(data), 1), [[[ord(":")]], [[ord("\n")]]], np.uint8)
    return np.hstack([colons, digits, ends]).tobytes()


def _read_hex(layout: MemoryLayout, data: bytes) -> Limbs:
    place = f"{layout.name}.hex"
    parts = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        if not re.fullmatch(rb":(?:[0-9A-F]{2}){5,}", line):
            raise ArtifactError(f"{place}, line {number}: {_text(line)!r} is no record of Intel HEX")
        record = bytes.fromhex(line[1:].decode())
        if sum(record) & 255:
            expected = -sum(record[:-1]) & 255
            raise ArtifactError(f"{place}, line {number}: checksum {record[-1]:#04x}, must be {expected:#04x}")
        if record[3] == 0:
            parts.append(record[4:-1])
    return _of_octets(place, layout, b"".join(parts))


def _of_octets(place: str, layout: MemoryLayout, data: bytes) -> Limbs:
    """Words (depth, limbs) of words in whole bytes."""
    size = -(-layout.width_bits // 8)
    if len(data) != layout.depth * size:
        raise ArtifactError(f"{place}: {len(data)} bytes of data, must be {layout.depth * size}")
    octets = np.zeros((layout.depth, layout.limbs * LIMB_BITS // 8), np.uint8)
    octets[:, :size] = np.frombuffer(data, np.uint8).reshape(layout.depth, size)
    limbs = octets.view("<u8").astype(np.uint64)
    _check_width(layout, limbs, lambda word: f"{place}, word {word}")
    return limbs


# ------------------------------------------------------------------------------------------------------------- NumPy


def _write_npy(image: MemoryImage) -> bytes:
    return _npy_head(image.layout) + image.limbs.astype("<u8").tobytes()


def _npy_head(layout: MemoryLayout) -> bytes:
    buffer = BytesIO()
    shape = (layout.depth, layout.limbs)
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<u8", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _read_npy(layout: MemoryLayout, data: bytes) -> Limbs:
    place, head = f"{layout.name}.npy", _npy_head(layout)
    _check_length(place, data, len(head) + 8 * layout.depth * layout.limbs)
    if not data.startswith(head):
        raise ArtifactError(f"{place}: no .npy file of uint64 ({layout.depth}, {layout.limbs})")
    limbs = np.frombuffer(data, "<u8", offset=len(head)).reshape(layout.depth, layout.limbs).astype(np.uint64)
    _check_width(layout, limbs, lambda word: f"{place}, word {word}")
    return limbs


# ------------------------------------------------------------------------------------------------------------- checks


def _check_length(place: str, data: bytes, expected: int) -> None:
    if len(data) != expected:
        raise ArtifactError(f"{place}: {len(data)} bytes, must be {expected}")


def _check_width(layout: MemoryLayout, limbs: Limbs, place: Callable[[int], str]) -> None:
    """Refuse a word that has more bits than the memory."""
    used = layout.width_bits - LIMB_BITS * (layout.limbs - 1)
    # a shift by 64 gives 0 in numpy: a word of whole limbs needs no case of its own
    wrong = np.flatnonzero(limbs[:, -1] >> np.uint64(used))
    if len(wrong):
        word = int(wrong[0])
        value = sum(int(limb) << LIMB_BITS * i for i, limb in enumerate(limbs[word]))
        raise ArtifactError(f"{place(word)}: {value:#x} does not fit the {layout.width_bits} bits of a word")


MEMORY_FORMATS: dict[str, MemoryFormat] = {
    "mem": _text_format(_mem),
    "hex": MemoryFormat(_write_hex, _read_hex),
    "coe": _text_format(_coe),
    "mif": _text_format(_mif),
    "dat": _text_format(_dat),
    "h": _text_format(_h),
    "npy": MemoryFormat(_write_npy, _read_npy),
}
"""Every format by its name, which is also the suffix of its files."""
