"""The content of a .tsn file: of a network, of the network as it stood after each of its tasks, and of one that grows.

The file after one more task differs in the words of the layers that tasks share, and in the last group of their masks.
All else is made once, so the files of all moments together cost little more than their bytes. The format stands in
:mod:`tsn_hw.core.artifact`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.container import pack
from tsn_hw.core.gate import SHIFT_BITS, Gate, stored
from tsn_hw.core.header import format_json, layer_json, scaling_bits, task_json, words_json
from tsn_hw.core.layers import INPUT
from tsn_hw.core.masks import GROUP, encode_masks
from tsn_hw.core.memory import pack_fields
from tsn_hw.core.network import UNUSED, BankLayer, PackedNetwork, Step, code_bits

T = TypeVar("T")
Sections = tuple[bytes, ...]


def file_of(net: PackedNetwork) -> bytes:
    """The file of a network."""
    return Writer().file(net)


def header_json(net: PackedNetwork) -> dict[str, Any]:
    """The header of the file of a network, as JSON values, without the sizes of sections."""
    return Writer().header(net, _whole(net))


def files_after_each_task(net: PackedNetwork) -> Iterator[bytes]:
    """The file of ``net.first_tasks(count)`` for every count from 1 on."""
    writer, run = Writer(), dict[int, None]()
    owners = [0] * len(net.banks)
    for number, task in enumerate(net.tasks):
        run |= dict.fromkeys(index for index, _, _ in net.run_order(number))
        owners[task.bank] += 1
        banks = max(bank for bank, count in enumerate(owners) if count) + 1
        yield writer.file(net, _Moment(number + 1, tuple(sorted(run)), tuple(owners[:banks])))


@dataclass(frozen=True)
class _Moment:
    """After ``tasks`` tasks: the layers that there are, by index in the network, and the tasks of every bank."""

    tasks: int
    layers: tuple[int, ...]
    owners: tuple[int, ...]


def _whole(net: PackedNetwork) -> _Moment:
    owners = tuple(len(net.bank_tasks(bank)) for bank in range(len(net.banks)))
    return _Moment(len(net.tasks), tuple(range(len(net.layers))), owners)


class Writer:
    """Files of a network that grows: what is the same object as in the file before is not made again."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Hashable, Any]] = {}

    def file(self, net: PackedNetwork, moment: _Moment | None = None) -> bytes:
        """The file of a network, or of a moment in its life."""
        moment = _whole(net) if moment is None else moment
        banks = (part for bank, index in _held(net, moment) for part in self._of_words(net, moment, bank, index)[1])
        tasks = (part for task in range(moment.tasks) for part in self._of_task(net, task))
        return pack(self.header(net, moment), [*banks, *tasks])

    def header(self, net: PackedNetwork, moment: _Moment) -> dict[str, Any]:
        """The header of a moment, without the sizes of sections."""
        number = {INPUT: INPUT} | {index: place for place, index in enumerate(moment.layers)}
        banks: list[list[dict[str, Any]]] = [[] for _ in moment.owners]
        for bank, index in _held(net, moment):
            banks[bank].append({"layer": number[index]} | self._of_words(net, moment, bank, index)[0])
        return {
            "input": {"shape": net.input_shape, "format": format_json(net.input)},
            "layers": [self._layer(net, index, number) for index in moment.layers],
            "banks": banks,
            "tasks": [self._task(net, task, number) for task in range(moment.tasks)],
        }

    def _once(self, name: Hashable, made_of: Hashable, make: Callable[[], T]) -> T:
        known = self._made.get(name)
        if known is None or known[0] != made_of:
            known = self._made[name] = made_of, make()
        result: T = known[1]
        return result

    def _layer(self, net: PackedNetwork, index: int, number: dict[int, int]) -> dict[str, Any]:
        layer = net.layers[index]
        inputs = tuple(number[source] for source in layer.inputs)

        def moved() -> dict[str, Any]:
            return layer_json(replace(layer, inputs=inputs))  # type: ignore[type-var]

        return self._once(("layer", index), (layer, inputs), moved)

    def _task(self, net: PackedNetwork, task: int, number: dict[int, int]) -> dict[str, Any]:
        places = tuple(number[index] for index, _, _ in net.run_order(task))
        told = (
            net.tasks[task].name,
            net.tasks[task].bank,
            net.tasks[task].classes,
            net.tasks[task].gate,
            _steps(net, task),
        )
        return self._once(("task", task), (places, told), lambda: task_json(net, task, places))

    def _of_words(self, net: PackedNetwork, moment: _Moment, bank: int, index: int) -> tuple[dict[str, Any], Sections]:
        """What the header says of a layer in a bank, and its sections."""
        owners, runners = moment.owners[bank], net.runners(bank, index)
        running = bisect_left(runners, owners, key=lambda runner: runner[0])
        words = net.banks[bank].layers[index]
        assert words is not None
        owning = min(owners, words.owned[-1][0] + 1 if words.owned else 0)  # codebooks up to the last that is one

        steps = tuple(step for _, step in runners[:running])

        def made() -> tuple[dict[str, Any], Sections]:
            return words_json(words, owning), (self._masks(bank, index, steps), *_words(words, owning))

        planes = _Same(words.owner), _Same(words.code), tuple(_Same(book) for _, book in words.owned)
        made_of = owning, words.centroid_bits, words.exponent, planes, steps
        return self._once(("words", bank, index), made_of, made)

    def _masks(self, bank: int, index: int, steps: Sequence[Step]) -> bytes:
        """The masks of the tasks that run a layer; whole groups are coded once."""
        groups = []
        for start in range(0, len(steps), GROUP):
            members = tuple(steps[start : start + GROUP])
            coded = partial(_coded, members)
            groups.append(
                self._once(("masks", bank, index, start), members, coded) if len(members) == GROUP else coded()
            )
        return b"".join(groups)

    def _of_task(self, net: PackedNetwork, task: int) -> Sections:
        made_of = net.tasks[task].routing, net.tasks[task].gate, _steps(net, task)
        return self._once(("scales", task), made_of, partial(_task_sections, net, task))


class _Same:
    """An array as what it is, not as what it holds."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.array is other.array

    def __hash__(self) -> int:
        return id(self.array)


def _steps(net: PackedNetwork, task: int) -> tuple[Step, ...]:
    return tuple(step for _, _, step in net.run_order(task))


def _held(net: PackedNetwork, moment: _Moment) -> Iterator[tuple[int, int]]:
    """Bank and index of every layer that a bank holds words of."""
    for bank in range(len(moment.owners)):
        held = net.banks[bank].layers
        yield from ((bank, index) for index in moment.layers if held[index] is not None)


def _coded(steps: Sequence[Step]) -> bytes:
    masks = [step.mask.ravel() for step in steps if step.mask is not None]
    return encode_masks(np.array(masks)) if masks else b""


def _words(words: BankLayer, owners: int) -> Sections:
    """The codes and the codebooks of the first owners."""
    owned = [(prefix, book) for prefix, book in words.owned if prefix < owners]
    used = (words.owner != UNUSED) & (words.owner < owners)
    bits = np.zeros(owners, np.int64)
    for prefix, book in owned:
        bits[prefix] = code_bits(book)
    centroids = np.concatenate([np.zeros(0, np.int64), *(book for _, book in owned)])
    packed = pack_fields(_twos_complement(centroids, words.centroid_bits), words.centroid_bits)
    return pack_fields(words.code[used], bits[words.owner[used]]), packed


def _task_sections(net: PackedNetwork, task: int) -> Sections:
    values, widths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for _, _, step in net.run_order(task):
        if (scale := step.requantization) is not None:
            for vector, bits in zip((scale.multiplier, scale.offset), scaling_bits(scale), strict=True):
                values.append(_twos_complement(vector, bits))
                widths.append(np.full(len(vector), bits))
    gate = net.tasks[task].gate
    scales = pack_fields(np.concatenate(values), np.concatenate(widths))
    return scales, net.tasks[task].routing, *([] if gate is None else [gate_section(gate)])


def gate_section(gate: Gate) -> bytes:
    """The numbers of a gate."""
    values, widths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for component in gate.components:
        linear, of_map, of_offset = component.bits
        places = stored(*component.map.shape)
        vectors = (component.linear, linear), (component.map[places], of_map), (component.offset, of_offset)
        for vector, bits in (*vectors, (component.shift, SHIFT_BITS)):
            values.append(_twos_complement(vector, bits))
            widths.append(np.full(len(vector), bits))
    return pack_fields(np.concatenate(values), np.concatenate(widths))


def _twos_complement(values: Ints, bits: int) -> NDArray[np.uint64]:
    return values.astype(np.uint64) & np.uint64((1 << bits) - 1)
