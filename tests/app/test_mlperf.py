"""The four networks of MLPerf Tiny with random weights, two tasks each: the same integers in every engine of Python.

More inputs: ``python benchmarks/verify_mlperf.py``.
"""

import numpy as np
import pytest
import torch

from sim import Simulator
from tests.helpers.learning import commit_randomly, labels_of, model_of
from tests.helpers.onnx_engines import assert_equal_integers
from tests.learn.test_modules import MLPERF
from tsn_hw.app.deploy.verify import adversarial_integers
from tsn_hw.core import reference
from tsn_hw.learn.freezing import freeze
from tsn_hw.learn.modules import body

SHAPES = {"ds_cnn": (1, 25, 10), "mobilenet": (3, 32, 32), "resnet8": (3, 32, 32), "autoencoder": (640,)}
"""Of inputs; of the large ones smaller, which changes no layer."""


@pytest.mark.parametrize("name", SHAPES)
def test_a_network_of_mlperf_tiny_gives_the_same_integers_everywhere(name: str) -> None:
    make, _ = MLPERF.NETWORKS[name]
    module = make(4)
    if name == "resnet8":
        module[4] = torch.nn.AdaptiveAvgPool2d(1)
    model = model_of(body(module, torch.rand(2, *SHAPES[name])), banks=(0, 0), classes=4)
    for task in range(2):
        commit_randomly(model, task, seed=task)
    net = freeze(model, labels_of(model))
    x = adversarial_integers(net, 6, seed=1)
    for task in range(2):
        expected = reference.run(net, task, x)
        given = Simulator(net, task).taps(x)
        for layer, values in expected.items():
            np.testing.assert_array_equal(given[layer], values, err_msg=layer)
    assert len({tuple(np.unique(values)) for values in expected.values()}) > 2  # no layer is all zero or saturated
    assert_equal_integers(net, 1)
