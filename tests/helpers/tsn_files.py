"""A .tsn file that is small enough to be damaged everywhere, and forged ones whose digest is right."""

import bz2
import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy

from tests.helpers.small_network import NET, U8, step, words
from tsn_hw.core import artifact, container
from tsn_hw.core.artifact import from_bytes, seal, to_bytes
from tsn_hw.core.errors import ArtifactError
from tsn_hw.core.header import read_header
from tsn_hw.core.layers import Linear
from tsn_hw.core.network import UNUSED, Bank, PackedNetwork, Requantization, Task

SMALL = to_bytes(NET)


def one_layer_network():
    """The smallest network with a multiplier, an offset and an unused weight."""
    head = Linear("head", 2, 2)
    memory = words([[0, UNUSED], [0, 0]], [[1, 0], [0, 2]], [-3, 5, 7])
    only = step([[1, 0], [1, 1]], Requantization(np.array([1, 3]), np.array([0, -2]), 1, None))
    return PackedNetwork((2,), U8, (head,), (Bank((memory,)),), (Task("only", 0, ("no", "yes"), (only,)),))


def header_of(data):
    """The header of a file, without the sizes of sections."""
    return container.unpack(data)[0]


def parts_of(data):
    """All sections of a file by name, empty ones too."""
    header, parts = container.unpack(data)
    return dict(zip(artifact._section_names(read_header(header)), parts, strict=True))


def forged(change_header=lambda header: None, change_sections=lambda parts: None, data=SMALL):
    """A file with changed content whose digest and container are right again."""
    header, parts = header_of(data), parts_of(data)
    header = change_header(header) or header
    change_sections(parts)
    return container.pack(header, list(parts.values()))


def of_bytes(text, packed=None, sizes=b""):
    """A file of today whose digest is right, of a header that is any text, or any bytes in place of it compressed."""
    packed = bz2.compress(text) if packed is None else packed
    head = container.MARK + len(packed).to_bytes(4, "little")
    return head + hashlib.sha256(head + packed + sizes).digest() + packed + sizes


def first_version_of(data):
    """Header and sections of a file of version 1."""
    file = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header = json.loads(file["__metadata__"]["tsn"])
    del header["sha256"]
    return header, {name: part.tobytes() for name, part in safetensors.numpy.load(data).items()}


def sealed_up_first_version(header, parts):
    """A file of version 1 whose digest is right."""

    def compact(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    digest = hashlib.sha256(compact([header, {name: len(part) for name, part in parts.items()}]).encode())
    for name in sorted(parts):
        digest.update(parts[name])
    if isinstance(header, dict):
        header = header | {"sha256": digest.hexdigest()}
    tensors = {name: np.frombuffer(part, np.uint8) for name, part in parts.items()}
    return safetensors.numpy.save(tensors, metadata={"tsn": compact(header)})


def refusal(data):
    with pytest.raises(ArtifactError) as error:
        from_bytes(data)
    return str(error.value)


def set_at(*path, value):
    """A change of a header: the entry at a path becomes a value."""

    def change(header):
        *parents, last = path
        for key in parents:
            header = header[key]
        header[last] = value

    return change


def forgotten_tasks(before: PackedNetwork, after: PackedNetwork) -> tuple[str, ...]:
    """Names of the tasks of ``before`` that ``after`` lacks or computes differently; empty if nothing was forgotten."""
    kept = {entry.name: seal(after, task) for task, entry in enumerate(after.tasks)}
    return tuple(entry.name for task, entry in enumerate(before.tasks) if kept.get(entry.name) != seal(before, task))
