"""A packed network with activations that are not rounded: what the bits of activations cost, all else equal.

No engine: weights, multipliers and offsets are the stored integers, but between layers values stay float64, are not
rounded and saturate only at the zero of a ReLU. Values are in units of their layer's grid.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tsn_hw.core.layers import INPUT, Conv2d, Layer
from tsn_hw.core.network import PackedNetwork, Step
from tsn_hw.learn.data.files import Inputs, Labels
from tsn_hw.learn.data.inputs import real
from tsn_hw.learn.forward import sums

BATCH = 1000


def accuracy_without_rounding(net: PackedNetwork, task: int, images: Inputs, labels: Labels) -> float:
    """Test accuracy in percent with activations of float64."""
    right = 0
    for start in range(0, len(images), BATCH):
        logits = logits_without_rounding(net, task, images[start : start + BATCH])
        right += int((logits.argmax(1).numpy() == labels[start : start + BATCH]).sum())
    return 100 * right / len(images)


@torch.no_grad()
def logits_without_rounding(net: PackedNetwork, task: int, inputs: Inputs) -> Tensor:
    """Logits (batch, classes) of inputs, pixels or values."""
    values = {INPUT: torch.from_numpy(real(inputs) * 2.0**-net.input.exponent)}
    for index, layer, step in net.run_order(task):
        exponents = [net.format(task, source).exponent for source in layer.inputs]
        operands = [
            values[source] * 2.0 ** (exponent - min(exponents))
            for source, exponent in zip(layer.inputs, exponents, strict=True)
        ]
        product = partial(_product, layer, operands[0], net, task, index)
        values[index] = _scaled(sums(layer, operands, product, "unrounded inference"), step)
    return values[net.head(task)]


def _product(layer: Layer, x: Tensor, net: PackedNetwork, task: int, index: int) -> Tensor:
    weights = torch.from_numpy(net.weights(task, index).astype(np.float64))
    if isinstance(layer, Conv2d):
        return F.conv2d(x, weights, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return F.linear(x, weights)


def _scaled(x: Tensor, step: Step) -> Tensor:
    """A requantization without its rounding and its upper bound."""
    if step.requantization is None:
        return x
    scale = step.requantization
    view = (-1, *[1] * (x.dim() - 2))
    multiplier, offset = (
        torch.from_numpy(part.astype(np.float64)).view(view) for part in (scale.multiplier, scale.offset)
    )
    x = (x * multiplier + offset) * 2.0**-scale.shift
    return x if scale.output is None or scale.output.signed else x.clamp(min=0)
