"""Every rule that a PackedNetwork is born with, broken once: the whole message is the expected output."""

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.small_network import (
    ADD,
    AVERAGE,
    CONV,
    FLATTEN,
    HEAD_A,
    HEAD_B,
    MIX,
    NET,
    POOL,
    U8,
    column,
    content,
    put,
    scale,
    square,
    step,
    words,
)
from tsn_hw.core.artifact import from_bytes, to_bytes
from tsn_hw.core.errors import NetworkError

OTHER_TASK = replace(NET.tasks[1], name="c")
BODY_STEP = step([[0, 0], [0, 0]], scale(2))
NAME_RULE = "must be 1..64 of letters, digits, '_', '.', '-'"


def task_path(task, layer, *rest):
    return "tasks", task, "steps", layer, *rest


def bank_path(layer, *rest):
    return "banks", 0, "layers", layer, *rest


BROKEN = [
    # names and geometry
    (("layers", CONV, "name"), "my conv", f"layer name 'my conv': {NAME_RULE}"),
    (("layers", CONV, "name"), "", f"layer name '': {NAME_RULE}"),
    (("layers", CONV, "name"), "-conv", f"layer name '-conv': {NAME_RULE}"),
    (("layers", CONV, "name"), "conv\n", f"layer name 'conv\\n': {NAME_RULE}"),
    (("layers", CONV, "name"), "x" * 65, f"layer name '{'x' * 65}': {NAME_RULE}"),
    (("layers", CONV, "name"), "mix", "layer name 'mix' is used 2 times"),
    (("tasks", 0, "name"), "a/b", f"task name 'a/b': {NAME_RULE}"),
    (("tasks", 0, "name"), "b", "task name 'b' is used 2 times"),
    (("input_shape",), (2, 2), "input shape (2, 2): must be (features,) or (channels, height, width)"),
    (("input_shape",), (1, 0, 2), "input shape (1, 0, 2): must be (features,) or (channels, height, width)"),
    (("input_shape",), (), "input shape (): must be (features,) or (channels, height, width)"),
    (("layers", HEAD_A, "in_features"), 0, "layer 'head_a': (2, 0) weights, must be 1..268435456"),
    (("layers", HEAD_A, "in_features"), 2**28, "layer 'head_a': (2, 268435456) weights, must be 1..268435456"),
    (("layers", HEAD_A, "in_features"), 2**63, f"layer 'head_a': (2, {2**63}) weights, must be 1..268435456"),
    (("layers", MIX, "inputs"), (MIX,), "layer 'mix': inputs (1,) must be -1 or earlier than 1"),
    (("layers", MIX, "inputs"), (-2,), "layer 'mix': inputs (-2,) must be -1 or earlier than 1"),
    (("layers", HEAD_A, "in_features"), 3, "layer 'head_a': takes (3,), its input is (2,)"),
    # banks
    (("banks",), (), "a network has at least one bank"),
    (("banks", 0, "layers"), (None,), "bank 0: 1 entries for 8 layers"),
    (bank_path(POOL), words([[0]], [[0]], [1], []), "bank 0, layer 'pool': MaxPool has no weights"),
    (
        bank_path(CONV, "owner"),
        np.zeros((2, 1)),
        "bank 0, layer 'conv': owner plane has shape (2, 1), the weights (2, 1, 1, 1)",
    ),
    (
        bank_path(CONV, "code"),
        np.zeros((1, 2, 1, 1)),
        "bank 0, layer 'conv': code plane has shape (1, 2, 1, 1), the weights (2, 1, 1, 1)",
    ),
    (bank_path(CONV, "centroid_bits"), 3, "bank 0, layer 'conv': 3 centroid bits, must be 4..16"),
    (bank_path(CONV, "centroid_bits"), 17, "bank 0, layer 'conv': 17 centroid bits, must be 4..16"),
    (bank_path(CONV, "exponent"), 65, "bank 0, layer 'conv': exponent 65, must be -64..64"),
    (bank_path(CONV, "exponent"), -65, "bank 0, layer 'conv': exponent -65, must be -64..64"),
    (bank_path(CONV, "codebooks"), (np.array([0, 1]),), "bank 0, layer 'conv': 1 codebooks for 2 tasks"),
    (bank_path(CONV, "owner"), column(0, 2), "bank 0, layer 'conv': owners 0..2, the bank has 2 tasks"),
    (bank_path(CONV, "owner"), column(-2, 1), "bank 0, layer 'conv': owners -2..1, the bank has 2 tasks"),
    (
        bank_path(CONV, "codebooks", 0),
        np.zeros(257, np.int64),
        "bank 0, layer 'conv': codebook 0 has 257 entries, at most 256",
    ),
    (
        bank_path(CONV, "codebooks", 1),
        np.array([128]),
        "bank 0, layer 'conv': codebook 1 leaves the 8-bit range -128..127",
    ),
    (
        bank_path(CONV, "codebooks", 1),
        np.array([-129]),
        "bank 0, layer 'conv': codebook 1 leaves the 8-bit range -128..127",
    ),
    (
        bank_path(CONV, "code"),
        column(1, 1),
        "bank 0, layer 'conv': code 1 at (1, 0, 0, 0) exceeds the 1 entries of codebook 1",
    ),
    (
        bank_path(HEAD_B, "codebooks"),
        (np.array([-7]), np.array([], np.int64)),
        "bank 0, layer 'head_b': code 0 at (0, 0) exceeds the 0 entries of codebook 1",
    ),
    (
        bank_path(MIX, "code"),
        square([[0, 1], [2, 1]]),
        "bank 0, layer 'mix': code 1 at (0, 1, 0, 0) exceeds the 1 entries of codebook -1",
    ),
    # tasks
    (("tasks",), (replace(OTHER_TASK, bank=1), *NET.tasks), "task 'c': bank 1, the network has 1"),
    (("tasks",), (replace(OTHER_TASK, bank=-1), *NET.tasks), "task 'c': bank -1, the network has 1"),
    (("tasks", 0, "steps"), NET.tasks[0].steps[:-1], "task 'a': 7 steps for 8 layers"),
    (("tasks", 0, "steps"), (None,) * 8, "task 'a': runs no layer"),
    (task_path(0, MIX), None, "task 'a', layer 'add': its input 'mix' is not run"),
    (bank_path(MIX), None, "layer 'mix': holds no words in the bank of 'a'"),
    (task_path(0, CONV, "mask"), None, "task 'a', layer 'conv': mask has shape None, the weights (2, 1, 1, 1)"),
    (
        task_path(0, CONV, "mask"),
        np.ones((2, 1), bool),
        "task 'a', layer 'conv': mask has shape (2, 1), the weights (2, 1, 1, 1)",
    ),
    (task_path(1, POOL, "mask"), np.ones(1, bool), "task 'b', layer 'pool': MaxPool takes no mask"),
    (task_path(0, POOL, "requantization"), scale(1), "task 'a', layer 'pool': MaxPool takes no requantization"),
    (task_path(0, FLATTEN, "requantization"), scale(1), "task 'a', layer 'flatten': Flatten takes no requantization"),
    (task_path(0, CONV, "requantization"), None, "task 'a', layer 'conv': Conv2d needs a requantization"),
    (task_path(0, AVERAGE, "requantization"), None, "task 'a', layer 'average': AvgPool needs a requantization"),
    (task_path(0, ADD, "requantization"), None, "task 'a', layer 'add': Add needs a requantization"),
    (task_path(1, HEAD_B, "requantization"), None, "task 'b', layer 'head_b': Linear needs a requantization"),
    # requantization
    (
        task_path(0, CONV, "requantization", "multiplier"),
        np.ones(1, np.int64),
        "task 'a', layer 'conv': multiplier has shape (1,), must be (2,)",
    ),
    (
        task_path(0, ADD, "requantization", "offset"),
        np.zeros(2, np.int64),
        "task 'a', layer 'add': offset has shape (2,), must be (1,)",
    ),
    (
        task_path(0, CONV, "requantization", "multiplier"),
        np.array([1, 32768]),
        "task 'a', layer 'conv': multiplier 32768 needs more than 16 bits",
    ),
    (task_path(0, CONV, "requantization", "shift"), -1, "task 'a', layer 'conv': shift -1, must be 0..62"),
    (task_path(0, CONV, "requantization", "shift"), 63, "task 'a', layer 'conv': shift 63, must be 0..62"),
    (
        task_path(0, MIX, "requantization", "output"),
        None,
        "task 'a', layer 'mix': only a task's last layer gives raw logits",
    ),
    (
        task_path(0, CONV, "requantization", "offset"),
        np.array([2**63 - 1 - 127 * 255, 0]),
        f"task 'a', layer 'conv': accumulator * multiplier + offset reaches {2**63 - 1}, must fit 63 bits",
    ),
    (
        task_path(0, HEAD_A, "requantization", "offset"),
        np.array([0, -(2**31 - 1 - 255)]),
        "task 'a', layer 'head_a': logits reach 2147483647, must fit int32",
    ),
    # heads
    (
        task_path(0, HEAD_A, "requantization", "output"),
        U8,
        "task 'a': its last layer 'head_a' must be a Linear with raw output",
    ),
    (task_path(0, HEAD_A), None, "task 'a': its last layer 'flatten' must be a Linear with raw output"),
    (task_path(1, HEAD_A), BODY_STEP, "task 'a': its head 'head_a' is run by another task too"),
    (("tasks", 0, "classes"), ("cat",), "task 'a': 1 classes, its head gives (2,)"),
    # owners
    (
        task_path(0, CONV, "mask"),
        column(0, 0),
        "bank 0, layer 'conv': weight (0, 0, 0, 0) has owner 0, the first task that uses it is 1 (-1: none)",
    ),
    (
        task_path(1, CONV, "mask"),
        column(1, 0),
        "bank 0, layer 'conv': weight (1, 0, 0, 0) has owner 1, the first task that uses it is -1 (-1: none)",
    ),
    (
        task_path(0, MIX, "mask"),
        square([[1, 1], [0, 1]]),
        "bank 0, layer 'mix': weight (0, 1, 0, 0) has owner -1, the first task that uses it is 0 (-1: none)",
    ),
    (
        task_path(0, CONV, "mask"),
        column(1, 1),
        "bank 0, layer 'conv': weight (1, 0, 0, 0) has owner 1, the first task that uses it is 0 (-1: none)",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), BROKEN, ids=[message for _, _, message in BROKEN])
def test_a_network_that_contradicts_itself_is_refused(path, value, message):
    with pytest.raises(NetworkError) as error:
        put(NET, path, value)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("layers", CONV, "name"), "x" * 64),
        (("layers", CONV, "name"), "0_.-"),
        (bank_path(CONV, "centroid_bits"), 16),
        (bank_path(CONV, "exponent"), 64),
        (bank_path(CONV, "codebooks", 0), np.arange(-128, 128)),
        (task_path(0, CONV, "requantization", "multiplier"), np.array([32767, -32767])),
        (task_path(0, CONV, "requantization", "shift"), 62),
        (task_path(0, CONV, "requantization", "offset"), np.array([2**63 - 2 - 127 * 255, 0])),
        (task_path(0, HEAD_A, "requantization", "offset"), np.array([0, -(2**31 - 2 - 255)])),
    ],
)
def test_the_last_value_that_keeps_the_rule_is_accepted(path, value):
    changed = put(NET, path, value)
    assert content(changed) != content(NET)
    assert content(from_bytes(to_bytes(changed))) == content(changed)
