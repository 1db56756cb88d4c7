"""Networks of other people, as modules and as ONNX files: the float network of their body gives the same logits."""

import importlib.util
import io
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tsn_hw.core.errors import BodyError
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.baselines import DenseModel
from tsn_hw.learn.module_operators import quantizers_off
from tsn_hw.learn.modules import body
from tsn_hw.learn.onnx_files import onnx_body

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("mlperf_tiny", ROOT / "examples/mlperf_tiny.py")
assert SPEC is not None
assert SPEC.loader is not None
MLPERF = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MLPERF)


class QuantLeNet(nn.Module):
    """The network of Brevitas' tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.quant_inp = qnn.QuantIdentity(bit_width=4, return_quant_tensor=True)
        self.conv1 = qnn.QuantConv2d(3, 6, 5, bias=True, weight_bit_width=4)
        self.conv2 = qnn.QuantConv2d(6, 16, 5, bias=True, weight_bit_width=4)
        self.fc1 = qnn.QuantLinear(16 * 5 * 5, 120, bias=True, weight_bit_width=4)
        self.fc2 = qnn.QuantLinear(120, 84, bias=True, weight_bit_width=4)
        self.fc3 = qnn.QuantLinear(84, 10, bias=True, weight_bit_width=4)
        self.relu1, self.relu2, self.relu3, self.relu4 = (qnn.QuantReLU(bit_width=4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.conv1(self.quant_inp(x)))
        out = self.relu2(self.conv2(F.max_pool2d(out, 2)))
        out = F.max_pool2d(out, 2)
        out = out.reshape(out.shape[0], -1)
        return self.fc3(self.relu4(self.fc2(self.relu3(self.fc1(out)))))


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(30, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(24, 16), nn.BatchNorm1d(16, eps=1e-3), nn.ReLU6(), nn.Linear(16, 5),
    )  # fmt: skip


def signals() -> nn.Module:
    """Dilation, padding that differs between both sides, padded and rounded up pools, saturation."""
    return nn.Sequential(
        nn.Conv1d(6, 8, 7, stride=2, padding=3), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(3, 2, 1, ceil_mode=True),
        nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=8), nn.Hardtanh(-2.0, 2.0),
        nn.Conv1d(8, 4, 4, padding="same"), nn.AvgPool1d(3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Brevitas LeNet": (QuantLeNet, (3, 32, 32)),
    "ResNet-8": (MLPERF.resnet8, (3, 32, 32)),
    "MobileNetV1": (MLPERF.mobilenet, (3, 96, 96)),
    "perceptron": (perceptron, (30,)),
    "signals": (signals, (6, 50)),
}


def lived(module: nn.Module) -> nn.Module:
    """The module with batch norms that have seen something."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in ((part.weight, 0.5, 1.5), (part.bias, -0.5, 0.5), (part.running_mean, -0.3, 0.3)):
                nn.init.uniform_(tensor, low, high, generator=generator)
            nn.init.uniform_(part.running_var, 0.2, 2.0, generator=generator)
    return module.eval()


def exported(module: nn.Module, x: Tensor) -> bytes:
    """A module as torch writes it to ONNX, its batch norms as they are."""
    kept, file = torch.onnx.TrainingMode.PRESERVE, io.BytesIO()
    options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}, "dynamo": False, "training": kept}
    with warnings.catch_warnings():  # torch's newer exporter needs onnxscript
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), file, **options)
    return file.getvalue()


def logits(made: Architecture, x: Tensor) -> Tensor:
    """Of the float network of a body's own weights."""
    with torch.no_grad():
        result: Tensor = DenseModel.of(made).eval()(x.reshape(len(x), *made.input_shape))
    return result


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize("form", ["module", "ONNX file"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_float_network_of_a_body_gives_the_logits_of_what_it_was_made_of(
    name: str, form: str, tmp_path: Path
) -> None:
    make, shape = NETWORKS[name]
    module, x = lived(make()), torch.rand(3, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 0.5
    with quantizers_off(module), torch.no_grad():
        expected, file = module(x), exported(module, x) if form == "ONNX file" else b""
    if form == "ONNX file":
        path = tmp_path / "model.onnx"
        path.write_bytes(file)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        expected = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
    started = time.monotonic()
    made = body(module, x, pretrained=True) if form == "module" else onnx_body(path, pretrained=True)
    assert time.monotonic() - started < 10
    torch.testing.assert_close(logits(made, x), expected, rtol=1e-4, atol=1e-4)
    assert body(module, x) == made if form == "module" else onnx_body(path) == made


PADDED = [
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    ("Conv", {"auto_pad": "VALID"}),
    ("Conv", {"pads": [0, 1, 2, 0], "dilations": [1, 3]}),
    ("MaxPool", {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1], "strides": [2, 1]}),
    ("MaxPool", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1], "count_include_pad": 1}),
    ("GlobalMaxPool", {}),
    ("ReduceMean", {"keepdims": 0}),
]


@pytest.mark.parametrize(("kind", "attributes"), PADDED)
def test_windows_of_onnx_mean_the_same_here(kind: str, attributes: dict[str, object], tmp_path: Path) -> None:
    """Behind a ReLU: a convolution, its bias and its norm in nodes of their own, then the operator, then the head."""
    rng, weights = np.random.default_rng(0), dict[str, tuple[int, ...]]()
    inputs = {"Conv": ["r", "w"], "ReduceMean": ["r", "axes"]}.get(kind, ["r"])
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("BatchNormalization", ["d", "g", "o", "m", "s"], ["n"], epsilon=1e-3),
        helper.make_node("Add", ["n", "e"], ["a"]),
        helper.make_node("Clip", ["a", "zero", "six"], ["r"]),
        helper.make_node(kind, inputs, ["p"], **attributes),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "h"], ["l"]),
        helper.make_node("Add", ["l", "i"], ["y"]),
    ]
    weights = {"v": (4, 2, 2, 2), "b": (4, 1, 1), "e": (1, 4, 1, 1), "w": (6, 4, 3, 3), "i": (3,)}
    tensors = {name: rng.normal(size=size).astype(np.float32) for name, size in weights.items()}
    tensors |= {name: rng.uniform(0.3, 1.5, 4).astype(np.float32) for name in "goms"}
    tensors |= {"zero": np.float32(0), "six": np.float32(6), "axes": np.array([2, -1])}
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["N", 2, 9, 8]), ("y", None))]
    x = rng.normal(size=(3, 2, 9, 8)).astype(np.float32) * 2

    def model(features: int) -> onnx.ModelProto:
        known = tensors | {"h": np.random.default_rng(1).normal(size=(features, 3)).astype(np.float32)}
        held = [numpy_helper.from_array(np.asarray(tensor), name) for name, tensor in known.items()]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

    path = tmp_path / "model.onnx"
    path.write_bytes(model(1).SerializeToString())
    with pytest.raises(BodyError) as refused:  # which tells the number of features
        onnx_body(path)
    whole = model(int(str(refused.value).rsplit("(", 1)[1].partition(",")[0]))
    path.write_bytes(whole.SerializeToString())
    session = onnxruntime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = torch.from_numpy(session.run(None, {"x": x})[0])
    given = logits(onnx_body(path, pretrained=True), torch.from_numpy(x))
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


def test_weights_in_a_file_beside_the_model_are_found_and_missed(tmp_path: Path) -> None:
    path, module = tmp_path / "model.onnx", lived(perceptron())
    x = torch.rand(2, 30)
    model = onnx.load_from_string(exported(module, x))
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    torch.testing.assert_close(logits(onnx_body(path, pretrained=True), x), module(x).detach(), rtol=1e-4, atol=1e-4)
    (tmp_path / "model.data").unlink()
    assert onnx_body(path).features == 16
    with pytest.raises(BodyError, match=r"its weights are not there: .*model\.data"):
        onnx_body(path, pretrained=True)
