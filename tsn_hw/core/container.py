"""What a .tsn file is on disk: a mark, a digest, a packed header, and sections one after another. Version 2.

====== ========= ==================================================================================
bytes  content
====== ========= ==================================================================================
0..3   ``TSN2``  the mark of this version
4..7   size      of the packed header, unsigned, lowest byte first
8..39  digest    SHA-256 of all bytes but its own
40..   header    JSON with sorted keys, no spaces and ASCII alone, compressed with bzip2 at level 9
       sections  as many bytes each as the key ``sizes`` of the header says, without gaps
====== ========= ==================================================================================

bzip2, because it has one implementation, whose output is the same everywhere; deflate has several.
"""

from __future__ import annotations

import bz2
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from tsn_hw.core.errors import ArtifactError, shown
from tsn_hw.core.records import parse_json

MARK = b"TSN2"
MAX_HEADER_BYTES = 2**24
"""Longest header, before it is compressed: ten times that of 4,096 tasks."""
_SIZE = slice(4, 8)
_DIGEST = slice(8, 40)
_SIZES = "sizes"


def json_bytes(value: object) -> bytes:
    """A JSON value in the one spelling that files have."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def pack(header: dict[str, Any], parts: Sequence[bytes]) -> bytes:
    """A file of a header and its sections."""
    text = json_bytes(header | {_SIZES: [len(part) for part in parts]})
    if len(text) > MAX_HEADER_BYTES:
        raise ArtifactError(f"the header takes {len(text)} bytes, must be at most {MAX_HEADER_BYTES}")
    packed = bz2.compress(text)
    head = MARK + len(packed).to_bytes(4, "little")
    return b"".join((head, _digest((head, packed, *parts)), packed, *parts))


def unpack(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The header and the sections that :func:`pack` wrote; ArtifactError for any other bytes behind the mark."""
    end = _DIGEST.stop + int.from_bytes(data[_SIZE], "little")
    if len(data) < end:
        raise ArtifactError(f"cut: {len(data)} bytes, its header ends at {end}")
    if data[_DIGEST] != _digest((data[: _SIZE.stop], data[_DIGEST.stop :])):
        raise ArtifactError("the SHA-256 of header and sections does not match")
    header = parse_json(_inflated(data[_DIGEST.stop : end]), "the header", ArtifactError)
    if not isinstance(header, dict):
        raise ArtifactError(f"the header must be a table, found {type(header).__name__}")
    parts = _split(data[end:], header.pop(_SIZES, None))
    if pack(header, parts) != data:
        raise ArtifactError("the file is not written as the format asks")
    return header, parts


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _inflated(packed: bytes) -> bytes:
    reader = bz2.BZ2Decompressor()
    try:
        text = reader.decompress(packed, MAX_HEADER_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"the header is not compressed with bzip2 ({error})") from error
    if len(text) > MAX_HEADER_BYTES:
        raise ArtifactError(f"the header takes more than {MAX_HEADER_BYTES} bytes")
    if not reader.eof or reader.unused_data:
        raise ArtifactError("the header is not one whole bzip2 stream")
    return text


def _split(data: bytes, sizes: object) -> list[bytes]:
    """Sections of these sizes; an error if they are no sizes, or others than there are bytes for."""
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes):
        raise ArtifactError(f"header: sizes = {shown(sizes)}: must be a list of whole numbers from 0 on")
    if sum(sizes) != len(data):
        raise ArtifactError(f"header: sizes: {sum(sizes)} bytes in all, there are {len(data)}")
    parts, start = [], 0
    for size in sizes:
        parts.append(data[start : start + size])
        start += size
    return parts
