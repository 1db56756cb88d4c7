"""Streams of tasks of the networks of the literature, made small: every engine, every task, both layouts."""

import os

import pytest

from benchmarks.nets import Numbers, random_alexnet, random_mlp, random_resnet18
from benchmarks.streams import stream_of
from benchmarks.verify_onnx import Effort, verify

STREAMS = {
    "MLP, 10 tasks": lambda: stream_of(random_mlp((60, 30, 30, 10)), 10),
    "AlexNet with batch norms, 10 tasks": lambda: stream_of(
        random_alexnet(Numbers(multiplier_bits=12), side=24, channels=(6, 8, 10), hidden=(20, 20)), 10
    ),
    "ResNet-18 with batch norms, 3 tasks": lambda: stream_of(random_resnet18(width=3, side=16), 3),
}


@pytest.mark.parametrize("name", STREAMS)
def test_no_integer_differs(tmp_path, name):
    effort = Effort(6, evaluator_inputs=1, old_python=os.environ.get("TSN_HW_OLD_PYTHON"))
    counts = verify([STREAMS[name]()], tmp_path, effort)
    assert {engine.rpartition(" ")[0] for engine in counts} >= {"", "onnxruntime", "reference evaluator"}
    assert min(counts.values()) > 100
