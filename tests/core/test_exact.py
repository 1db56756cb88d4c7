"""Sizes, formats and foldings that numpy counted are Python's integers from birth on, and nothing else is let in."""

import numpy as np
import pytest

from export.memories.files import memory_files
from tests.helpers.handmade import linear, requantization
from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import FoldingError, NetworkError
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool
from tsn_hw.core.network import PackedNetwork, Task
from tsn_hw.core.parts import BankLayer, Requantization
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator

NET = linear([[1, 2], [0, 3]], requantization(None, channels=2), ActFormat(8, False, 0), head=False)
DEEP = np.int64(1)


def counted(net: PackedNetwork) -> PackedNetwork:
    """The same network, with numpy's integers wherever a number may stand."""
    form = ActFormat(np.uint8(8), np.bool_(False), np.int16(0))  # type: ignore[arg-type]
    layers = tuple(Linear(layer.name, np.int64(2), np.int32(2), (np.int64(-1),)) for layer in net.layers)  # type: ignore[arg-type]
    (words,) = net.banks[0].layers
    assert words is not None
    own = BankLayer(words.owner, words.code, words.codebooks, np.int64(16), np.int64(0))  # type: ignore[arg-type]
    (step,) = net.tasks[0].steps
    assert step is not None
    assert step.requantization is not None
    scale = Requantization(step.requantization.multiplier, step.requantization.offset, np.int64(0), None)  # type: ignore[arg-type]
    task = Task("task0", np.int8(0), net.tasks[0].classes, (type(step)(step.mask, scale),))  # type: ignore[arg-type]
    return PackedNetwork(tuple(np.array([2])), form, layers, (type(net.banks[0])((own,)),), (task,))


def test_a_network_of_numpy_integers_is_the_network_of_pythons() -> None:
    assert artifact.to_bytes(counted(NET)) == artifact.to_bytes(NET)


def test_a_folding_of_numpy_integers_gives_the_same_memories() -> None:
    files = [
        memory_files(accelerator(NET, HardwareSettings({"head": UnitSettings(Folding(one, one))}, max_tasks=room)))
        for one, room in ((1, 4), (np.int64(1), np.int64(4)))
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    "layer",
    [
        Linear("a", np.int64(2), np.int64(3)),
        Conv2d("a", DEEP, DEEP, (DEEP, DEEP), (DEEP, DEEP), (DEEP, DEEP), DEEP),
        MaxPool("a", (DEEP, DEEP), (DEEP, DEEP)),
        AvgPool("a", np.array([1, 1]), [1, 1]),  # type: ignore[arg-type]
        Add("a", (DEEP, DEEP)),
        Flatten("a", (DEEP,)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_number_of_a_layer_is_pythons(layer: Layer) -> None:
    for value in vars(layer).values():
        numbers = value if isinstance(value, tuple) else () if isinstance(value, str) else (value,)
        assert {type(number) for number in numbers} <= {int}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear("fc", 2.0, 2), "Linear fc: in_features = 2.0: must be of whole numbers"),  # type: ignore[arg-type]
        (lambda: MaxPool("p", 2, (1, 1)), "MaxPool p: kernel = 2: must be of whole numbers"),  # type: ignore[arg-type]
        (lambda: ActFormat("8", False, 0), "ActFormat: bits = '8': must be of whole numbers"),  # type: ignore[arg-type]
        (lambda: Folding(1, np.float64(2)), "Folding: simd = np.float64(2.0): must be of whole numbers"),  # type: ignore[arg-type]
        (lambda: HardwareSettings(max_classes=2**62), f"max_classes={2**62}: must be 0..1048576"),
    ],
)
def test_what_is_no_integer_or_no_size_is_refused_at_birth(make: object, message: str) -> None:
    with pytest.raises((NetworkError, FoldingError)) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == message
