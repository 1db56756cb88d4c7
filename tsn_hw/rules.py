"""What makes a packed network consistent; every contradiction is refused with place, rule and value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from tsn_hw import arithmetic
from tsn_hw.errors import NetworkError
from tsn_hw.layers import INPUT, Flatten, Linear, MaxPool, Weighted
from tsn_hw.parts import MAX_CODE_BITS, UNUSED, BankLayer, Requantization

if TYPE_CHECKING:
    from tsn_hw.network import PackedNetwork

MAX_WEIGHTS = 2**28
"""Largest number of weights of one layer that is accepted."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What layers, tasks and the files of their memories may be called."""


def check(net: PackedNetwork) -> None:
    """Refuse a network that contradicts itself."""
    names = [layer.name for layer in net.layers]
    for what, values in (("layer", names), ("task", [task.name for task in net.tasks])):
        for name in values:
            if not NAME.fullmatch(name):
                raise NetworkError(f"{what} name {name!r}: must be 1..64 of letters, digits, '_', '.', '-'")
            if values.count(name) > 1:
                raise NetworkError(f"{what} name {name!r} is used {values.count(name)} times")
    if len(net.input_shape) not in (1, 3) or min(net.input_shape) < 1:
        raise NetworkError(f"input shape {net.input_shape}: must be (features,) or (channels, height, width)")
    for layer in net.layers:
        if isinstance(layer, Weighted) and not 1 <= int(np.prod(layer.weight_shape, dtype=object)) <= MAX_WEIGHTS:
            raise NetworkError(f"layer {layer.name!r}: {layer.weight_shape} weights, must be 1..{MAX_WEIGHTS}")
    _ = net.shapes
    if not net.banks:
        raise NetworkError("a network has at least one bank")
    for index in range(len(net.banks)):
        _check_bank(net, index)
    for index in range(len(net.tasks)):
        _check_task(net, index)
    _check_owners(net)


def _check_bank(net: PackedNetwork, bank: int) -> None:
    if len(net.banks[bank].layers) != len(net.layers):
        raise NetworkError(f"bank {bank}: {len(net.banks[bank].layers)} entries for {len(net.layers)} layers")
    owners = len(net.bank_tasks(bank))
    for layer, words in zip(net.layers, net.banks[bank].layers, strict=True):
        if words is None:
            continue
        where = f"bank {bank}, layer {layer.name!r}"
        if not isinstance(layer, Weighted):
            raise NetworkError(f"{where}: {type(layer).__name__} has no weights")
        for what, plane in (("owner", words.owner), ("code", words.code)):
            if plane.shape != layer.weight_shape:
                raise NetworkError(f"{where}: {what} plane has shape {plane.shape}, the weights {layer.weight_shape}")
        if not 4 <= words.centroid_bits <= 16:
            raise NetworkError(f"{where}: {words.centroid_bits} centroid bits, must be 4..16")
        if not -64 <= words.exponent <= 64:
            raise NetworkError(f"{where}: exponent {words.exponent}, must be -64..64")
        if len(words.codebooks) != owners:
            raise NetworkError(f"{where}: {len(words.codebooks)} codebooks for {owners} tasks")
        if words.owner.min() < UNUSED or words.owner.max() >= owners:
            raise NetworkError(f"{where}: owners {words.owner.min()}..{words.owner.max()}, the bank has {owners} tasks")
        _check_codes(where, words)


def _check_codes(where: str, words: BankLayer) -> None:
    low, high = words.centroid_range
    for owner, book in enumerate(words.codebooks):
        if len(book) > 1 << MAX_CODE_BITS:
            raise NetworkError(f"{where}: codebook {owner} has {len(book)} entries, at most {1 << MAX_CODE_BITS}")
        if len(book) and (book.min() < low or book.max() > high):
            raise NetworkError(f"{where}: codebook {owner} leaves the {words.centroid_bits}-bit range {low}..{high}")
    entries = np.array([len(book) for book in words.codebooks] + [1])  # last entry: UNUSED words, whose code is 0
    wrong = words.code >= entries[words.owner]
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise NetworkError(
            f"{where}: code {words.code[place]} at {place} exceeds the {entries[words.owner[place]]} entries "
            f"of codebook {words.owner[place]}"
        )


def _check_task(net: PackedNetwork, index: int) -> None:
    task = net.tasks[index]
    if not 0 <= task.bank < len(net.banks):
        raise NetworkError(f"task {task.name!r}: bank {task.bank}, the network has {len(net.banks)}")
    if len(task.steps) != len(net.layers):
        raise NetworkError(f"task {task.name!r}: {len(task.steps)} steps for {len(net.layers)} layers")
    if not any(step is not None for step in task.steps):
        raise NetworkError(f"task {task.name!r}: runs no layer")
    head = net.head(index)
    for number, layer, step in net.run_order(index):
        where = f"task {task.name!r}, layer {layer.name!r}"
        for source in layer.inputs:
            if source != INPUT and task.steps[source] is None:
                raise NetworkError(f"{where}: its input {net.layers[source].name!r} is not run")
        if isinstance(layer, Weighted):
            net.words(index, number)
            if step.mask is None or step.mask.shape != layer.weight_shape:
                shape = None if step.mask is None else step.mask.shape
                raise NetworkError(f"{where}: mask has shape {shape}, the weights {layer.weight_shape}")
        elif step.mask is not None:
            raise NetworkError(f"{where}: {type(layer).__name__} takes no mask")
        if isinstance(layer, MaxPool | Flatten):
            if step.requantization is not None:
                raise NetworkError(f"{where}: {type(layer).__name__} takes no requantization")
        elif step.requantization is None:
            raise NetworkError(f"{where}: {type(layer).__name__} needs a requantization")
        else:
            _check_requantization(net, index, number, step.requantization, where)
    if not isinstance(net.layers[head], Linear) or net.step(index, head).requantization.output is not None:  # type: ignore[union-attr]
        raise NetworkError(
            f"task {task.name!r}: its last layer {net.layers[head].name!r} must be a Linear with raw output"
        )
    if any(other.steps[head] is not None for other in net.tasks if other is not task):
        raise NetworkError(f"task {task.name!r}: its head {net.layers[head].name!r} is run by another task too")
    if net.shapes[head] != (len(task.classes),):
        raise NetworkError(f"task {task.name!r}: {len(task.classes)} classes, its head gives {net.shapes[head]}")


def _check_requantization(net: PackedNetwork, task: int, index: int, requant: Requantization, where: str) -> None:
    layer = net.layers[index]
    channels = layer.channels if isinstance(layer, Weighted) else 1
    for what, vector in (("multiplier", requant.multiplier), ("offset", requant.offset)):
        if vector.shape != (channels,):
            raise NetworkError(f"{where}: {what} has shape {vector.shape}, must be ({channels},)")
    for multiplier in (int(requant.multiplier.min()), int(requant.multiplier.max())):
        if not -(1 << 15) <= multiplier < 1 << 15:
            raise NetworkError(f"{where}: multiplier {multiplier} needs more than 16 bits")
    if not 0 <= requant.shift <= arithmetic.MAX_SHIFT:
        raise NetworkError(f"{where}: shift {requant.shift}, must be 0..{arithmetic.MAX_SHIFT}")
    if requant.output is None and index != net.head(task):
        raise NetworkError(f"{where}: only a task's last layer gives raw logits")
    low, high = net.accumulator(task, index)
    largest = arithmetic.requantization_magnitude(low, high, requant.multiplier, requant.offset)
    if largest + (1 << requant.shift >> 1) >= 1 << 63:
        raise NetworkError(f"{where}: accumulator * multiplier + offset reaches {largest}, must fit 63 bits")
    if requant.output is None and (largest >> requant.shift) >= arithmetic.INT32[1]:
        raise NetworkError(f"{where}: logits reach {largest >> requant.shift}, must fit int32")


def _check_owners(net: PackedNetwork) -> None:
    """A weight's owner is the first task of the bank whose mask holds it; no mask, no owner."""
    for bank_index, bank in enumerate(net.banks):
        for number, words in enumerate(bank.layers):
            if words is None:
                continue
            first = np.full(words.owner.shape, UNUSED, np.int16)
            for prefix, task in reversed(list(enumerate(net.bank_tasks(bank_index)))):
                step = net.tasks[task].steps[number]
                if step is not None and step.mask is not None:
                    first[step.mask] = prefix
            wrong = first != words.owner
            if wrong.any():
                place = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise NetworkError(
                    f"bank {bank_index}, layer {net.layers[number].name!r}: weight {place} has owner "
                    f"{words.owner[place]}, the first task that uses it is {first[place]} (-1: none)"
                )
