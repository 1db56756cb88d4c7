"""The .tsn file: one packed network, exactly, and nothing else. Version 2.

A .tsn file (:mod:`tsn_hw.core.container`) is a *header*, compressed JSON, and *sections* of bytes, in this order::

    bank<b>/<layer>/masks      masks of the tasks of bank b that run the layer, in the order of tasks (core.masks)
    bank<b>/<layer>/codes      codes of the used weights in flat C order, each as wide as the codes of its owner
    bank<b>/<layer>/codebooks  centroids of all owners in the order of prefixes, ``centroid_bits`` each
    ... for every layer of every bank that the header names, and then for every task
    task<t>/requantization     for every layer that task t runs: multipliers, then offsets, of the widths in the header
    task<t>/routing            what the learner keeps to route later tasks; no matter for other readers
    task<t>/gate               where the header names one: of every component linear, map, offset, and shifts of 6 bits

Bit fields stand most significant bit first, without gaps, zero-padded to a byte at the end of the section; signed
integers in two's complement. The prefix of a weight is not stored: its owner is the first task of the bank whose mask
holds it. The header::

    {"input": {"shape": [...], "format": [bits, signed, exponent]},
     "layers": [{"kind": "Linear", "name": "fc1", "in_features": 64, ...}, ...],     the fields of tsn_hw.core.layers
     "banks": [[{"layer": 0, "centroid_bits": 8, "exponent": -7, "first": 0, "entries": [16, 0, 4]}, ...], ...],
     "tasks": [{"name": "...", "bank": 0, "classes": [...], "steps": [[0, ...], ...]}, ...],
     "sizes": [... bytes of a section]}

A bank names the layers that it holds words of, by index, and a task those that it runs. ``entries`` are the sizes of
the codebooks by prefix, from prefix ``first`` on, empty ones at both ends left out. A step is ``[layer]`` (the task
runs the layer without requantization), ``[layer, shift, multiplier bits, offset bits]`` (a head), or the same followed
by ``bits, signed, exponent`` of the output. Multipliers of 0 bits are all 1, offsets of 0 bits are all 0. A task with a
gate (:mod:`tsn_hw.core.gate`) has a further key, which readers that do not know gates refuse::

     "gate": {"features": [pool rows, pool columns, shift, edge rows, edge columns],
              "components": [[bias, bits of linear, rows of the map, bits of the map, bits of offsets], ...]}

Of a map only what its rows read is stored.

Reading checks everything: the file rebuilt from what was parsed is the file, byte for byte; the digest matches; counts
agree with the sizes of sections before anything is allocated; the network does not contradict itself. Nothing is ever
unpickled. The digest guards against corruption, not against a forger, who computes it anew; a signature over the file
would. Files of version 1 are read too (:mod:`tsn_hw.core.first_version`). What the *seal* of a task covers is said at
:func:`seal`; it is computed from the network, not stored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.assembly import owners
from tsn_hw.core.container import MARK, json_bytes, unpack
from tsn_hw.core.errors import ArtifactError, NetworkError, shown
from tsn_hw.core.files import StrPath, read_bytes, write_atomically
from tsn_hw.core.first_version import read_first_version
from tsn_hw.core.gate import SHIFT_BITS, Component, Gate, stored
from tsn_hw.core.header import (
    GateHeader,
    Header,
    TaskHeader,
    WordsHeader,
    format_json,
    gate_json,
    layer_json,
    read_header,
    scaling_of,
)
from tsn_hw.core.layers import INPUT, Layer, Shape, Weighted
from tsn_hw.core.masks import decode_masks
from tsn_hw.core.memory import unpack_fields
from tsn_hw.core.network import UNUSED, Bank, BankLayer, Bools, PackedNetwork, Requantization, Step, Task, code_bits
from tsn_hw.core.parts import NO_CODEBOOK
from tsn_hw.core.writing import file_of, files_after_each_task, gate_section, header_json

MAX_ACTIVATIONS = 2**24
"""Most activations of one layer that are read."""
FREE_BYTES, BYTES_PER_BYTE = 2**27, 2**13
"""Most bytes that a network may take in memory, whatever the size of its file, and more for every byte of its sections.

Weights of which each of 100 tasks uses one in a hundred take a third of that.
"""
WORD_BYTES, WORK_BYTES, SCALE_BYTES = 3, 24, 16
"""Of a weight in a bank: its owner and code; of the largest layer besides, while it is read. Of a channel of a task."""
GATE_BYTES = 16
"""Of a feature in a row of a gate's map."""
_BANK_SECTIONS = ("masks", "codes", "codebooks")
_TASK_SECTIONS = ("requantization", "routing", "gate")


def save(net: PackedNetwork, path: StrPath) -> None:
    """Write a network to a .tsn file: whole or not at all. FileError if the folder cannot be written."""
    write_atomically(path, to_bytes(net))


def load(path: StrPath) -> PackedNetwork:
    """The network of a .tsn file; ArtifactError if it is damaged, FileError if it cannot be read."""
    data = read_bytes(path)
    with _at(str(path)):
        return from_bytes(data)


def to_bytes(net: PackedNetwork) -> bytes:
    """The content of a .tsn file. Equal networks give equal bytes."""
    return file_of(net)


def after_each_task(net: PackedNetwork) -> Iterator[bytes]:
    """The content of the files of ``net.first_tasks(1)``, ..., for little more than their bytes."""
    return files_after_each_task(net)


def from_bytes(data: bytes) -> PackedNetwork:
    """The network that :func:`to_bytes` wrote; ArtifactError, with the cause, for anything else."""
    try:
        return _parse(data)
    except NetworkError as error:
        raise ArtifactError(f"the network contradicts itself: {error}") from error
    except RecursionError as error:
        raise ArtifactError("the header is nested too deeply") from error


def renewed(data: bytes) -> bytes:
    """A file of version 1 as it is written today; all other bytes as they are."""
    if not data.startswith(MARK):
        with suppress(ArtifactError):
            return to_bytes(from_bytes(data))
    return data


def sections(data: bytes) -> dict[str, bytes]:
    """The sections of a .tsn file by name, without empty ones."""
    return {name: part for name, part in _open(data)[1].items() if part}


def bank_section(bank: int, layer: str, kind: str) -> str:
    """Name of the section of ``masks``, ``codes`` or ``codebooks`` of a layer in a bank."""
    return f"bank{bank}/{layer}/{kind}"


def task_section(task: int, kind: str) -> str:
    """Name of the section of ``requantization``, ``routing`` or ``gate`` of a task."""
    return f"task{task}/{kind}"


def seal(net: PackedNetwork, task: int) -> str:
    """SHA-256, in hex, over every bit that a task computes with: the proof that later tasks did not touch it.

    It covers the task's name, bank and classes, the input's format and, for every layer that it runs: geometry (inputs
    by name), mask, owner and code of every weight under the mask, the codebooks of these owners, exponent,
    requantization and output format; and its gate, where it has one.
    """
    entry = net.tasks[task]
    form = {"shape": net.input_shape, "format": format_json(net.input)}
    whose = {"name": entry.name, "bank": entry.bank, "classes": entry.classes, "input": form}
    digest = hashlib.sha256(json_bytes(whose))
    for index, layer, step in net.run_order(task):
        sources = [None if source == INPUT else net.layers[source].name for source in layer.inputs]
        digest.update(json_bytes(layer_json(layer) | {"inputs": sources}))
        if step.requantization is not None:
            scale = step.requantization
            output = None if scale.output is None else format_json(scale.output)
            digest.update(json_bytes([scale.multiplier.tolist(), scale.offset.tolist(), scale.shift, output]))
        if step.mask is not None:
            words = net.words(task, index)
            owner, code = words.owner[step.mask], words.code[step.mask]
            books = {str(prefix): words.codebooks[prefix].tolist() for prefix in np.unique(owner)}
            digest.update(json_bytes([words.centroid_bits, words.exponent, books]))
            digest.update(np.packbits(step.mask).tobytes() + owner.astype("<i2").tobytes() + code.tobytes())
    if entry.gate is not None:
        digest.update(json_bytes(gate_json(entry.gate)) + gate_section(entry.gate))
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------- reading


def _signed(fields: NDArray[np.uint64], bits: int) -> Ints:
    if bits == 0:
        return np.zeros(len(fields), np.int64)
    return (fields << np.uint64(64 - bits)).view(np.int64) >> (64 - bits)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Prefix the place to every ArtifactError from within."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(f"{place}: {error}") from error


def _parse(data: bytes) -> PackedNetwork:
    fields, parts, seals = _open(data)
    net = _network(read_header(fields), parts)
    if parts:
        raise ArtifactError(f"unknown section {shown(min(parts))}")
    for task, entry in enumerate(seals):
        if entry != seal(net, task):
            raise ArtifactError(f"task {net.tasks[task].name!r}: its seal does not match what it reads")
    if json_bytes(header_json(net)) != json_bytes(fields):
        raise ArtifactError("the header is not the one that the format gives this network")
    return net


def _open(data: bytes) -> tuple[dict[str, Any], dict[str, bytes], tuple[str, ...]]:
    """Header, sections and stored seals (of version 1 alone) of a file whose digest matches."""
    if data.startswith(MARK):
        fields, parts = unpack(data)
        names = list(_section_names(read_header(fields)))
        if len(parts) != len(names):
            raise ArtifactError(f"header: sizes: {len(parts)} entries, must be {len(names)}")
        return fields, dict(zip(names, parts, strict=True)), ()
    if data.startswith(MARK[:3]):
        raise ArtifactError(f"version {shown(data[3:4].decode('latin-1'))}, this program reads versions 1 and 2")
    first = read_first_version(data)
    return first.header, first.sections, first.seals


def _section_names(header: Header) -> Iterator[str]:
    """The names of all sections, in the order of the file."""
    for bank, words in enumerate(header.banks):
        for index in words:
            yield from (bank_section(bank, header.layers[index].name, kind) for kind in _BANK_SECTIONS)
    for number, task in enumerate(header.tasks):
        kinds = _TASK_SECTIONS if task.gate is not None else _TASK_SECTIONS[:-1]
        yield from (task_section(number, kind) for kind in kinds)


def _network(header: Header, parts: dict[str, bytes]) -> PackedNetwork:
    """The network of a header; takes the sections that it reads out of ``parts``."""
    _check_sizes(header, sum(len(part) for part in parts.values()))
    masks: dict[tuple[int, int], Bools] = {}
    banks = []
    for bank, entries in enumerate(header.banks):
        members = [task for task, entry in enumerate(header.tasks) if entry.bank == bank]
        runners: dict[int, list[int]] = {}  # by layer: the prefixes of the tasks that run it
        for prefix, task in enumerate(members):
            for step in header.tasks[task].steps:
                runners.setdefault(step[0], []).append(prefix)
        words: list[BankLayer | None] = [None] * len(header.layers)
        for index, entry in entries.items():
            layer, prefixes = header.layers[index], runners.get(index, [])
            section = {kind: parts.pop(bank_section(bank, layer.name, kind), b"") for kind in _BANK_SECTIONS}
            with _at(f"bank {bank}, layer {layer.name!r}"):
                words[index], planes = _words(entry, layer, len(members), prefixes, section)
            masks |= {(members[prefix], index): plane for prefix, plane in zip(prefixes, planes, strict=True)}
        banks.append(Bank(tuple(words)))
    tasks = []
    for number, given in enumerate(header.tasks):
        with _at(f"task {given.name!r}, requantization"):
            scales = _requantizations(given, header.layers, parts.pop(task_section(number, "requantization"), b""))
        steps: list[Step | None] = [None] * len(header.layers)
        for (index, *_), scale in zip(given.steps, scales, strict=True):
            steps[index] = Step(masks.get((number, index)), scale)
        routing = parts.pop(task_section(number, "routing"), b"")
        with _at(f"task {given.name!r}, gate"):
            gate = _gate(given.gate, header.input_shape, parts.pop(task_section(number, "gate"), b""))
        tasks.append(Task(given.name, given.bank, given.classes, tuple(steps), routing, gate))
    return PackedNetwork(header.input_shape, header.input, header.layers, tuple(banks), tuple(tasks))


def _check_sizes(header: Header, size: int) -> None:
    """Refuse layers that cannot be, and headers that ask for far more memory than ``size`` bytes have a use for."""
    no_words = Bank((None,) * len(header.layers))
    geometry = PackedNetwork(header.input_shape, header.input, header.layers, (no_words,), ())
    for layer, shape in zip(header.layers, geometry.shapes, strict=True):
        if math.prod(shape) > MAX_ACTIVATIONS:
            raise ArtifactError(f"layer {layer.name!r}: its output {shape} has more than {MAX_ACTIVATIONS} activations")
    weights = [layer.weight_count for layer in header.layers]
    entries = [layer.multipliers for layer in header.layers]
    promised = WORK_BYTES * max(weights, default=0)
    for bank in header.banks:
        promised += WORD_BYTES * sum(weights[index] for index in bank)
    for task in header.tasks:
        promised += sum(weights[index] + SCALE_BYTES * entries[index] for index, *_ in task.steps)
        if task.gate is not None:
            features = task.gate.made().count(header.input_shape)
            promised += sum(GATE_BYTES * features * (1 + rows) for _, _, rows, _, _ in task.gate.components)
    most = FREE_BYTES + BYTES_PER_BYTE * size
    if promised > most:
        raise ArtifactError(
            f"the network takes {promised} bytes in memory, at most {most} for {size} bytes of sections"
        )


def _words(
    header: WordsHeader, layer: Layer, members: int, prefixes: list[int], section: dict[str, bytes]
) -> tuple[BankLayer, Bools]:
    """The weight memory of a layer, and the masks (tasks, *weights) of the tasks with these prefixes."""
    if not isinstance(layer, Weighted):
        raise ArtifactError(f"a {layer.kind} has no weights")
    if header.first + len(header.entries) > members:
        raise ArtifactError(f"{header.first + len(header.entries)} codebooks for {members} tasks")
    with _at("codebooks"):
        fields = unpack_fields(section["codebooks"], header.centroid_bits, sum(header.entries))
    codebooks = [NO_CODEBOOK] * members
    held = np.split(_signed(fields, header.centroid_bits), np.cumsum(header.entries, dtype=np.int64))[:-1]
    codebooks[header.first : header.first + len(held)] = held
    planes = decode_masks(section["masks"], len(prefixes), math.prod(layer.weight_shape))
    owner = owners(dict(zip(prefixes, planes, strict=True)), planes.shape[1:])
    used = np.flatnonzero(owner != UNUSED)
    widths = np.array([code_bits(book) for book in codebooks], np.int64)[owner[used]]
    code = np.zeros(len(owner), np.uint8)
    with _at("codes"):
        code[used] = unpack_fields(section["codes"], widths, len(used))
    shape = layer.weight_shape
    memory = BankLayer(
        owner.reshape(shape), code.reshape(shape), tuple(codebooks), header.centroid_bits, header.exponent
    )
    return memory, planes.reshape(-1, *shape)


def _gate(header: GateHeader | None, shape: Shape, packed: bytes) -> Gate | None:
    """The gate of a task, None where its header has none."""
    if header is None:
        return None
    features = header.made()
    count = features.count(shape)
    places, fields = [], []
    for _, linear, rows, of_map, of_offset in header.components:
        if rows > count:
            raise ArtifactError(f"a map of {rows} rows, the inputs have {count} features")
        places.append(stored(rows, count))
        sizes = count, int(places[-1].sum()), rows, rows
        fields += list(zip(sizes, (linear, of_map, of_offset, SHIFT_BITS), strict=True))
    widths = np.concatenate([np.zeros(0, np.int64), *(np.full(size, bits) for size, bits in fields)])
    vectors = iter(np.split(unpack_fields(packed, widths, len(widths)), np.cumsum([size for size, _ in fields])))
    components = []
    for (bias, linear, _, of_map, of_offset), read in zip(header.components, places, strict=True):
        of_linear = _signed(next(vectors), linear)
        of_rows = np.zeros(read.shape, np.int64)
        of_rows[read] = _signed(next(vectors), of_map)
        offset, shift = _signed(next(vectors), of_offset), next(vectors).astype(np.int64)
        components.append(Component(bias, of_linear, of_rows, offset, shift))
    return Gate(features, tuple(components))


def _requantizations(task: TaskHeader, layers: tuple[Layer, ...], packed: bytes) -> list[Requantization | None]:
    """The requantization of every layer that a task runs, None where there is none."""
    entries = [layers[index].multipliers for index, *_ in task.steps]
    scalings = [scaling_of(step) for step in task.steps]
    fields = [
        (count, bits)
        for count, scaling in zip(entries, scalings, strict=True)
        if scaling is not None
        for bits in (scaling.multiplier_bits, scaling.offset_bits)
    ]
    total = sum(count * bits for count, bits in fields)
    if (total + 7) // 8 != len(packed):
        raise ArtifactError(f"{total} bits in {len(packed)} bytes")
    widths = np.concatenate([np.zeros(0, np.int64), *(np.full(count, bits) for count, bits in fields)])
    values = unpack_fields(packed, widths, len(widths))
    vectors = iter(np.split(values, np.cumsum([count for count, _ in fields], dtype=np.int64)))
    scales: list[Requantization | None] = []
    for scaling in scalings:
        if scaling is None:
            scales.append(None)
            continue
        multiplier, offset = (_signed(next(vectors), bits) for bits in (scaling.multiplier_bits, scaling.offset_bits))
        multiplier = multiplier if scaling.multiplier_bits else np.ones_like(multiplier)
        scales.append(Requantization(multiplier, offset, scaling.shift, scaling.output))
    return scales
