"""Brevitas layers whose weights are the subnetwork of the current task.

A weight is stored once, by the first task that uses it, as an integer (owner, code, codebook). A task that is
*committed* reads only those integers: no gradient, momentum or decay can touch what it computes. The task that
is being learned sees the owned integers, and its own float weights where nothing is owned yet.

Two paths compute the same weights: in evaluation Brevitas' proxies and QuantTensors carry scale and bit width
(the engine that ``verify`` compares); in training the layers call the same quantizer directly, which is several
times faster.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import brevitas.nn as qnn
import numpy as np
import torch
import torch.nn.functional as F
from brevitas.inject import value
from brevitas.proxy.parameter_quant import WeightQuantProxyFromInjector
from brevitas.quant.base import IntQuant, PerTensorPoTScaling8bit
from brevitas.quant.solver.weight import WeightQuantSolver
from numpy.typing import NDArray
from torch import Tensor, nn

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import TrainingError
from tsn_hw.core.layers import Weighted
from tsn_hw.core.network import MAX_CODE_BITS, UNUSED
from tsn_hw.learn.activations import AnyTensor, PowerOfTwoScale
from tsn_hw.learn.codebook import Floats, nearest_code
from tsn_hw.learn.forward import as_float, draw_uniform, with_geometry
from tsn_hw.learn.methods import TSN, Method
from tsn_hw.learn.settings import Formats


def kept_weights(count: int, keep_ratio: float) -> int:
    """Number of weights that a task may use of ``count``: rounded half up, at least one."""
    return max(1, math.floor(keep_ratio * count + 0.5))


def top_k(scores: Tensor, kept: int) -> Tensor:
    """Mask of exactly ``kept`` entries with the largest |score|; ties go to the lower index.

    >>> top_k(torch.tensor([1.0, -3.0, 2.0, -2.0, 2.0]), 3).tolist()
    [False, True, True, True, False]
    """
    magnitude = scores.detach().abs().flatten()
    if kept >= magnitude.numel() or kept == 0:
        return torch.full_like(scores, kept > 0, dtype=torch.bool)
    if magnitude.device.type == "cpu":
        bits = magnitude.numpy().view(f"i{magnitude.itemsize}")  # from 0 on they order as floats do, and faster
        return torch.from_numpy(_largest(bits, kept)).view(scores.shape)
    threshold = magnitude.kthvalue(magnitude.numel() - kept + 1).values
    mask = magnitude >= threshold
    if (surplus := int(mask.count_nonzero()) - kept) > 0:
        mask[(magnitude == threshold).nonzero().flatten()[-surplus:]] = False
    return mask.view(scores.shape)


def _largest(numbers: NDArray[np.signedinteger[Any]], kept: int) -> NDArray[np.bool_]:
    """The same of integers (N,), by numpy: each of its steps is three to twenty times as fast as torch's."""
    position = numbers.size - kept
    threshold = np.partition(numbers, position)[position]
    mask: NDArray[np.bool_] = numbers >= threshold
    if surplus := np.count_nonzero(mask) - kept:
        mask[np.flatnonzero(numbers == threshold)[-surplus:]] = False
    return mask


class _Subnetwork(torch.autograd.Function):
    """effective * mask, exactly. d/dweight = g on free selected weights; d/dscores = g * effective * sign(score)."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, scores: Tensor, effective: Tensor, mask: Tensor, free: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(scores, effective, mask if free is None else mask & free)
        return as_float(mask, effective.dtype).mul_(effective)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        scores, effective, learned = ctx.saved_tensors
        weight_grad = as_float(learned, grads[0].dtype).mul_(grads[0])
        score_grad = scores.sign().mul_(effective).mul_(grads[0]) if ctx.needs_input_grad[1] else None
        return weight_grad, score_grad, None, None, None


class Subnet(nn.Module):
    """Stands where Brevitas' IntQuant stands: float weights in, the current task's weights out.

    State of the committed tasks of the bank: ``owner`` (prefix, or UNUSED), ``code``, ``codebooks``
    (tasks, 256), ``entries`` (codebook lengths) and ``masks`` (tasks, ...).
    While a task is learned: ``kept`` weights by score (``target`` in the end), until :meth:`fix` freezes its mask and
    :meth:`snap` puts its own weights on a codebook.
    """

    scores: nn.Parameter
    owner: Tensor
    code: Tensor
    codebooks: Tensor
    entries: Tensor
    masks: Tensor

    def __init__(self, tracked_parameter_list: list[nn.Parameter], input_view_impl: nn.Module) -> None:
        super().__init__()
        shape = tracked_parameter_list[0].shape
        self.input_view_impl = input_view_impl  # Brevitas' proxy asks for it
        self.scores = nn.Parameter(torch.zeros(shape))
        self.register_buffer("owner", torch.full(shape, UNUSED, dtype=torch.int16))
        self.register_buffer("code", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("codebooks", torch.zeros(0, 1 << MAX_CODE_BITS, dtype=torch.int32))
        self.register_buffer("entries", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("masks", torch.zeros(0, *shape, dtype=torch.bool))
        self.method: Method = TSN
        self.task = 0
        self.kept = self.target = self.scores.numel()
        self.fixed: Tensor | None = None
        self.codebook: Ints | None = None
        self._free: Tensor | None = None
        self._weight: Tensor | None = None

    @property
    def committed(self) -> int:
        """Number of tasks of the bank that are frozen in this layer."""
        return len(self.masks)

    def start(self, keep_ratio: float, weight: Tensor, scale: float) -> None:
        """Begin the next task: owned weights take their stored value, the rest stays as the last task left it."""
        self.task = self.committed
        self.kept = self.target = kept_weights(self.scores.numel(), keep_ratio)
        self.fixed = self.codebook = None
        owned = self.owner >= 0
        self._free = ~owned if bool(owned.any()) else None
        self._weight = weight
        if self.method.codes:
            weight.copy_(torch.where(owned, self.stored().to(weight.dtype) * scale, weight))

    def books(self) -> list[Ints]:
        """The codebook of every committed task, (entries,) each."""
        rows = self.codebooks.cpu().numpy().astype(np.int64)
        return [row[:entries] for row, entries in zip(rows, self.entries.tolist(), strict=True)]

    def stored(self) -> Tensor:
        """Integers that committed tasks wrote, 0 where the weight is free."""
        if not self.committed:
            return torch.zeros_like(self.owner, dtype=torch.int32)
        rows = self.codebooks[self.owner.clamp(min=0).long(), self.code.long()]
        return torch.where(self.owner >= 0, rows, 0)

    def mask(self) -> Tensor:
        """Weights that the current task uses."""
        if self.task < self.committed:
            return self.masks[self.task]
        return self._chosen() if self.fixed is None else self.fixed

    def _chosen(self) -> Tensor:
        """The mask that the method chooses as things stand."""
        ranking = self.scores if self._weight is None or self.method.ranking == "score" else self._weight
        if self.method.borrowed == "chosen" or self._free is None:
            return top_k(ranking, self.kept)
        own = top_k(ranking * self._free, min(self.kept, int(self._free.count_nonzero()))) & self._free
        return own | ~self._free if self.method.borrowed == "all" else own

    def own(self) -> Tensor:
        """Weights that the current task is the first to use."""
        return self.mask() & (self.owner < 0)

    def own_units(self, weight: Tensor, scale: float) -> Floats:
        """Values of these weights, in units of the grid."""
        units: Floats = (weight.detach()[self.own()].double() / scale).cpu().numpy()
        return units

    def fix(self, mask: Tensor) -> None:
        """Freeze the mask of the task that is being learned."""
        self.fixed = mask.clone()

    def snap(self, codebook: Ints | None) -> None:
        """Put the task's own weights on a codebook (straight-through in training); None takes them off it."""
        self.codebook = codebook

    def snapped(self, weight: Tensor, scale: float, codebook: Ints) -> Tensor:
        """The task's weights with its own ones on their nearest centroids, in real units."""
        result = weight.detach().clone()
        if len(codebook):
            codes = nearest_code(self.own_units(weight, scale), codebook)
            centroids = torch.from_numpy(codebook[codes]).double() * scale
            result[self.own()] = centroids.to(weight.dtype).to(weight.device)
        return result

    def effective(self, weight: Tensor, scale: float) -> Tensor:
        """The weights of the task that is being learned, differentiable in ``weight`` and the scores."""
        values = weight.detach() if self.codebook is None else self.snapped(weight, scale, self.codebook)
        scores = self.scores if self.method.ranking == "score" else self.scores.detach()
        masked: Tensor = _Subnetwork.apply(weight, scores, values, self.mask(), self._free)
        return masked

    def forward(self, scale: Tensor, zero_point: Tensor, bit_width: Tensor, x: Tensor) -> Tensor:
        """Brevitas' call: the current task's weights on the layer's grid."""
        if self.task < self.committed:
            return (self.mask() * self.stored()).to(x.dtype) * scale if self.method.codes else self.mask() * x
        return self.effective(x, float(scale))

    @torch.no_grad()
    def commit(self, weight: Tensor, scale: float) -> None:
        """Write the task's own weights as codes of its codebook, for good; float methods own them as they are."""
        mask, own = self.mask(), self.own()
        book = self.codebook if self.method.codes else np.zeros(0, np.int64)
        if book is None:
            raise TrainingError(f"commit: the own weights of task {self.task} of the bank have no codebook yet")
        if len(book):
            codes = nearest_code(self.own_units(weight, scale), book)
            self.code[own] = torch.from_numpy(codes).to(self.code.device)
        if self.method.frozen:
            self.owner[own] = self.committed
        row = torch.zeros(1, 1 << MAX_CODE_BITS, dtype=torch.int32)
        row[0, : len(book)] = torch.from_numpy(book)
        self.codebooks = torch.cat([self.codebooks, row.to(self.codebooks.device)])
        self.entries = torch.cat([self.entries, self.entries.new_tensor([len(book)])])
        self.masks = torch.cat([self.masks, mask[None]])

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for name in ("codebooks", "entries", "masks"):  # their first axis grows with the tasks
            if prefix + name in state:
                setattr(self, name, torch.zeros_like(state[prefix + name], device=self.owner.device))
        super()._load_from_state_dict(state, prefix, *args)


class SubnetProxy(WeightQuantProxyFromInjector):
    """Brevitas rebuilds a weight quantizer when a state is loaded; one that owns learned state is built once."""

    def init_tensor_quant(self, preserve_state_dict: bool = False) -> None:
        """Build the quantizer, the first time only."""
        if self.tensor_quant is None:
            super().init_tensor_quant(preserve_state_dict)


class SubnetWeight(IntQuant, PerTensorPoTScaling8bit, WeightQuantSolver):
    """Weight quantizer of the subnetwork layers: integer centroids on one constant power-of-two grid a layer."""

    proxy_class = SubnetProxy
    int_quant = Subnet
    scaling_impl = PowerOfTwoScale
    centroid_bits = 8
    headroom = 4.0

    @value
    def bit_width(centroid_bits: int) -> int:  # noqa: N805
        return centroid_bits

    @value
    def exponent(module: nn.Linear | nn.Conv2d, centroid_bits: int, headroom: float) -> int:  # noqa: N805
        return weight_exponent(module.weight[0].numel(), centroid_bits, headroom)


def weight_exponent(fan_in: int, centroid_bits: int, headroom: float) -> int:
    """Exponent of the grid that holds weights up to headroom / sqrt(fan_in); fixed before the first task.

    >>> weight_exponent(64, 8, 4.0)  # 2**7 steps of 2**-8 reach 0.5
    -8
    """
    return grid_exponent(headroom / math.sqrt(fan_in), centroid_bits)


def grid_exponent(reach: float, centroid_bits: int) -> int:
    """Exponent of the finest grid of centroids that holds weights up to ``reach``."""
    return math.ceil(math.log2(reach)) - (centroid_bits - 1)


class _SubnetLayer:
    """What the two layer kinds share: their subnetwork and its grid."""

    weight: nn.Parameter
    weight_quant: SubnetProxy

    @property
    def subnet(self) -> Subnet:
        """The masks, codes and scores of this layer."""
        subnet: Subnet = self.weight_quant.tensor_quant.int_quant
        return subnet

    @property
    def grid(self) -> PowerOfTwoScale:
        """The scale of the weights."""
        grid: PowerOfTwoScale = self.weight_quant.tensor_quant.scaling_impl
        return grid

    @torch.no_grad()
    def start_from(self, weights: NDArray[np.float32] | None) -> None:
        """Begin with weights that were learned elsewhere, if there are any, on a grid that reaches twice as far.

        The scores keep the values that were drawn, dealt out anew: the larger a weight, the larger its score.
        """
        if weights is None:
            return
        self.weight.copy_(torch.from_numpy(weights))
        largest = float(self.weight.abs().max())
        if largest:
            self.grid.set(grid_exponent(2 * largest, int(self.weight_quant.bit_width())))
        scores = self.subnet.scores.data.flatten()
        drawn = scores[scores.abs().argsort(stable=True)]
        scores[self.weight.data.flatten().abs().argsort(stable=True)] = drawn

    def learned_weight(self) -> Tensor:
        """Effective weights of the task that is being learned."""
        return self.subnet.effective(self.weight, self.grid.real)

    def own_units(self) -> Floats:
        """The weights that the current task is the first to use, in units of the grid."""
        return self.subnet.own_units(self.weight, self.grid.real)


class SubnetLinear(_SubnetLayer, qnn.QuantLinear):
    """A Brevitas linear layer over a subnetwork."""

    def forward(self, x: AnyTensor) -> AnyTensor:
        return F.linear(x, self.learned_weight()) if self.training else super().forward(x)


class SubnetConv2d(_SubnetLayer, qnn.QuantConv2d):
    """A Brevitas convolution over a subnetwork."""

    def forward(self, x: AnyTensor) -> AnyTensor:
        if self.training:
            return F.conv2d(x, self.learned_weight(), None, self.stride, self.padding, self.dilation, self.groups)
        return super().forward(x)


WeightLayer: TypeAlias = SubnetLinear | SubnetConv2d


def weight_layer(layer: Weighted, formats: Formats, generator: torch.Generator, method: Method = TSN) -> WeightLayer:
    """The trainable layer of this geometry, its weights and scores drawn from the generator."""
    quantizer = SubnetWeight.let(centroid_bits=formats.centroid_bits, headroom=formats.headroom)
    options = {"bias": False, "weight_quant": quantizer, "return_quant_tensor": True}
    made: WeightLayer = with_geometry(layer, SubnetLinear, SubnetConv2d, options)
    draw_uniform(generator, made.weight, made.subnet.scores)
    made.subnet.method = method
    return made
