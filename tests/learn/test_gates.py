"""Learned gates: they name tasks, each from its own data alone."""

from dataclasses import replace

import numpy as np
import pytest

from sim import Gate
from tests.helpers.small_network import content, scale, step, words
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.gate import Features
from tsn_hw.core.layers import Flatten, Linear
from tsn_hw.core.network import Bank, PackedNetwork, Task
from tsn_hw.learn.data.images import digits
from tsn_hw.learn.data.inputs import integers
from tsn_hw.learn.data.tasks import mixed, permuted
from tsn_hw.learn.gates import GateSettings, learn_gates

DIGITS, BYTE = digits(), ActFormat(8, False, -8)
CENTRED = [(x / 256 - 0.5).astype(np.float32) for x in (DIGITS.x_train, DIGITS.x_test)]
VALUES = permuted(replace(DIGITS, x_train=CENTRED[0], x_test=CENTRED[1]), 4, seed=0, valid_share=0.1)
PERMUTED = permuted(DIGITS, 4, seed=0, valid_share=0.1)
LARGE = mixed(
    [replace(DIGITS, name="dark", x_train=DIGITS.x_train // 2, x_test=DIGITS.x_test // 2), DIGITS],
    side=16,
    channels=3,
    seed=0,
    valid_share=0.1,
)
IMAGES = GateSettings("images", bits=6, components=2, pool=4, edges=4)


def network_of(stream, form=BYTE):
    """A network for the tasks of a stream that computes nothing of use."""
    count, features = len(stream), int(np.prod(stream.input_shape))
    heads = [Linear(f"head{t}", features, 10, (0,)) for t in range(count)]
    ones, zeros = np.ones((10, features), bool), np.zeros((10, features), int)
    held = [words(zeros + t, zeros, *[[1] if owner == t else [] for owner in range(count)]) for t in range(count)]
    tasks = []
    for t, name in enumerate(stream.names):
        steps = [step(ones, scale(10, 0, None)) if t == own else None for own in range(count)]
        tasks.append(Task(name, 0, stream.classes[t], (step(), *steps)))
    layers = (Flatten("flatten"), *heads)
    return PackedNetwork(stream.input_shape, form, layers, (Bank((None, *held)),), tuple(tasks))


def named(net, stream, together=1):
    """The share of test inputs whose task is named."""
    found = [Gate(net).predict(integers(stream.task(t).x_test, net.input), together) == t for t in range(len(stream))]
    return float(np.concatenate(found).mean())


@pytest.mark.parametrize(
    ("stream", "form", "settings", "least"),
    [
        (PERMUTED, BYTE, GateSettings(), 0.97),
        (VALUES, ActFormat(8, True, -7), GateSettings(), 0.97),  # negative or not
        (PERMUTED, ActFormat(4, False, -4), GateSettings(bits=1), 0.9),
        (LARGE, BYTE, IMAGES, 0.97),
    ],
    ids=["pixels", "signed", "one bit", "images"],
)
def test_learned_gates_name_the_task_of_test_inputs(stream, form, settings, least) -> None:
    net = learn_gates(network_of(stream, form), stream, settings, seed=0)
    assert named(net, stream) >= least
    assert named(net, stream, together=20) == 1


@pytest.mark.parametrize(("stream", "settings"), [(PERMUTED, GateSettings()), (LARGE, IMAGES)])
def test_a_later_task_changes_no_earlier_gate(stream, settings) -> None:
    net = network_of(stream)
    together = learn_gates(net, stream, settings, seed=0)
    first = learn_gates(net.first_tasks(1), stream, settings, seed=0)
    assert content(first) == content(together.first_tasks(1))


def test_settings_that_cannot_be_are_refused() -> None:
    net = network_of(PERMUTED)
    assert GateSettings(bits=4).features((8,), ActFormat(4, True, 0)) == Features(shift=3)
    flat = replace(PERMUTED, names=("other", *PERMUTED.names[1:]))
    for make, message in (
        (lambda: GateSettings("images", bits=2), "gate bits = 2: must be 4..8 for images"),
        (lambda: GateSettings(components=0), "gate: components must be 1..64, pool at least 1, edges at least 0"),
        (lambda: learn_gates(net, flat, GateSettings(), 0), "gates: the tasks digits-permuted-0"),
    ):
        with pytest.raises(SettingsError) as error:
            make()
        assert str(error.value).startswith(message)
