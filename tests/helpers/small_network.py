"""A network of every kind of layer that is small enough to be read, and tools to break it."""

import dataclasses
from dataclasses import replace

import numpy as np

from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Requantization, Step, Task

U8 = ActFormat(bits=8, signed=False, exponent=0)
CONV, MIX, ADD, AVERAGE, POOL, FLATTEN, HEAD_A, HEAD_B = range(8)


def words(owner, code, *codebooks):
    """The weight memory of a layer, with 8-bit centroids in units of 2**-7."""
    return BankLayer(np.array(owner), np.array(code), tuple(np.array(b, np.int64) for b in codebooks), 8, -7)


def scale(channels, shift=1, output=U8):
    """A requantization by 2**-shift."""
    return Requantization(np.ones(channels, np.int64), np.zeros(channels, np.int64), shift, output)


def step(mask=None, requantization=None):
    """A step whose mask may be given as lists."""
    return Step(None if mask is None else np.array(mask, bool), requantization)


def column(*values):
    """Values as the weights of 1 x 1 kernels, (len(values), 1, 1, 1)."""
    return np.array(values).reshape(-1, 1, 1, 1)


def square(rows):
    """Rows as the weights of 1 x 1 kernels, (out, in, 1, 1)."""
    return np.array(rows)[:, :, None, None]


def small_network():
    """Every kind of layer, one bank, two tasks: b borrows all that a owns in conv, and half of it in mix."""
    layers = (
        Conv2d("conv", 1, 2, (1, 1)),
        Conv2d("mix", 2, 2, (1, 1), inputs=(0,)),
        Add("add", (0, 1)),
        AvgPool("average", (3, 2), (1, 1), (2,)),
        MaxPool("pool", (1, 1), (1, 1), (3,)),
        Flatten("flatten", (4,)),
        Linear("head_a", 2, 2, (5,)),
        Linear("head_b", 2, 3, (5,)),
    )
    bank = Bank(
        (
            words(column(0, 1), column(1, 0), [-128, 127], [5]),
            words(square([[0, UNUSED], [1, 0]]), square([[0, 0], [2, 1]]), [3, -4], [10, 20, 30]),
            *[None] * 4,
            words([[0, 0], [0, UNUSED]], [[0, 1], [1, 0]], [1, -1], []),
            words([[1, 1], [1, 1], [UNUSED, 1]], [[0, 0], [0, 0], [0, 0]], [], [-7]),
        )
    )
    shared = (step(None, scale(1)), step(None, scale(1, shift=2)), step(), step())
    a = (
        step(column(1, 0), scale(2)),
        step(square([[1, 0], [0, 1]]), scale(2)),
        *shared,
        step([[1, 1], [1, 0]], scale(2, 0, None)),
        None,
    )
    b = (
        step(column(1, 1), scale(2)),
        step(square([[1, 0], [1, 0]]), scale(2)),
        *shared,
        None,
        step([[1, 1], [1, 1], [0, 1]], scale(3, 0, None)),
    )
    tasks = (Task("a", 0, ("cat", "dog"), a), Task("b", 0, ("0", "1", "2"), b, routing=b"statistics"))
    return PackedNetwork((1, 3, 2), U8, layers, (bank,), tasks)


NET = small_network()


def other_network():
    """NET, but one weight that both tasks read has another code."""
    conv = replace(NET.banks[0].layers[0], code=np.zeros((2, 1, 1, 1)))
    return replace(NET, banks=(Bank((conv, *NET.banks[0].layers[1:])),))


def put(part, path, value):
    """A copy of nested dataclasses and tuples in which the part at ``path`` is ``value``."""
    if not path:
        return value
    key, *rest = path
    if isinstance(part, tuple):
        return (*part[:key], put(part[key], rest, value), *part[key + 1 :])
    return replace(part, **{key: put(getattr(part, key), rest, value)})


def content(part):
    """Everything a network holds, as nested tuples that compare with ==."""
    if dataclasses.is_dataclass(part):
        return type(part).__name__, *(content(getattr(part, field.name)) for field in dataclasses.fields(part))
    if isinstance(part, tuple):
        return tuple(content(entry) for entry in part)
    if isinstance(part, np.ndarray):
        return part.dtype.str, part.shape, part.tobytes()
    return part


def arrays_of(part):
    """All arrays that a network holds."""
    if isinstance(part, np.ndarray):
        yield part
    elif isinstance(part, tuple):
        for entry in part:
            yield from arrays_of(entry)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from arrays_of(getattr(part, field.name))
