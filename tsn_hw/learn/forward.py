"""What the kinds of layers compute in floating point, stated once for every network of the learner."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool, Pad, refused
from tsn_hw.learn.architectures import Architecture, Weights
from tsn_hw.learn.callbacks import Callbacks

ENGINE = "the learner"
T = TypeVar("T", bound=Any)


class Interpreter(nn.Module):
    """A network that runs the layers of an architecture one after the other."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.dropout_generator: torch.Generator | None = None  # None: nothing is dropped
        self.callbacks = Callbacks()

    def laid_out(self, x: Tensor) -> Tensor:
        """Inputs (batch, ...) in the memory format in which the body is computed fastest on CPUs, in float32."""
        if self.architecture.channels_last and x.device.type == "cpu" and x.dtype == torch.float32:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def walk(self, x: T, compute: Callable[[int, Layer, list[T]], T]) -> T:
        """The features of an input; ``compute`` gives the output of a layer from its index and its operands."""
        outputs = {INPUT: x}
        for index, layer in enumerate(self.architecture.layers):
            value = compute(index, layer, [outputs[source] for source in layer.inputs])
            share = self.architecture.dropout.get(layer.name)
            if self.training and share and self.dropout_generator is not None:
                value = dropped(value, share, self.dropout_generator)
            outputs[index] = value
        return outputs[len(self.architecture.layers) - 1]


def sums(layer: Layer, operands: Sequence[Tensor], product: Callable[[], Tensor], engine: str = ENGINE) -> Tensor:
    """What a layer computes before anything is scaled, rounded or activated; AvgPool: the sums of its windows.

    ``product`` gives the product with the weights, of a layer that has any. Raises ExportError, in the name of
    ``engine``, for a kind that it does not know.
    """
    match layer:
        case Linear() | Conv2d():
            return product()
        case MaxPool():
            return F.max_pool2d(operands[0], layer.kernel, layer.stride)
        case AvgPool():
            return F.avg_pool2d(operands[0], layer.kernel, layer.stride, divisor_override=1)
        case Add():
            return operands[0] + operands[1]
        case Flatten():
            return operands[0].flatten(1)
        case Pad():
            top, left, bottom, right = layer.padding
            return F.pad(operands[0], (left, right, top, bottom))
    raise refused(layer, engine)


def with_geometry(layer: Layer, linear: type, convolution: type, options: dict[str, Any]) -> Any:
    """The module of a layer with weights, made by one of two constructors that take what torch's own do."""
    match layer:
        case Linear():
            return linear(layer.in_features, layer.out_features, **options)
        case Conv2d():
            sizes = layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding
            return convolution(*sizes, dilation=layer.dilation, groups=layer.groups, **options)
    raise refused(layer, ENGINE)


@torch.no_grad()
def start_from(weights: Weights, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Fill the tensors of a layer, by ``bias`` and the like, from what is there of the layer's weights."""
    for key, tensor in tensors.items():
        if f"{name}.{key}" in weights:
            tensor.copy_(torch.from_numpy(weights[f"{name}.{key}"]).view_as(tensor))


def parts_of(norm: nn.Module) -> dict[str, Tensor]:
    """The tensors of a batch norm by the names that they have among a body's weights."""
    names = {"weight": "scale", "bias": "offset", "running_mean": "mean", "running_var": "variance"}
    return {names[key]: tensor for key, tensor in norm.state_dict().items() if key in names}


def norm_of(layer: Layer) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """A fresh batch norm over the channels of a layer with weights."""
    return (nn.BatchNorm2d if isinstance(layer, Conv2d) else nn.BatchNorm1d)(layer.multipliers)


@torch.no_grad()
def draw_uniform(generator: torch.Generator, *tensors: Tensor) -> None:
    """Fill tensors of the shape of weights with Kaiming-uniform values (a = sqrt 5) from a generator on the CPU."""
    for tensor in tensors:
        bound = 1 / math.sqrt(tensor[0].numel())
        tensor.copy_(torch.rand(tensor.shape, generator=generator).mul_(2 * bound).sub_(bound))


def as_float(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where a mask is set, else 0: torch is four times as fast from uint8 as from bool, or at float * bool."""
    return mask.view(torch.uint8).to(dtype)


def dropped(x: T, share: float, generator: torch.Generator) -> T:
    """Dropout: every element is 0 with probability ``share`` in steps of 1/256; the others grow to keep the mean.

    Eight elements take one draw of 64 bits, because drawing costs more than the layer behind it.
    """
    count, lost = x.numel(), math.floor(256 * share + 0.5)
    draws = torch.empty((count + 7) // 8, dtype=torch.int64, device=x.device)
    draws.random_(-(2**63), None, generator=generator)
    kept = draws.view(torch.uint8)[:count].view(x.shape) >= lost
    result: T = x * as_float(kept, x.dtype).mul_(256 / (256 - lost))
    return result
