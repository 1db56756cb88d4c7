"""All memories of an accelerator as files, and the index that says what they are: ``memories.json``.

The index has its own SHA-256, over its entries, and an entry a memory: unit, kind, depth and width; what its addresses
count through (the outermost first) and what its words are made of (the lowest bits first); SHA-256 and CRC-32 of its
words, each in whole bytes, the lowest first; and the SHA-256 of each of its files. Files are named after unit, kind and
format: ``fc1.words.mem``.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from export.memories.formats import MEMORY_FORMATS, c_name, read_memory, words_sha256, write_memory
from tsn_hw.core.errors import ArtifactError, ExportError, shown
from tsn_hw.core.files import StrPath, read_bytes, write_atomically
from tsn_hw.core.network import NAME
from tsn_hw.core.records import Bounds, build, parse_json
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.memories import Field, MemoryKind, MemoryLayout

INDEX = "memories.json"
VERSION = 2
MAX_MEMORIES = 2**16


@dataclass(frozen=True)
class _Axis:
    name: str
    length: Annotated[int, Bounds(1, 2**40)]


@dataclass(frozen=True)
class LayoutEntry:
    """What the addresses and bits of a memory mean, as the values of a JSON object."""

    unit: str
    kind: MemoryKind
    depth: int
    width_bits: int
    address: tuple[_Axis, ...]
    lanes: Annotated[int, Bounds(1, 2**16)]
    lane: tuple[Field, ...]
    flags: tuple[Field, ...] = field(default=(), kw_only=True)

    @property
    def values(self) -> dict[str, Any]:
        """The JSON object: it speaks of flags only where there are any."""
        return {name: value for name, value in asdict(self).items() if name != "flags" or value}

    def layout(self, where: str) -> MemoryLayout:
        """What they describe; whether depth and width follow is left to who compares the whole."""
        if not NAME.fullmatch(self.unit):  # the names of files are made of it
            raise ArtifactError(f"{where}: there is no memory {shown(self.unit)}, {self.kind!r}")
        axes = tuple((axis.name, axis.length) for axis in self.address)
        found = MemoryLayout(self.unit, self.kind, axes, self.lanes, self.lane, flags=self.flags)
        if not found.width_bits:
            raise ArtifactError(f"{where}: its words have no bits")
        return found


@dataclass(frozen=True)
class _File:
    name: str
    sha256: str


@dataclass(frozen=True)
class _Entry(LayoutEntry):
    """What the index says of a memory."""

    sha256: str
    crc32: str
    files: tuple[_File, ...]


@dataclass(frozen=True)
class _Index:
    format: str
    version: int
    sha256: str
    memories: Annotated[tuple[_Entry, ...], Bounds(0, MAX_MEMORIES)]


def layout_values(layout: MemoryLayout) -> dict[str, Any]:
    """The fields of a :class:`LayoutEntry`, by name."""
    axes = tuple(_Axis(name, length) for name, length in layout.axes)
    sizes = {"depth": layout.depth, "width_bits": layout.width_bits}
    words = {"address": axes, "lanes": layout.lanes, "lane": layout.fields, "flags": layout.flags}
    return {"unit": layout.unit, "kind": layout.kind, **sizes, **words}


def memory_files(accelerator: Accelerator, formats: Sequence[str] = tuple(MEMORY_FORMATS)) -> dict[str, bytes]:
    """Name and content of every memory file of an accelerator, and of the index.

    Raises ExportError for a format that there is not, or where two memories would have one name in C.
    """
    return files_of(accelerator.images, formats)


def files_of(images: Iterable[MemoryImage], formats: Sequence[str]) -> dict[str, bytes]:
    """Name and content of every file of some memories, and of their index."""
    for form in formats:
        if form not in MEMORY_FORMATS:
            raise ExportError(f"format {form!r}: must be one of {', '.join(MEMORY_FORMATS)}")
    files: dict[str, bytes] = {}
    entries: list[_Entry] = []
    names: dict[str, str] = {}
    for image in images:
        other = names.setdefault(c_name(image.layout), image.name)
        if "h" in formats and other != image.name:
            raise ExportError(
                f"memories {other!r} and {image.name!r}: both are {c_name(image.layout)} in C; rename one"
            )
        written = {f"{image.name}.{form}": write_memory(form, image) for form in formats}
        digests = tuple(_File(name, hashlib.sha256(data).hexdigest()) for name, data in written.items())
        digest = words_sha256(image)
        entries.append(_Entry(**layout_values(image.layout), sha256=digest, crc32=_crc32(image), files=digests))
        files |= written
    return files | {INDEX: _index(entries).encode()}


def write_memories(
    accelerator: Accelerator, folder: StrPath, formats: Sequence[str] = tuple(MEMORY_FORMATS)
) -> list[Path]:
    """Write all memory files into a folder, the index last; each file is replaced as a whole or not at all."""
    folder, files = Path(folder), memory_files(accelerator, formats)
    for name, data in files.items():
        write_atomically(folder / name, data)
    return [folder / name for name in files]


def read_memories(folder: StrPath) -> tuple[MemoryImage, ...]:
    """The memories of a folder, every file of every format read and checked against the index.

    Raises FileError where a file cannot be read, ArtifactError where it is not what was written.
    """
    folder, images = Path(folder), []
    for number, entry in enumerate(_read_index(read_bytes(folder / INDEX))):
        layout = entry.layout(f"{INDEX}: memories[{number}]")
        found = [_read_file(folder, layout, entry.sha256, file) for file in entry.files]
        if _crc32(found[0]) != entry.crc32:
            raise ArtifactError(f"{INDEX}: {layout.name}: CRC-32 {entry.crc32}, its words have {_crc32(found[0])}")
        images.append(found[0])  # all formats hold the same words: their digest is that of the index
    return tuple(images)


def _read_file(folder: Path, layout: MemoryLayout, sha256: str, file: _File) -> MemoryImage:
    data = read_bytes(folder / file.name)
    image = read_memory(file.name.rpartition(".")[2], layout, sha256, data)
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise ArtifactError(f"{INDEX}: {file.name}: SHA-256 {file.sha256}, the file has {digest}")
    return image


def _crc32(image: MemoryImage) -> str:
    """CRC-32 of the words (that of zlib, gzip and Ethernet), each in whole bytes, the lowest first."""
    return f"{zlib.crc32(image.octets.tobytes()):08x}"


def _index(entries: Iterable[_Entry]) -> str:
    """The index as JSON, one line a memory."""
    lines = ",\n".join(f"  {json.dumps(entry.values)}" for entry in entries)
    head = (
        f' "format": "tsn memories",\n "version": {VERSION},\n "sha256": "{hashlib.sha256(lines.encode()).hexdigest()}"'
    )
    return f'{{\n{head},\n "memories": [\n{lines}\n ]\n}}\n'


def _read_index(data: bytes) -> list[_Entry]:
    given = build(_Index, parse_json(data, INDEX, ArtifactError), INDEX, ArtifactError)
    if given.format != "tsn memories" or given.version != VERSION:
        raise ArtifactError(f"{INDEX}: is no index of memories of version {VERSION}")
    entries = [_checked(entry, f"{INDEX}: memories[{i}]") for i, entry in enumerate(given.memories)]
    if _index(entries).encode() != data:
        raise ArtifactError(f"{INDEX}: its SHA-256 does not match, or it is not written as the format asks")
    return entries


def _checked(entry: _Entry, where: str) -> _Entry:
    """An entry with depth and width as they follow from the others."""
    layout = entry.layout(where)
    known = {f"{layout.name}.{form}" for form in MEMORY_FORMATS}
    for file in entry.files:
        if file.name not in known:
            raise ArtifactError(f"{where}: files: no file of {layout.name!r} is {shown(file.name)}")
    if not entry.files:
        raise ArtifactError(f"{where}: has no file")
    return replace(entry, depth=layout.depth, width_bits=layout.width_bits)
