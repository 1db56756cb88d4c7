"""What the reader of torch modules knows about torch: modules, functions, and what to use instead of others."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from tsn_hw.core.errors import NetworkError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
POOLS = (*AVERAGES, *MAXIMA)
LAST = (nn.Softmax, nn.LogSoftmax)
NOTHING = (nn.Identity,)
KNOWN = (
    *CONVOLUTIONS, nn.Linear, *BATCH_NORMS, *POOLS, *LAST, *NOTHING,
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Dropout, nn.Flatten,
)  # fmt: skip
QUANTIZED = {
    "QuantConv1d", "QuantConv2d", "QuantLinear", "QuantReLU", "QuantIdentity", "QuantDropout", "QuantEltwiseAdd",
}  # fmt: skip
SUPPORTED = (
    "Conv1d, Conv2d, Linear, BatchNorm, ReLU, ReLU6, Hardtanh, Max-, Avg- and AdaptivePool, Add, Flatten, Dropout, "
    "Identity, and Brevitas' QuantConv, QuantLinear, QuantReLU and QuantIdentity"
)
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, NameError, AssertionError)
"""What a module of somebody else may raise while it is traced or run."""
_ADVICE = {
    "use ReLU: activations are saturated integers, and ReLU is the saturation at 0": (
        "LeakyReLU PReLU Sigmoid Hardsigmoid LogSigmoid Tanh ELU SELU CELU GELU SiLU Mish Hardswish Softplus Softsign "
        "RReLU Threshold leaky_relu prelu sigmoid tanh elu selu gelu silu mish hardswish softplus hardsigmoid "
        "QuantSigmoid QuantTanh QuantHardTanh"
    ),
    "use BatchNorm: its statistics stand still after training": (
        "LayerNorm InstanceNorm1d InstanceNorm2d GroupNorm LocalResponseNorm RMSNorm layer_norm instance_norm "
        "group_norm normalize"
    ),
    "has a state from step to step; use Conv1d over the steps": (
        "LSTM GRU RNN LSTMCell GRUCell RNNCell QuantLSTM QuantRNN"
    ),
    "multiplies two activations; use Conv or Linear, whose one factor is constant": (
        "MultiheadAttention QuantMultiheadAttention TransformerEncoderLayer TransformerEncoder TransformerDecoderLayer "
        "Transformer Bilinear matmul bmm einsum scaled_dot_product_attention mm"
    ),
    "sum the branches with +": "cat stack concat",
    "put the padding into the Conv": (
        "ZeroPad1d ZeroPad2d ConstantPad1d ConstantPad2d ReflectionPad2d ReplicationPad2d pad"
    ),
    "scale and shift the data before the network, or by a BatchNorm behind a layer": (
        "mul sub div truediv neg imul isub pow rsub"
    ),
    "use a Conv with a stride, or a pool": (
        "Upsample UpsamplingNearest2d ConvTranspose1d ConvTranspose2d PixelShuffle PixelUnshuffle interpolate "
        "QuantConvTranspose2d LPPool2d FractionalMaxPool2d QuantUpsample"
    ),
    "use Dropout": "Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout dropout2d alpha_dropout",
    "signals and images have one or two dimensions": "Conv3d MaxPool3d AvgPool3d BatchNorm3d AdaptiveAvgPool3d",
    "inputs are numbers, not indices; embed the data before the network": "Embedding EmbeddingBag embedding",
    "reorders values; give the data in the order (N, channels, height, width)": (
        "permute transpose swapaxes movedim unsqueeze chunk split getitem flip roll Unflatten Fold Unfold "
        "ChannelShuffle"
    ),
}
ADVICE = {name: advice for advice, names in _ADVICE.items() for name in names.split()}
METHODS: dict[str, Callable[..., Any]] = {
    "relu": F.relu, "relu_": F.relu, "add": torch.add, "add_": operator.iadd, "flatten": torch.flatten,
    "view": torch.reshape, "reshape": torch.reshape, "squeeze": torch.squeeze, "mean": torch.mean,
    "softmax": F.softmax, "log_softmax": F.log_softmax, "clamp": torch.clamp, "clamp_": torch.clamp,
    "contiguous": nn.Identity, "detach": nn.Identity, "float": nn.Identity, "clone": nn.Identity, "to": nn.Identity,
}  # fmt: skip
"""Methods of tensors by the function that does the same."""


def _clamp(min: float | None = None, max: float | None = None) -> nn.Module:
    """A clamp between two numbers."""
    if min is None or (max is None and min != 0):
        raise NetworkError("needs both ends, or 0 as the lower one")
    return nn.ReLU() if max is None else nn.Hardtanh(min, max)


_FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    F.relu: lambda inplace=False: nn.ReLU(),
    torch.relu: nn.ReLU,
    F.relu6: lambda inplace=False: nn.ReLU6(),
    F.hardtanh: lambda min_val=-1.0, max_val=1.0, inplace=False: nn.Hardtanh(min_val, max_val),
    torch.clamp: _clamp,
    F.max_pool1d: nn.MaxPool1d,
    F.max_pool2d: nn.MaxPool2d,
    torch.max_pool1d: nn.MaxPool1d,
    torch.max_pool2d: nn.MaxPool2d,
    F.avg_pool1d: nn.AvgPool1d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.adaptive_max_pool1d: nn.AdaptiveMaxPool1d,
    F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
    F.dropout: lambda p=0.5, training=True, inplace=False: nn.Dropout(p),
    F.softmax: lambda dim=None, **_: nn.Softmax(dim),
    torch.softmax: lambda dim=None, **_: nn.Softmax(dim),
    F.log_softmax: lambda dim=None, **_: nn.LogSoftmax(dim),
    torch.log_softmax: lambda dim=None, **_: nn.LogSoftmax(dim),
    nn.Identity: lambda *_, **__: nn.Identity(),
}


def as_module(called: Any, node: fx.Node, known: Mapping[fx.Node, Any]) -> nn.Module | None:
    """The module that does what a function does, called as a node calls it; None where there is none."""
    make = _FUNCTIONS.get(called)
    if make is None:
        return None
    first = 1 if node.args else 0
    args = fx.node.map_arg(node.args[first:], lambda other: known.get(other))
    kwargs = fx.node.map_arg({k: v for k, v in node.kwargs.items() if k != "input"}, lambda other: known.get(other))
    try:
        return make(*args, **kwargs)
    except TypeError as error:
        raise NetworkError(f"is called with arguments that have no counterpart ({error})") from error


def figure(node: fx.Node, known: Mapping[fx.Node, Any]) -> bool:
    """Whether a node computes with sizes alone: it gives no tensor, or numbers of a size."""
    if node not in known:
        return False
    value = known[node]
    return not any(isinstance(part, Tensor) for part in (value if isinstance(value, tuple | list) else [value]))


def is_quantized(part: object) -> bool:
    """Whether a module, or the tensor of one, is of Brevitas."""
    return any(kind.__module__.partition(".")[0] == "brevitas" for kind in type(part).__mro__)


@contextmanager
def quantizers_off(module: nn.Module) -> Iterator[None]:
    """A module whose parts of Brevitas compute as the float modules that they are derived from."""
    wanted = {"disable_quant": True, "return_quant_tensor": False}
    parts = [part for part in module.modules() if is_quantized(part)]
    before = [(part, key, getattr(part, key)) for part in parts for key in wanted if hasattr(part, key)]
    try:
        for part, key, _ in before:
            setattr(part, key, wanted[key])
        yield
    finally:
        for part, key, value in before:
            setattr(part, key, value)


def is_known(part: nn.Module) -> bool:
    """Whether a module has a counterpart: a kind of torch that computes as torch does, or one of Brevitas."""
    if is_quantized(part):
        return type(part).__name__ in QUANTIZED
    base = next((kind for kind in type(part).__mro__ if kind.__module__.startswith("torch.nn.")), None)
    return base is not None and issubclass(base, KNOWN) and type(part).forward is base.forward


def advice_for(part: nn.Module) -> str:
    """What to use instead of a module without counterpart."""
    names = [kind.__name__ for kind in type(part).__mro__]
    advice = next((ADVICE[name] for name in names if name in ADVICE), None)
    return advice or f"has no counterpart; supported are {SUPPORTED}"
