"""Kinds of layers that no engine has heard of: each engine gives the right integers, or one line that names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import export
import sim
from export.onnx_graphs.plan import plan_layer
from tsn_hw.app.paper.without_rounding import logits_without_rounding
from tsn_hw.core import artifact, reference
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import TsnError
from tsn_hw.core.layers import INPUT, LAYER_KINDS, Conv2d, Flatten, Layer, Linear, Shape
from tsn_hw.core.network import Bank, BankLayer, PackedNetwork, Requantization, Step, Task
from tsn_hw.hardware.pipeline import least_accelerator, obstacles
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.baselines import DenseModel
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import Formats

BYTE = ActFormat(8, False, -8)
SIZE = 4


@dataclass(frozen=True)
class Mirror(Layer):
    """The channels in the opposite order; computes nothing."""

    name: str
    inputs: tuple[int] = (INPUT,)

    def output_shape(self, *sources: Shape) -> Shape:
        return sources[0]


@dataclass(frozen=True)
class Triple(Layer):
    """Three times its input, requantized."""

    computes = True
    name: str
    inputs: tuple[int] = (INPUT,)

    def output_shape(self, *sources: Shape) -> Shape:
        return sources[0]

    def accumulator(self, inputs: Sequence[ActFormat], weights: Ints | None) -> tuple[Ints, Ints]:
        low, high = inputs[0].range
        return np.array([3 * low]), np.array([3 * high])


def _network(kind: type[Mirror] | type[Triple]) -> PackedNetwork:
    rng = np.random.default_rng(0)
    layers = (
        Conv2d("c", 3, SIZE, (3, 3), (1, 1), (1, 1)),
        kind("m", (0,)),
        Flatten("f", (1,)),
        Linear("head", SIZE**3, 3, (2,)),
    )

    def words(shape: Shape) -> BankLayer:
        codes = rng.integers(0, 4, shape).astype(np.uint8)
        return BankLayer(np.zeros(shape, np.int16), codes, (np.array([-3, -1, 2, 5]),), 8, 0)

    def scales(channels: int, output: ActFormat | None, shift: int) -> Requantization:
        return Requantization(np.ones(channels, np.int64), np.zeros(channels, np.int64), shift, output)

    bank = Bank((words((SIZE, 3, 3, 3)), None, None, words((3, SIZE**3))))
    steps = (
        Step(np.ones((SIZE, 3, 3, 3), bool), scales(SIZE, BYTE, 3)),
        Step(None, scales(1, BYTE, 1)) if kind is Triple else Step(),
        Step(),
        Step(np.ones((3, SIZE**3), bool), scales(3, None, 0)),
    )
    return PackedNetwork((3, SIZE, SIZE), BYTE, layers, (bank,), (Task("t", 0, ("a", "b", "c"), steps),))


def _truth(net: PackedNetwork, x: Ints) -> Ints:
    """Logits by arithmetic of its own."""
    sums = torch.conv2d(torch.from_numpy(x), torch.from_numpy(net.weights(0, 0)), padding=1).numpy()
    y = net.requantization(0, 0)(sums)
    y = y[:, ::-1] if isinstance(net.layers[1], Mirror) else net.requantization(0, 1)(3 * y)
    result: Ints = y.reshape(len(x), -1) @ net.weights(0, 3).T
    return result


X = np.random.default_rng(1).integers(0, 256, (2, 3, SIZE, SIZE))


def _refuses(make: Callable[[PackedNetwork], Any]) -> Callable[[PackedNetwork], Ints]:
    """An engine that must refuse, because what it makes gives no integers by itself."""

    def run(net: PackedNetwork) -> Ints:
        make(net)
        raise AssertionError("the layer was skipped without a word")

    return run


def _subnet(net: PackedNetwork) -> None:
    model, generator = SubnetModel(Architecture(net.input_shape, net.layers[:3]), Formats()), torch.Generator()
    model.add_bank(generator)
    model.add_task(0, 3, generator)
    model.calibrate(torch.rand(2, 3, SIZE, SIZE), 0)


def _dense(net: PackedNetwork) -> None:
    model = DenseModel(Architecture(net.input_shape, net.layers[:3]), 3, torch.Generator())
    model(torch.rand(2, 3, SIZE, SIZE))


ENGINES: dict[str, Callable[[PackedNetwork], Ints]] = {
    "the reference": lambda net: reference.run(net, 0, X)["head"],
    "the simulator": lambda net: sim.Simulator(net, 0)(X),
    "ONNX": _refuses(lambda net: export.onnx_graph(net, 0)),
    "ONNX, as check asks": _refuses(lambda net: [plan_layer(net, 0, i) for i in (0, 1)]),
    "QONNX": _refuses(lambda net: export.qonnx_graph(net, 0, "quant")),
    "QONNX with thresholds": _refuses(lambda net: export.qonnx_graph(net, 0, "multithreshold")),
    "unrounded inference": lambda net: logits_without_rounding(net, 0, X.astype(np.uint8)).numpy().astype(np.int64),
    "the learner": _refuses(_subnet),
    "the learner of dense networks": _refuses(_dense),
    "hardware": _refuses(least_accelerator),
    "hardware, as cost asks": _refuses(sim.estimate_cost),
}


NAMES = {
    "the learner of dense networks": "the learner",
    "hardware, as cost asks": "hardware",
    "ONNX, as check asks": "ONNX",
    "QONNX with thresholds": "QONNX",
}


@pytest.mark.parametrize("kind", [Mirror, Triple])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_computes_a_new_kind_or_names_layer_kind_and_itself(
    engine: str, kind: type[Mirror] | type[Triple], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAYER_KINDS, kind.__name__, kind)
    net = _network(kind)
    told = ""
    try:
        logits = ENGINES[engine](net)
    except TsnError as error:
        told = str(error)
    if told:
        assert told == f"layer 'm': kind {kind.__name__} is not supported by {NAMES.get(engine, engine)}"
    else:
        assert logits.tolist() == _truth(net, X).tolist()


@pytest.mark.parametrize("kind", [Mirror, Triple])
def test_a_file_holds_a_new_kind_and_check_tells_what_hardware_lacks(
    kind: type[Mirror] | type[Triple], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAYER_KINDS, kind.__name__, kind)
    data = artifact.to_bytes(_network(kind))
    assert artifact.to_bytes(artifact.from_bytes(data)) == data
    assert obstacles(artifact.from_bytes(data)) == [f"layer 'm': kind {kind.__name__} is not supported by hardware"]
