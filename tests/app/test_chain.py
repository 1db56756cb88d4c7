"""Every kind of body, tiny: trained for a step or two, frozen, and the same integers in all engines."""

import copy

import numpy as np
import pytest
from onnx import checker

from export import qonnx_graph
from tests.helpers.learning import CPU, add_task, labels_of, model_of
from tsn_hw.app.check.network import QONNX
from tsn_hw.app.deploy.verify import Engine, verify
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import Pad, Shape
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.bodies import alexnet, listed, mlp, resnet18, tinynet
from tsn_hw.learn.data.tasks import TaskData
from tsn_hw.learn.freezing import brevitas_integers, freeze
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.run import finish_task
from tsn_hw.learn.settings import LayerSettings, PruneSettings, QuantizeSettings, Settings, TrainSettings
from tsn_hw.learn.training import Tensors, fit, start_task

SETTINGS = Settings(
    train=TrainSettings(epochs=1, batch=16, lr=1e-2, keep_ratio=0.3, inherit=0.5),
    prune=PruneSettings(iterations=2, by="coded_size", tolerated_drop=100.0),
    quantize=QuantizeSettings(
        min_bits=2, max_bits=2, qat_epochs=1, probe_bits=(3,), tolerated_drop=100.0, share_codebooks=True
    ),
)


depthwise = listed(
    (3, 8, 8),
    (
        LayerSettings("Conv2d", "stem", width=4, kernel=(3, 3), stride=(2, 2), padding=(0, 0, 1, 1)),
        LayerSettings("MaxPool", "pool", kernel=(3, 3), stride=(1, 1), padding=(1, 1)),
        LayerSettings("Conv2d", "depth", width=8, kernel=(3, 3), padding=(2, 1), dilation=(2, 1), groups=4, relu=False),
        LayerSettings("AvgPool", "smooth", kernel=(2, 2), stride=(1, 1), padding=(0, 1, 1, 0), relu=False),
        LayerSettings("Conv2d", "point", width=6, kernel=(1, 1)),
        LayerSettings("AvgPool", "average"),
    ),
    batch_norm=True,
)
signals = listed(
    (3, 30),
    (
        LayerSettings("Conv2d", "conv", width=4, kernel=(5,), stride=(2,), padding=(0, 1, 0, 3)),
        LayerSettings("Conv2d", "wide", width=4, kernel=(3,), padding=(4,), dilation=(4,), batch_norm=True),
        LayerSettings("MaxPool", "pool", kernel=(2,)),
        LayerSettings("Flatten", "flat"),
        LayerSettings("Linear", "fc", width=6, dropout=0.25),
    ),
)
"""What one padding for two sides, a dense kernel and square maps do not hold."""


def noise(shape: Shape, seed: int) -> TaskData:
    """Four classes of noise, each with a brighter row, or column where there are few rows."""
    rng = np.random.default_rng(seed)
    labels = np.arange(64) % 4
    images = rng.integers(0, 200, (64, *shape), np.uint8)
    rows = images if shape[1] > 3 else images.swapaxes(2, 3)
    rows[np.arange(64), :, labels] += 55
    return TaskData(
        f"noise{seed}", tuple("abcd"), images[:32], labels[:32], images[32:48], labels[32:48], images[48:], labels[48:]
    )


def brevitas(model: SubnetModel, heads: list[str]) -> Engine:
    def engine(task: int, x: Ints) -> dict[str, Ints]:
        integers = brevitas_integers(copy.deepcopy(model), task, x)
        return {heads[task] if name == "head" else name: values for name, values in integers.items()}

    return engine


@pytest.mark.parametrize(
    "architecture",
    [
        mlp((1, 8, 8), (12, 8), batch_norm=True, dropout=0.1),
        alexnet((3, 8, 8), (4, 6), (10,)),
        tinynet((3, 8, 8), (4, 6), (10, 7), dropout=0.2),
        resnet18((3, 8, 8), 2),
        resnet18((3, 34, 34), 1),
        depthwise,
        signals,
    ],
    ids=["mlp", "alexnet", "tinynet", "resnet18", "resnet18-large-images", "depthwise", "signals"],
)
def test_a_trained_body_computes_the_same_integers_in_every_engine(architecture: Architecture) -> None:
    model = model_of(architecture, banks=(0,), classes=4)
    for task in range(2):
        if task:
            add_task(model, 0, classes=4, seed=task)
        data = Tensors.of(noise(architecture.input_shape, task), CPU)
        state = start_task(model, task, SETTINGS.train, 2)
        fit(model, task, data, state, lambda _: None)
        record = finish_task(model, task, data, SETTINGS, lambda: 25.0)
        assert record["qat"]
        assert record["test_accuracy_by_bits"] == {3: 25.0}
        assert bool(record["shared_codebooks"]) == (task > 0)
    net = freeze(model, labels_of(model))
    heads = [net.layers[net.head(task)].name for task in range(2)]
    images = {task: noise(architecture.input_shape, task).x_test for task in range(2)}
    result = verify(net, images.__getitem__, brevitas(model, heads), samples=4)
    assert result.first_difference is None
    assert result.passed
    is_padded = any(isinstance(layer, Pad) for layer in net.layers)
    assert is_padded == (architecture in (depthwise, signals))
    absent = {name: engine.absent for name, engine in result.engines.items() if engine.absent}
    assert list(absent) == (["hls", "c", "c-arm"] if is_padded else [])
    assert all("is not supported by" in reason for reason in absent.values())
    for flavour in QONNX:
        checker.check_model(qonnx_graph(net, 0, flavour), full_check=False)
