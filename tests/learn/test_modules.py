"""Torch modules as bodies: the same logits where they have a counterpart; where they have none, all is told at once."""

import importlib.util
import re
import time
from pathlib import Path
from types import ModuleType

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsn_hw.core.errors import BodyError
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Linear, MaxPool, Pad
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.baselines import DenseModel
from tsn_hw.learn.modules import body

ROOT = Path(__file__).parents[2]
GENERATOR = torch.Generator().manual_seed(0)


def example_file(name: str) -> ModuleType:
    """A file of the examples as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


MLPERF = example_file("mlperf_tiny")


def lived(module: nn.Module) -> nn.Module:
    """The module with batch norms that have seen something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (part.weight, 0.5, 1.5),
                (part.bias, -0.5, 0.5),
                (part.running_mean, -0.3, 0.3),
                (part.running_var, 0.2, 2.0),
            ):
                if tensor is not None:
                    nn.init.uniform_(tensor, low, high, generator=GENERATOR)
    return module


def logits(made: Architecture, x: Tensor) -> Tensor:
    """Of the float network of a body's own weights."""
    model = DenseModel.of(made).eval()
    with torch.no_grad():
        result: Tensor = model(x.reshape(len(x), *made.input_shape))
    return result


class Functional(nn.Module):
    """Operators as functions, and a Flatten by view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5, bias=False)
        self.bn2 = nn.BatchNorm2d(16, eps=1e-3)
        self.fc1, self.fc2 = nn.Linear(64, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.bn2(self.conv2(x)).relu()
        x = F.avg_pool2d(x, kernel_size=2, stride=2)
        x = x.view(x.size(0), -1)
        x = F.dropout(F.hardtanh(self.fc1(x), 0.0, 1.0), 0.3, self.training)
        return F.log_softmax(self.fc2(x), dim=1)


class InPlace(nn.Module):
    """A residual block as torchvision writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x_first := self.bn1(self.conv1(x)))
        del x_first
        out = self.bn2(self.conv2(x))
        out += x
        return self.fc(torch.flatten(self.relu(out).mean((2, 3), keepdim=True), 1))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(16, 8), nn.Identity(), nn.BatchNorm1d(8, affine=False), nn.ReLU6(), nn.Linear(8, 5),
    )  # fmt: skip


def signals() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(6, 8, 7, stride=2, padding=3), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(8, 8, 3, padding="same", dilation=2, groups=8), nn.Hardtanh(-2.0, 2.0),
        nn.Conv1d(8, 4, 4, padding="same"), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), (2, 1), (0, 1), (1, 2)), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.Conv2d(4, 6, 3, padding="same"), nn.AvgPool2d(2, 1, 1), nn.AdaptiveMaxPool2d(1), nn.ReLU(),
        nn.Flatten(), nn.Linear(6, 2),
    )  # fmt: skip


BODIES = {name: (make(), shape) for name, (make, shape) in MLPERF.NETWORKS.items()} | {
    "functional": (Functional(), (1, 20, 20)),
    "in place": (InPlace(), (3, 8, 8)),
    "mlp": (mlp(), (12,)),
    "signals": (signals(), (6, 50)),
    "pooled": (pooled(), (2, 15, 12)),
}


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize("name", BODIES)
def test_a_body_with_its_weights_gives_the_logits_of_the_module(name: str) -> None:
    module, shape = BODIES[name]
    x = torch.rand(4, *shape, generator=GENERATOR) * 2 - 0.5
    started = time.monotonic()
    made = body(lived(module), x, pretrained=True)
    assert time.monotonic() - started < 10
    assert module.training  # as it was
    with torch.no_grad():
        expected = module.eval()(x)
    module.train()
    given = logits(made, x)
    given = F.log_softmax(given, dim=1) if name == "functional" else given
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)
    assert not body(module, x).weights
    assert body(module, x) == made


def test_layers_have_the_paths_of_their_modules_and_what_stood_behind_them() -> None:
    made = body(lived(BODIES["resnet8"][0]), torch.rand(2, 3, 32, 32))
    kinds = {layer.name: type(layer) for layer in made.layers}
    assert list(kinds)[:4] == ["0.0", "1.first.0", "1.second.0", "add"]
    assert kinds["add"] is Add
    assert sum(kind is Conv2d for kind in kinds.values()) == 9
    assert sum(kind is AvgPool for kind in kinds.values()) == 1
    assert made.signed == {"1.second.0", "2.second.0", "3.second.0", "2.skip", "3.skip"}
    assert made.normalizes(made.layers[0])
    assert not made.normalizes(next(layer for layer in made.layers if layer.name == "2.skip"))
    assert made.features == 64


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
def test_what_pads_otherwise_gets_a_pad() -> None:
    made = body(pooled(), torch.rand(2, 2, 15, 12))
    assert [layer for layer in made.layers if isinstance(layer, Pad)] == [
        Pad("2.pad", (1, 1, 1, 2), (0,)),
        Pad("4.pad", (1, 1, 1, 1), (3,)),
    ]
    assert next(layer for layer in made.layers if isinstance(layer, MaxPool)).kernel == (3, 3)
    same = body(nn.Sequential(nn.Conv1d(1, 2, 4, padding="same"), nn.Flatten(), nn.Linear(12, 2)), torch.rand(1, 1, 6))
    assert same.layers[0] == Pad("0.pad", (0, 1, 0, 2))


def test_a_brevitas_network_becomes_the_body_of_its_float_twin() -> None:
    quantized = nn.Sequential(
        qnn.QuantIdentity(return_quant_tensor=True),
        qnn.QuantConv2d(3, 6, 5, weight_bit_width=4), nn.BatchNorm2d(6), qnn.QuantReLU(bit_width=4), nn.MaxPool2d(2),
        qnn.QuantConv2d(6, 16, 5, weight_bit_width=4), qnn.QuantReLU(bit_width=4), nn.MaxPool2d(2), nn.Flatten(),
        qnn.QuantLinear(400, 120, bias=True, weight_bit_width=4), qnn.QuantReLU(bit_width=4),
        qnn.QuantLinear(120, 10, bias=True, weight_bit_width=4),
    )  # fmt: skip
    twin = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 10),
    )  # fmt: skip
    lived(quantized)
    ours = [part for part in quantized if isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    theirs = [part for part in twin if isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    for source, target in zip(ours, theirs, strict=True):
        target.load_state_dict(source.state_dict(), strict=False)
        assert source.bias is not None or target.bias is None or nn.init.zeros_(target.bias) is not None
    x = torch.rand(3, 3, 32, 32, generator=GENERATOR)
    made = body(quantized, x, pretrained=True)
    torch.testing.assert_close(logits(made, x), twin.eval()(x).detach(), rtol=1e-4, atol=1e-4)


def test_a_module_that_gives_features_is_taken_whole() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))
    x = torch.rand(3, 1, 6, 6)
    made = body(module, x, pretrained=True, head=False)
    assert isinstance(made.layers[-1], Linear)
    assert made.signed == {"4"}
    with torch.no_grad():
        torch.testing.assert_close(DenseModel.of(made).eval().features(x), module(x), rtol=1e-4, atol=1e-5)


def test_weights_are_copies() -> None:
    module = mlp()
    made = body(module, torch.rand(2, 12), pretrained=True)
    before = {name: values.copy() for name, values in made.weights.items()}
    nn.init.zeros_(module[0].weight)
    assert sorted(made.weights) == [
        "0.mean", "0.offset", "0.scale", "0.variance", "0.weight",
        "4.mean", "4.offset", "4.scale", "4.variance", "4.weight", "head.bias", "head.weight",
    ]  # fmt: skip
    for name, values in made.weights.items():
        np.testing.assert_array_equal(values, before[name])


# ---------------------------------------------------------------------------------------------------------- refusals


class By(nn.Module):
    """A network whose forward is a function of itself and its input, with some modules to call."""

    def __init__(self, forward, **parts: nn.Module) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = forward
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 5)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(self, x)
        return result


class OwnConv(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, padding=1)


def chain(*parts: nn.Module) -> nn.Module:
    """Parts between a convolution and a head."""
    return By(lambda m, x: m.fc(m.parts_(F.relu(m.conv(x))).flatten(1)), parts_=nn.Sequential(*parts))


def hooked() -> nn.Module:
    module = chain(nn.Identity())
    module.conv.register_forward_hook(lambda m, given, result: 2 * result)  # type: ignore[operator, union-attr]
    return module


def attention(m, x):  # type: ignore[no-untyped-def]
    y = m.conv(x).flatten(2)
    return m.fc(torch.matmul(y.transpose(1, 2), y).flatten(1))


MODULES: dict[str, tuple[nn.Module, str]] = {
    "a condition": (By(lambda m, x: m.fc(m.conv(x).flatten(1)) if x.sum() > 0 else x), "forward: has no fixed graph"),
    "a loop over sizes": (By(lambda m, x: sum(m.conv(x) for _ in range(x.shape[0]))), "forward: has no fixed graph"),
    "a condition and an LSTM": (
        By(lambda m, x: x if x.sum() > 0 else m.r(x), r=nn.LSTM(4, 4)),
        "r (LSTM): has a state",
    ),
    "an LSTM": (chain(nn.Flatten(2), nn.LSTM(64, 4)), "parts_.1 (LSTM): has a state from step to step; use Conv1d"),
    "attention by hand": (By(attention), "(flatten): makes (2, 4, 64) of (2, 4, 8, 8); must make (N, features)"),
    "attention": (chain(nn.Flatten(2), nn.TransformerEncoderLayer(64, 2)), "(TransformerEncoderLayer): multiplies two"),
    "a LeakyReLU": (chain(nn.LeakyReLU()), "parts_.0 (LeakyReLU): use ReLU"),
    "a sigmoid function": (By(lambda m, x: m.fc(torch.sigmoid(m.conv(x)).flatten(1))), "forward (sigmoid): use ReLU"),
    "a GroupNorm": (chain(nn.GroupNorm(2, 4)), "parts_.0 (GroupNorm): use BatchNorm"),
    "a shared convolution": (
        By(lambda m, x: m.fc(m.twice(m.twice(m.conv(x).relu())).flatten(1)), twice=nn.Conv2d(4, 4, 3, padding=1)),
        "twice (Conv2d): is called twice; layers share no weights: make two modules",
    ),
    "concatenation": (
        By(lambda m, x: torch.cat([m.conv(x), m.conv2(x)], 1), conv2=nn.Conv2d(3, 4, 3)),
        "(cat): sum the branches with +",
    ),
    "a product": (By(lambda m, x: m.fc((m.conv(x) * 0.5).flatten(1))), "(mul): scale and shift the data"),
    "a gate": (
        By(lambda m, x: m.fc((m.conv(x) * m.conv2(x)).flatten(1)), conv2=nn.Conv2d(3, 4, 3, padding=1)),
        "(mul): scale and shift",
    ),
    "a constant added": (By(lambda m, x: m.fc((m.conv(x) + 1).flatten(1))), "adds a constant or a parameter"),
    "an addition in place": (
        By(lambda m, x: m.fc((lambda y: y.add_(F.max_pool2d(y, 1)) + y)(m.conv(x)).flatten(1))),
        "(add_): changes a tensor in place that others read too; write x = x + y",
    ),
    "a result that is not assigned": (
        By(lambda m, x: (lambda y: (y.relu_(), m.fc(y.flatten(1)))[1])(m.conv(x))),
        "(relu_): changes a tensor in place that is read by its old name; assign what it gives",
    ),
    "a reshape trick": (
        By(lambda m, x: m.fc(m.conv(x).view(x.size(0), 2, 128)[:, 0])),
        "makes (2, 2, 128) of (2, 4, 8, 8)",
    ),
    "a transposition": (By(lambda m, x: m.fc(m.conv(x).permute(0, 2, 3, 1).flatten(1))), "(permute): reorders values"),
    "a ReLU beside its sum": (
        By(lambda m, x: m.fc((lambda y: F.relu(y) + y)(m.conv(x)).flatten(1))),
        "(relu): its input is read elsewhere too",
    ),
    "a norm behind a ReLU": (
        chain(nn.BatchNorm2d(4)),
        "parts_.0 (BatchNorm2d): must stand right behind a Conv or Linear",
    ),
    "a norm without statistics": (
        By(lambda m, x: m.fc(m.bn(m.conv(x)).flatten(1)), bn=nn.BatchNorm2d(4, track_running_stats=False)),
        "bn (BatchNorm2d): keeps no statistics; use track_running_stats=True",
    ),
    "a ReLU in front": (By(lambda m, x: m.fc(m.conv(F.relu(x)).flatten(1))), "stands in front of the first layer"),
    "dropped channels": (chain(nn.Dropout2d()), "parts_.0 (Dropout2d): use Dropout"),
    "reflected padding": (
        By(lambda m, x: m.fc(m.c(x).flatten(1)), c=nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")),
        "c (Conv2d): padding_mode = 'reflect'; pads with zeros only",
    ),
    "a padded pool of negatives": (
        By(lambda m, x: m.fc(F.max_pool2d(m.conv(x), 3, 1, 1).flatten(1))),
        "(max_pool2d): pads what may be negative",
    ),
    "a mean without padding": (
        chain(nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
        "parts_.0 (AvgPool2d): leaves padding out of its mean",
    ),
    "uneven windows": (chain(nn.AdaptiveAvgPool2d(3)), "makes (3, 3) of (8, 8); windows must all have one size"),
    "a Linear over maps": (By(lambda m, x: m.l(m.conv(x)), l=nn.Linear(8, 8)), "l (Linear): reads (2, 4, 8, 8)"),
    "a convolution of its own": (
        By(lambda m, x: m.fc(m.own(x).flatten(1)), own=OwnConv(3, 4, 3)),
        "(conv2d): computes with parameters of its own",
    ),
    "no head": (
        By(lambda m, x: F.relu(m.conv(x))),
        "forward: must end in a Linear without ReLU or batch norm: the head",
    ),
    "a head alone": (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), "the body has no layer with weights"),
    "two outputs": (By(lambda m, x: (m.conv(x), m.fc(m.conv(x).flatten(1)))), "forward: gives several tensors"),
    "sizes that do not fit": (chain(nn.Conv2d(5, 4, 3)), "parts_.0: does not run on the example"),
    "a Tanh of Brevitas": (chain(qnn.QuantTanh()), "parts_.0 (QuantTanh): use ReLU"),
    "hooks": (hooked(), "conv (Conv2d): has hooks; remove them"),
    "an embedding": (By(lambda m, x: m.e(x.long()), e=nn.Embedding(9, 4)), "long"),
    "a transposed convolution": (chain(nn.ConvTranspose2d(4, 4, 2)), "(ConvTranspose2d): use a Conv with a stride"),
}


@pytest.mark.parametrize("name", MODULES)
def test_what_has_no_counterpart_is_told_in_one_message(name: str) -> None:
    module, expected = MODULES[name]
    with pytest.raises(BodyError) as error:
        body(module, torch.rand(2, 3, 8, 8))
    told = str(error.value)
    assert told.startswith(f"{type(module).__name__} cannot become a body:\n  - ")
    assert expected in told
    assert "Traceback" not in told


def test_all_problems_are_told_at_once() -> None:
    module = chain(nn.LeakyReLU(), nn.Dropout2d(), nn.Upsample(scale_factor=2))
    with pytest.raises(BodyError) as error:
        body(nn.Sequential(nn.Tanh(), module), torch.rand(2, 3, 8, 8))
    assert re.findall(r"^  - ([\w.]+) \(", str(error.value), re.MULTILINE) == [
        "0",
        *(f"1.parts_.{i}" for i in range(3)),
    ]
    with pytest.raises(BodyError) as error:
        body(By(lambda m, x: m.a(m.conv(x)) + m.b(m.conv(x)) * 2, a=nn.Tanh(), b=nn.GELU()), torch.rand(2, 3, 8, 8))
    assert re.findall(r"^  - ([\w.]+ \(\w+\))", str(error.value), re.MULTILINE) == [
        "a (Tanh)",
        "conv (Conv2d)",
        "b (GELU)",
    ]


@pytest.mark.parametrize("example", ["text", torch.rand(3), torch.rand(0, 3, 8, 8), np.zeros((1, 3, 8, 8))])
def test_an_example_is_a_batch(example: object) -> None:
    with pytest.raises(BodyError, match="example_input: must be a batch"):
        body(chain(), example)  # type: ignore[arg-type]


def test_a_module_that_lies_about_what_it_computes_is_found_out() -> None:
    sly = By(lambda m, x: (y := m.conv(x), torch.relu_(y), m.fc(y.flatten(1)))[-1])
    with pytest.raises(BodyError, match="computes something else than its layers say"):
        body(sly, torch.rand(2, 3, 8, 8))
