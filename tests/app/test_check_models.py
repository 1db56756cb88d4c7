"""Which models of other tools can be trained: the table that trains them, or what is in the way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.helpers.foreign_models import checked_on_zynq, model_of
from tsn_hw.core.errors import BodyError, SettingsError
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool, Weighted
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.bodies import alexnet, body_of, mlp, resnet18, tinynet
from tsn_hw.learn.config import read_settings
from tsn_hw.learn.foreign import read_foreign
from tsn_hw.learn.onnx_files import onnx_body
from tsn_hw.learn.settings import ModelSettings


def conv_net() -> tuple[list[tuple[str, list[str], list[str], dict[str, Any]]], dict[str, tuple[int, ...]]]:
    """What alexnet((3, 32, 32), (4, 8), (20,), batch_norm=True) is in ONNX, with ten classes."""
    nodes = [
        ("Conv", ["x", "w1", "b1"], ["c1"], {"kernel_shape": [4, 4]}),
        ("BatchNormalization", ["c1", "g1", "g1", "g1", "g1"], ["n1"], {}),
        ("Relu", ["n1"], ["r1"], {}),
        ("MaxPool", ["r1"], ["p1"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Dropout", ["p1"], ["d1"], {}),
        ("Conv", ["d1", "w2"], ["c2"], {}),
        ("BatchNormalization", ["c2", "g2", "g2", "g2", "g2"], ["n2"], {}),
        ("MaxPool", ["n2"], ["p2"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Relu", ["p2"], ["r2"], {}),
        ("Flatten", ["r2"], ["f"], {}),
        ("Gemm", ["f", "w3", "b3"], ["l1"], {"transB": 1}),
        ("BatchNormalization", ["l1", "g3", "g3", "g3", "g3"], ["n3"], {}),
        ("Relu", ["n3"], ["r3"], {}),
        ("MatMul", ["r3", "w4"], ["m"], {}),
        ("Add", ["m", "b4"], ["l2"], {}),
        ("Softmax", ["l2"], ["y"], {}),
    ]
    weights = {
        "w1": (4, 3, 4, 4), "b1": (4,), "g1": (4,), "w2": (8, 4, 3, 3), "g2": (8,),
        "w3": (20, 288), "b3": (20,), "g3": (20,), "w4": (20, 10), "b4": (10,),
    }  # fmt: skip
    return nodes, weights


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_that_can_be_trained_is_told_with_the_table_that_trains_it(tmp_path: Path) -> None:
    checked = checked_on_zynq(saved(model_of(*conv_net()), tmp_path))
    assert checked.problems == {"operators": []}
    assert [record["becomes"] for record in checked.records] == [
        "Conv2d 'conv1', 4 x 29 x 29 out",
        "part of 'conv1'",
        "part of 'conv1'",
        "MaxPool 'pool1', 4 x 14 x 14 out",
        "nothing",
        "Conv2d 'conv2', 8 x 12 x 12 out",
        "part of 'conv2'",
        "MaxPool 'pool2', 8 x 6 x 6 out",
        "part of 'conv2'",
        "Flatten 'flatten1', 288 out",
        "Linear 'fc1', 20 out",
        "part of 'fc1'",
        "part of 'fc1'",
        "Linear 'fc2', 10 out",
        "part of 'fc2'",
        "nothing: the class is the first largest logit",
    ]
    assert (
        checked.result()
        .text()
        .endswith(
            "train it with\n\n"
            '[model]\nkind = "alexnet"\nchannels = [4, 8]\nhidden = [20]\nbatch_norm = true  # head: 10 classes\n\n'
            "supported"
        )
    )


def test_the_suggested_table_has_the_body_of_the_model() -> None:
    *body, head = read_foreign(model_of(*conv_net())).layers
    suggested = alexnet((3, 32, 32), (4, 8), (20,), batch_norm=True)
    assert [replace(layer, name="") for layer in body] == [replace(layer, name="") for layer in suggested.layers]
    assert head == Linear("fc2", 20, 10, (len(body) - 1,))


def float_model(body: Architecture, batch_norm: bool) -> onnx.ModelProto:
    """A body with a head of ten classes as another tool would export it, additions and pools included."""
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
    weights: dict[str, tuple[int, ...]] = {}
    names = {-1: "x"}
    for index, layer in enumerate((*body.layers, Linear("head", body.features, 10, (len(body.layers) - 1,)))):
        sources, name = [names[source] for source in layer.inputs], f"t{index}"
        if isinstance(layer, Weighted):
            weights[f"{name}.w"] = layer.weight_shape
            kind, attributes = (
                ("Gemm", {"transB": 1}) if isinstance(layer, Linear) else ("Conv", conv_attributes(layer))
            )
            nodes.append((kind, [*sources, f"{name}.w"], [name], attributes))
        elif isinstance(layer, Add | Flatten):
            nodes.append((type(layer).__name__, sources, [name], {}))
        else:
            kind = "MaxPool" if isinstance(layer, MaxPool) else "AveragePool"
            nodes.append((kind, sources, [name], {"kernel_shape": layer.kernel, "strides": layer.stride}))
        if batch_norm and isinstance(layer, Weighted) and layer.name != "head":
            weights[f"{name}.g"] = (layer.channels,)
            nodes.append(("BatchNormalization", [name, *[f"{name}.g"] * 4], [f"{name}.n"], {}))
            name += ".n"
        if isinstance(layer, Weighted | Add | AvgPool) and layer.name not in {*body.signed, "head"}:
            nodes.append(("Relu", [name], [f"{name}.r"], {}))
            name += ".r"
        names[index] = name
    nodes[-1] = (*nodes[-1][:2], ["y"], nodes[-1][3])
    return model_of(nodes, weights, ("N", *body.input_shape))


def conv_attributes(layer: Conv2d) -> dict[str, Any]:
    return {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding * 2, "group": layer.groups}


@pytest.mark.parametrize(
    ("body", "batch_norm", "table"),
    [
        (mlp((1, 8, 8), (20, 10)), False, 'kind = "mlp"\nhidden = [20, 10]\nbatch_norm = false'),
        (mlp((30,), (12,)), True, 'kind = "mlp"\nhidden = [12]\nbatch_norm = true'),
        (
            alexnet((3, 32, 32), (4, 8, 8), (20, 10)),
            True,
            'kind = "alexnet"\nchannels = [4, 8, 8]\nhidden = [20, 10]\nbatch_norm = true',
        ),
        (
            tinynet((3, 16, 16), (4, 8), (20,)),
            False,
            'kind = "tinynet"\nchannels = [4, 8]\nhidden = [20]\nbatch_norm = false',
        ),
        (resnet18((3, 32, 32), 4), True, 'kind = "resnet18"\nwidth = 4\nbatch_norm = true'),
    ],
)
def test_every_body_of_settings_is_recognized_in_a_foreign_model(
    body: Architecture, batch_norm: bool, table: str, tmp_path: Path
) -> None:
    checked = checked_on_zynq(saved(float_model(body, batch_norm), tmp_path))
    assert checked.problems == {"operators": []}
    assert checked.notes[-1] == f"[model]\n{table}  # head: 10 classes"


def test_a_residual_net_with_relus_elsewhere_is_a_body_of_its_file(tmp_path: Path) -> None:
    body = resnet18((3, 32, 32), 4)
    other = replace(body, signed=body.signed - {min(body.signed)} | {"stem"})
    path = saved(float_model(other, True), tmp_path)
    checked = checked_on_zynq(path)
    assert checked.problems == {"operators": []}
    assert checked.notes[-1] == f'[model]\nkind = "onnx"\npath = "{path.name}"  # head: 10 classes'
    made = onnx_body(path)
    assert [replace(layer, name="") for layer in made.layers] == [replace(layer, name="") for layer in other.layers]
    assert len(made.signed) == len(other.signed)
    assert all(made.normalizes(layer) for layer in made.weighted.values())


def test_a_perceptron_on_flat_inputs_is_an_mlp(tmp_path: Path) -> None:
    nodes = [
        ("Gemm", ["x", "a"], ["h"], {}),
        ("Relu", ["h"], ["r"], {}),
        ("Gemm", ["r", "b"], ["y"], {}),
    ]
    checked = checked_on_zynq(saved(model_of(nodes, {"a": (30, 12), "b": (12, 4)}, ("N", 30)), tmp_path))
    assert checked.notes == [
        "train it with",
        "",
        '[model]\nkind = "mlp"\nhidden = [12]\nbatch_norm = false  # head: 4 classes',
    ]
    assert mlp((30,), (12,)).layers == (Linear("fc1", 30, 12, (-1,)),)


def test_a_geometry_that_no_settings_file_has_is_told(tmp_path: Path) -> None:
    nodes, weights = conv_net()
    nodes[0] = ("Conv", ["x", "w1", "b1"], ["c1"], {"kernel_shape": [4, 4], "pads": [1, 1, 1, 1]})
    weights["w3"] = (20, 8 * 6 * 6)
    checked = checked_on_zynq(saved(model_of(nodes, weights), tmp_path))
    assert checked.problems["operators"] == []
    assert checked.notes[-1] == '[model]\nkind = "onnx"\npath = "model.onnx"  # head: 10 classes'
    settings = tmp_path / "run.toml"
    settings.write_text('[model]\nkind = "onnx"\npath = "model.onnx"\n')
    read = read_settings(settings)
    assert read.model.kind == "layers"
    assert body_of(read.model, (3, 32, 32)).layers == onnx_body(tmp_path / "model.onnx").layers
    assert body_of(ModelSettings("onnx", path=str(tmp_path / "model.onnx")), (3, 32, 32)).layers[0].name == "conv1"


def test_a_model_with_problems_is_no_body_and_all_are_told(tmp_path: Path) -> None:
    nodes, weights = conv_net()
    nodes[0] = ("Conv", ["x", "w1", "b1"], ["c1"], {"kernel_shape": [4, 4], "auto_pad": "SAME"})
    nodes.append(("Sigmoid", [nodes[-1][2][0]], ["z"], {}))
    with pytest.raises(BodyError) as error:
        onnx_body(saved(model_of(nodes, weights), tmp_path))
    first, *problems = str(error.value).splitlines()
    assert first.endswith("model.onnx cannot become a body:")
    assert any("has auto_pad SAME," in problem for problem in problems)
    assert any("use Relu" in problem for problem in problems)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelSettings("onnx"), "model.path: is empty, must name the ONNX file of kind = 'onnx'"),
        (ModelSettings("mlp", path="a.onnx"), "model.path: belongs to kind = 'onnx', the kind is 'mlp'"),
    ],
)
def test_a_path_belongs_to_its_kind(model: ModelSettings, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        body_of(model, (3, 32, 32))
    assert str(error.value) == message


def test_a_file_that_is_no_onnx_file_is_no_body(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(BodyError, match="is no ONNX file, or damaged"):
        onnx_body(path)


@pytest.mark.parametrize("missing", ["Relu", "BatchNormalization"])
def test_a_layer_without_relu_or_norm_among_others_is_trained_from_the_file(missing: str, tmp_path: Path) -> None:
    nodes, weights = conv_net()
    nodes[11 if missing == "BatchNormalization" else 12] = (
        "Identity",
        ["l1" if missing != "Relu" else "n3"],
        ["n3" if missing != "Relu" else "r3"],
        {},
    )
    path = saved(model_of(nodes, weights), tmp_path)
    checked = checked_on_zynq(path)
    assert checked.problems == {"operators": []}
    assert checked.notes[-1] == '[model]\nkind = "onnx"\npath = "model.onnx"  # head: 10 classes'
    made = onnx_body(path)
    assert made.signed == ({"fc1"} if missing == "Relu" else frozenset())
    normalized = {layer.name for layer in made.layers if made.normalizes(layer)}
    assert normalized == {"conv1", "conv2", "fc1"} - ({"fc1"} if missing == "BatchNormalization" else set())


def test_a_residual_block_with_average_pooling_has_counterparts() -> None:
    nodes = [
        ("Conv", ["x", "w1"], ["c1"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c1"], ["r1"], {}),
        ("Conv", ["r1", "w2"], ["c2"], {"pads": [1, 1, 1, 1], "group": 2}),
        ("Add", ["c2", "r1"], ["s"], {}),
        ("Relu", ["s"], ["r2"], {}),
        ("GlobalAveragePool", ["r2"], ["g"], {}),
        ("Shape", ["g"], ["size"], {}),
        ("Gather", ["size", "zero"], ["batch"], {}),
        ("Concat", ["batch", "minus"], ["target"], {"axis": 0}),
        ("Reshape", ["g", "target"], ["f"], {}),
        ("Gemm", ["f", "w3"], ["y"], {}),
    ]
    weights = {"w1": (4, 3, 3, 3), "w2": (4, 2, 3, 3), "w3": (4, 10), "zero": (1,), "minus": (1,)}
    model = model_of(nodes, weights)
    for tensor, value in (("zero", [0]), ("minus", [-1])):
        index = [t.name for t in model.graph.initializer].index(tensor)
        model.graph.initializer[index].CopyFrom(numpy_helper.from_array(np.array(value), tensor))
    foreign = read_foreign(model)
    assert foreign.all_problems == []
    assert [type(layer).__name__ for layer in foreign.layers] == [
        "Conv2d", "Conv2d", "Add", "AvgPool", "Flatten", "Linear",
    ]  # fmt: skip
    assert foreign.layers[1] == Conv2d("conv2", 4, 4, (3, 3), (1, 1), (1, 1), 2, (0,))
