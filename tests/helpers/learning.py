"""Tiny models, tasks and data for the learner's tests; everything takes milliseconds and is seeded."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool, Shape
from tsn_hw.learn.activations import Activation
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.bodies import mlp
from tsn_hw.learn.data.images import digits
from tsn_hw.learn.data.tasks import TaskData, permuted
from tsn_hw.learn.freezing import TaskLabel, brevitas_integers, commit
from tsn_hw.learn.layers import WeightLayer
from tsn_hw.learn.models import HEAD, SubnetModel, TaskAffine
from tsn_hw.learn.quantize import refit, train_quantized
from tsn_hw.learn.settings import Formats, Settings, TrainSettings
from tsn_hw.learn.training import (
    Fit,
    Tensors,
    fit,
    generator_of,
    start_task,
)

CPU = torch.device("cpu")
TINY = TrainSettings(epochs=3, batch=32, lr=2e-2, keep_ratio=0.4)


@cache
def digits_data(index: int = 0) -> TaskData:
    """Task ``index`` of the permuted digits: 8 x 8 images of ten classes."""
    return permuted(digits(), 4, seed=0, valid_share=0.2).task(index)


def digits_task(index: int = 0, images: int = 1154) -> Tensors:
    """Training and validation tensors of a task of the permuted digits, cut to a number of training images."""
    full = Tensors.of(digits_data(index), CPU)
    return Tensors(full.x_train[:images], full.y_train[:images], full.x_valid, full.y_valid)


def model_of(
    architecture: Architecture | None = None,
    formats: Formats | None = None,
    banks: tuple[int, ...] = (0,),
    classes: int = 10,
    seed: int = 0,
) -> SubnetModel:
    """A fresh model with one task an entry of ``banks``."""
    model = SubnetModel(architecture or mlp((1, 8, 8), (12,)), formats or Formats())
    for task, bank in enumerate(banks):
        add_task(model, bank, classes, seed + task)
    return model


def add_task(model: SubnetModel, bank: int, classes: int = 10, seed: int = 0) -> int:
    """Append a task, and its bank if it is new."""
    if bank == len(model.banks):
        model.add_bank(generator_of("bank", bank, seed))
    return model.add_task(bank, classes, generator_of("head", seed))


def train_task(
    model: SubnetModel, task: int, data: Tensors, settings: TrainSettings = TINY, seed: int = 0, tasks: int = 1
) -> Fit:
    """Train one task from its start to its fixed masks; returns where the training ended."""
    state = start_task(model, task, settings, tasks, seed)
    fit(model, task, data, state, lambda _: None)
    return state


def quantize_task(model: SubnetModel, task: int, bits: int = 3) -> None:
    """Put every layer of a task on a codebook of one width."""
    for layer in model.weight_layers(task).values():
        refit(layer, bits, model.formats.centroid_range)


def train_on(
    model: SubnetModel, task: int, data: Tensors, bits: dict[str, int], epochs: int = 2, lr: float = TINY.lr
) -> None:
    """Train a quantized task on; its head has a codebook of five bits."""
    train_quantized(model, task, data, bits | {HEAD: 5}, epochs, Settings(train=replace(TINY, lr=lr)))


def learn_task(model: SubnetModel, task: int, data: Tensors, settings: TrainSettings = TINY, bits: int = 3) -> None:
    """Train, quantize and commit one task."""
    train_task(model, task, data, settings)
    quantize_task(model, task, bits)
    commit(model, task)


def labels_of(model: SubnetModel) -> list[TaskLabel]:
    """A label a task, with as many classes as its head has rows."""
    return [
        TaskLabel(f"task{t}", tuple(f"c{c}" for c in range(len(model.modules_of(t).head.weight))))
        for t in range(len(model.tasks))
    ]


def residual(batch_norm: bool = False) -> Architecture:
    """Every kind of layer: a skip connection, both poolings, groups, strides, uneven padding, signed outputs."""
    return Architecture(
        (2, 7, 6),
        (
            Conv2d("stem", 2, 4, (3, 3), padding=(1, 1)),  # (4, 7, 6)
            Conv2d("branch", 4, 4, (3, 1), padding=(1, 0), groups=2, inputs=(0,)),
            Add("add", (0, 1)),
            MaxPool("largest", (2, 2), (2, 2), (2,)),  # (4, 3, 3)
            Conv2d("down", 4, 6, (2, 1), stride=(1, 2), padding=(1, 0), inputs=(3,)),  # (6, 4, 2)
            AvgPool("average", (3, 2), (1, 1), (4,)),  # (6, 2, 1): windows of six, no power of two
            Flatten("flatten", (5,)),
            Linear("fc", 12, 5, (6,)),
        ),
        batch_norm,
        signed=frozenset({"branch", "down", "average"}),
    )


def commit_randomly(
    model: SubnetModel, task: int, seed: int, density: float = 0.4, bits: int = 3, spread: float = 1.0
) -> None:
    """Commit a task that was never trained: random masks, weights, biases, norms, and calibrated activations.

    ``spread`` stretches the weights, beyond 4 into saturation of the default grid.
    """
    rng = np.random.default_rng(seed)
    start_task(model, task, TrainSettings(), 1)
    private = model.modules_of(task)
    with torch.no_grad():
        for layer in model.weight_layers(task).values():
            fan_in = layer.weight[0].numel()
            values = _normal(rng, layer.weight.shape) * (spread / fan_in**0.5)
            layer.weight.copy_(torch.where(layer.subnet.owner < 0, values, layer.weight))
            if layer is not private.head:
                layer.subnet.fix(torch.from_numpy(rng.random(tuple(layer.weight.shape)) < density))
        for affine in [*private.affines.values(), private.affine]:
            assert isinstance(affine, TaskAffine)
            _randomize(affine, rng)
    quantize_task(model, task, bits)
    model.calibrate(torch.from_numpy(rng.random((64, *model.architecture.input_shape), np.float32)), task)
    commit(model, task)


def _randomize(affine: TaskAffine, rng: np.random.Generator) -> None:
    if affine.norm is None:
        affine.bias.copy_(0.1 * _normal(rng, affine.bias.shape))
        return
    assert affine.norm.running_mean is not None
    assert affine.norm.running_var is not None
    affine.norm.weight.copy_(_normal(rng, affine.norm.weight.shape) + 1)
    affine.norm.bias.copy_(0.3 * _normal(rng, affine.norm.bias.shape))
    affine.norm.running_mean.copy_(0.1 * _normal(rng, affine.norm.running_mean.shape))
    affine.norm.running_var.copy_(_normal(rng, affine.norm.running_var.shape).square() * 0.3)


def _normal(rng: np.random.Generator, shape: Shape) -> Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(shape), np.float32))


def integers_of(model: SubnetModel, task: int, x: Ints) -> dict[str, Ints]:
    """Brevitas' integers of a committed task, from a copy: the engine turns its model to float64."""
    return brevitas_integers(copy.deepcopy(model), task, x)


def state_of(model: SubnetModel) -> dict[str, Tensor]:
    """A copy of everything that a model holds."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Two states are equal, bit for bit."""
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


def assert_same_integers(first: dict[str, Ints], second: dict[str, Ints]) -> None:
    """Two engines computed the same integers in every layer."""
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def pixels(model: SubnetModel, count: int, seed: int = 0) -> Ints:
    """Integers of the model's input format: all lowest, all highest, a checkerboard, then random ones."""
    low, high = model.formats.input.range
    x = np.random.default_rng(seed).integers(low, high + 1, (count, *model.architecture.input_shape))
    flat: NDArray[np.int64] = x.reshape(count, -1)
    flat[0], flat[1], flat[2] = low, high, np.where(np.arange(flat.shape[1]) % 2, low, high)
    return x


def activation_of(model: SubnetModel, task: int, layer: str) -> Activation:
    """The activation of a layer by name."""
    names = [other.name for other in model.architecture.layers]
    return model.modules_of(task).activations.of(names.index(layer))


def layers_of(model: SubnetModel, task: int = 0) -> list[WeightLayer]:
    return list(model.body_layers(task).values())


def scripted(*values: float) -> Callable[[], float]:
    iterator = iter(values)
    return lambda: next(iterator)


FEW = digits_task(0, 70)  # three batches of TINY: 32, 32, 6
