"""Reading .tsn files of version 1, whose header had an entry for every layer of every task and every bank.

Such a file is a safetensors container. Its metadata has one key, ``tsn``: the header, JSON with sorted keys and no
spaces. Its tensors are the sections, of type U8 with one axis; empty ones are left out. They are those of today, and so
is the meaning of the header::

    {"format": "tsn", "version": 1, "input": ..., "layers": ...,
     "banks": [[null or {"centroid_bits": 8, "exponent": -7, "entries": [... a task of the bank]}, ... a layer], ...],
     "tasks": [{"name": ..., "bank": ..., "classes": ..., "steps": [null or [...], ... a layer], "seal": "..."}, ...],
     "sha256": digest of the header without this key and of all sections}
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as save_container

from tsn_hw.core.container import json_bytes
from tsn_hw.core.errors import ArtifactError, brief, shown
from tsn_hw.core.header import ENTRIES, MAX_CLASSES, MAX_PARTS
from tsn_hw.core.records import build, parse_json

_METADATA_KEY = "tsn"


@dataclass(frozen=True)
class _Words:
    centroid_bits: int
    exponent: int
    entries: Annotated[tuple[ENTRIES, ...], MAX_PARTS]


@dataclass(frozen=True)
class _Task:
    name: str
    bank: int
    classes: Annotated[tuple[str, ...], MAX_CLASSES]
    steps: Annotated[tuple[tuple[Any, ...] | None, ...], MAX_PARTS]
    seal: str


@dataclass(frozen=True)
class _Header:
    format: Literal["tsn"]
    version: Literal[1]
    input: dict[str, Any]
    layers: Annotated[tuple[dict[str, Any], ...], MAX_PARTS]
    banks: Annotated[tuple[tuple[_Words | None, ...], ...], MAX_PARTS]
    tasks: Annotated[tuple[_Task, ...], MAX_PARTS]


@dataclass(frozen=True)
class FirstVersion:
    """A file of version 1: its header as one of today, its sections by name, and the seals of its tasks."""

    header: dict[str, Any]
    sections: dict[str, bytes]
    seals: tuple[str, ...]


def read_first_version(data: bytes) -> FirstVersion:
    """What a file of version 1 says; ArtifactError for anything else."""
    header, parts = _open_container(data)
    if header.get("format") != "tsn":
        raise ArtifactError(f"format {shown(header.get('format'))}, must be 'tsn'")
    if header.pop("sha256", None) != _digest(header, parts):
        raise ArtifactError("the SHA-256 of header and sections does not match")
    given = build(_Header, header, "header", ArtifactError)
    for i, bank in enumerate(given.banks):
        _check_count(len(bank), given, f"header: banks[{i}]")
    for i, task in enumerate(given.tasks):
        _check_count(len(task.steps), given, f"header: tasks[{i}]: steps")
    members = [sum(task.bank == bank for task in given.tasks) for bank in range(len(given.banks))]
    today = {
        "input": given.input,
        "layers": given.layers,
        "banks": [_words_of_today(bank, members[i], f"header: banks[{i}]") for i, bank in enumerate(given.banks)],
        "tasks": [_task_of_today(task) for task in given.tasks],
    }
    return FirstVersion(today, parts, tuple(task.seal for task in given.tasks))


def _check_count(found: int, header: _Header, where: str) -> None:
    if found != len(header.layers):
        raise ArtifactError(f"{where}: {found} entries, must be {len(header.layers)}")


def _words_of_today(bank: tuple[_Words | None, ...], members: int, where: str) -> list[dict[str, Any]]:
    found = []
    for layer, words in enumerate(bank):
        if words is None:
            continue
        if len(words.entries) != members:
            raise ArtifactError(f"{where}[{layer}]: {len(words.entries)} codebooks for {members} tasks")
        used = [prefix for prefix, size in enumerate(words.entries) if size] or [0, -1]
        entries = words.entries[used[0] : used[-1] + 1]
        found.append(vars(words) | {"layer": layer, "first": used[0], "entries": entries})
    return found


def _task_of_today(task: _Task) -> dict[str, Any]:
    steps = [(layer, *step) for layer, step in enumerate(task.steps) if step is not None]
    return {"name": task.name, "bank": task.bank, "classes": task.classes, "steps": steps}


def _open_container(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header and sections of a container, which is rebuilt from them and compared with the file."""
    try:
        parts = {name: bytes(tensor["data"]) for name, tensor in deserialize(data)}  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ArtifactError(f"no .tsn file, or a damaged one: {brief(str(error))}") from error
    container = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")], "the container's header", ArtifactError)
    text = (container.get("__metadata__") or {}).get(_METADATA_KEY, "null")
    header = parse_json(text, "the header", ArtifactError)
    if not isinstance(header, dict):
        raise ArtifactError("the container has no tsn header")
    if not all(parts.values()) or _container(header, parts) != data:
        raise ArtifactError("the container is not written as the format asks")
    return header, parts


def _container(header: dict[str, Any], parts: dict[str, bytes]) -> bytes:
    tensors = {name: np.frombuffer(part, np.uint8) for name, part in parts.items()}
    data: bytes = save_container(tensors, metadata={_METADATA_KEY: json_bytes(header).decode()})
    return data


def _digest(header: dict[str, Any], parts: dict[str, bytes]) -> str:
    digest = hashlib.sha256(json_bytes([header, {name: len(part) for name, part in parts.items()}]))
    for name in sorted(parts):
        digest.update(parts[name])
    return digest.hexdigest()
