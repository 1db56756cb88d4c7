"""`tsn-hw check`: every reason against a model at once, with what to change, before any long work."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import write_onnx
from sim.area import read_coefficients
from sim.devices import device
from sim.resources import estimate_resources
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET
from tests.helpers.tiny_run import TINY_TOML, finished_run
from tsn_hw.app.check.draft import draft
from tsn_hw.app.check.foreign import SUPPORTED, Foreign, read_foreign
from tsn_hw.app.check.network import Checked, check_model
from tsn_hw.app.cli.main import main
from tsn_hw.app.hardware.choose import HardwareWishes, choose
from tsn_hw.app.hardware.platform import Platform
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import FoldingError, SettingsError
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool, Weighted
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, unit_names
from tsn_hw.learn.architectures import Architecture, alexnet, mlp, resnet18, tinynet
from tsn_hw.learn.settings import Formats, ModelSettings, QuantizeSettings, Settings, TrainSettings


def checked_on_zynq(path: Path, name: str = "xc7z020") -> Checked:
    return check_model(path, Platform(device(name), read_coefficients()))


# ------------------------------------------------------------------------------------------------------------ networks


def test_a_network_is_held_against_every_back_end_layer_by_layer(tmp_path: Path) -> None:
    path = tmp_path / "net.tsn"
    artifact.save(NET, path)
    checked = checked_on_zynq(path)
    assert checked.is_supported
    assert checked.to_text().splitlines()[:5] == [
        f"{path}: packed network, 2 tasks, 1 banks",
        "",
        "layer    kind     output     onnx  hls  qonnx quant  qonnx multithreshold",
        "conv     Conv2d   2 x 3 x 2  yes   yes  yes          yes",
        "mix      Conv2d   2 x 3 x 2  yes   yes  yes          yes",
    ]
    assert checked.to_text().splitlines()[8:] == [
        "flatten  Flatten  2          yes   yes  yes          yes",
        "head_a   Linear   2          yes   yes  yes          yes",
        "head_b   Linear   3          yes   yes  yes          yes",
        "",
        "onnx: no problem",
        "",
        "hls: no problem",
        "",
        "qonnx quant: no problem",
        "",
        "qonnx multithreshold: no problem",
        "",
        "xc7z020: no problem",
        "",
        "one weight a cycle in every layer, on xc7z020 as estimated:",
        *checked.notes[1:],
        "",
        "supported",
    ]


def test_the_size_of_the_smallest_hardware_is_told_before_it_is_built(tmp_path: Path) -> None:
    path = tmp_path / "net.tsn"
    wide = draft(mlp((1, 28, 28), (300, 100)), Settings(), [tuple("0123456789")] * 10)
    artifact.save(wide, path)
    notes = checked_on_zynq(path).notes
    assert notes[0] == "one weight a cycle in every layer, on xc7z020 as estimated:"
    units = dict.fromkeys(unit_names(wide), UnitSettings(Folding(1)))
    used = estimate_resources(accelerator(wide, HardwareSettings(units)), device("xc7z020")).resources.bram
    rate = f"{100e6 / (784 * 300):.1f} inferences a second"
    assert notes[1] == f"  masks deep: {used} of 280 block RAMs ({100 * used / 280:.0f} %), {rate}"
    assert notes[2].startswith("  masks runtime: ")
    assert int(notes[2].split()[2]) < used


def test_a_part_that_is_too_small_is_told_as_the_export_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "net.tsn"
    wide = draft(mlp((1, 28, 28), (300, 100)), Settings(), [tuple("0123456789")] * 10)
    artifact.save(wide, path)
    checked = checked_on_zynq(path, "xc7z010")
    assert checked.notes[1].startswith("  masks deep: 272 of 120 block RAMs (227 %), ")
    (problem,) = checked.problems["xc7z010"]
    assert re.fullmatch(
        r"device 'xc7z010': no folding fits 80 % of it even at the lowest rate; the least takes \d+ of its 120 block "
        r"RAMs \(\d+ %\); choose a larger --device, or a smaller network",
        problem,
    )
    assert not checked.is_supported
    assert checked.to_text().endswith("\nNOT SUPPORTED AS IT IS: xc7z010")


def test_a_part_that_holds_one_task_at_a_time_is_large_enough(tmp_path: Path) -> None:
    path = tmp_path / "net.tsn"
    many = draft(mlp((1, 28, 28), (100, 100)), Settings(), [tuple("0123456789")] * 20)
    artifact.save(many, path)
    assert checked_on_zynq(path, "xc7z010").problems["xc7z010"] == []
    with pytest.raises(FoldingError) as refused:
        choose(many, HardwareWishes(Platform(device("xc7z010"), read_coefficients())))
    assert str(refused.value).endswith("; with --masks runtime, one task at a time on chip, there is one")


def test_a_layer_that_a_back_end_cannot_hold_is_named_with_the_rule(tmp_path: Path) -> None:
    steps = list(NET.tasks[1].steps)
    scale = steps[0].requantization
    steps[0] = replace(steps[0], requantization=replace(scale, output=replace(scale.output, bits=7)))
    path = tmp_path / "net.tsn"
    artifact.save(replace(NET, tasks=(NET.tasks[0], replace(NET.tasks[1], steps=tuple(steps)))), path)
    checked = checked_on_zynq(path)
    problem = "layer 'conv': its output has 7 bits unsigned, 8 bits unsigned by task; a stream has one width and sign"
    assert checked.problems == {"onnx": [], "hls": [problem], "qonnx quant": [], "qonnx multithreshold": []}
    assert [row[3:5] for row in checked.rows][:2] == [["yes", "no"], ["yes", "yes"]]
    assert f"\nhls: 1 to change\n  - {problem}\n" in checked.to_text()
    assert checked.to_text().endswith("\nNOT SUPPORTED AS IT IS: hls")
    assert checked.to_json()["rows"][0] == {
        "layer": "conv",
        "kind": "Conv2d",
        "output": "2 x 3 x 2",
        "onnx": "yes",
        "hls": "no",
        "qonnx quant": "yes",
        "qonnx multithreshold": "yes",
    }


def test_what_qonnx_cannot_hold_is_told_and_does_not_count_against_the_network(tmp_path: Path) -> None:
    path = tmp_path / "net.tsn"
    artifact.save(random_network(Recipe(tasks=1, act_bits=16, centroid_bits=16, seed=3)), path)
    checked = checked_on_zynq(path)
    (problem,) = checked.problems["qonnx quant"]
    assert re.fullmatch(r"layer 'fc\d': .* QONNX holds integers up to 16777216 exactly \(task 'task0'\)", problem)
    assert checked.is_supported
    assert checked.to_text().endswith("\nsupported, but not by qonnx quant and qonnx multithreshold")


@pytest.mark.parametrize("kind", ["mlp", "conv", "residual"])
def test_random_networks_are_supported(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "net.tsn"
    artifact.save(random_network(Recipe(kind=kind, tasks=3, banks=2, act_bits=16, centroid_bits=16, seed=3)), path)
    assert checked_on_zynq(path).is_supported


@pytest.mark.parametrize("name", ["net", "net.txt", "net.tsn.gz"])
def test_a_file_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        checked_on_zynq(Path(name))
    assert str(caught.value) == f"check: {name} must end in .tsn, .toml, .onnx"


# ------------------------------------------------------------------------------------------------------------ settings


def test_settings_are_checked_down_to_a_network_of_their_size(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(TINY_TOML)
    checked = checked_on_zynq(path)
    parts = ("settings", "data", "model", "train", "onnx", "hls", "xc7z020")
    assert checked.problems == {part: [] for part in parts}
    assert checked.title == f"{path}: settings of a run, 2 tasks, images 1 x 8 x 8"
    assert checked.notes[0].startswith(
        "task 'digits-permuted-0' has 30 validation images: pruning and code widths are "
    )
    assert checked.rows == [
        ["flatten", "Flatten", "64", None, "yes", "yes"],
        ["fc1", "Linear", "12", 768, "yes", "yes"],
    ]


def test_mistakes_in_several_tables_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        "sed = 3\n[model]\nkind = 'resnet'\n[train]\nepochs = 0\n[formats]\nact_bits = 7\n[quantize]\nmin_bits = '2'\n"
    )
    checked = checked_on_zynq(path)
    assert checked.problems == {
        "settings": [
            "unknown key 'sed'; known are data, stream, model, formats, train, prune, quantize, route, seed",
            "model: kind = 'resnet': must be one of 'mlp', 'alexnet', 'tinynet', 'resnet18'",
            "train: train.epochs = 0: must be at least 1",
            "formats: act_bits = 7: must be one of 4, 8, 16",
            "quantize: min_bits = '2': must be a whole number",
        ]
    }
    assert checked.to_text().endswith(
        "what depends on these parts could not be checked\n\nNOT SUPPORTED AS IT IS: settings"
    )


FEW = """
model.batch_norm = true
data = {{source = "npz", path = "few_{images}.npz"}}
stream = {{kind = "split", classes_per_task = 1}}
"""
"""Tasks of one class each; the last class has few images."""


@pytest.mark.parametrize(
    ("text", "part", "message"),
    [
        ("[", "settings", "{path}: not a TOML file ("),
        ("seed = 'x'", "settings", "{path}: seed = 'x': must be a whole number"),
        ("[data]\nsource = 'npz'\npath = 'gone.npz'", "data", "data 'npz': {folder}/gone.npz is missing; put "),
        ("[model]\nhidden = []", "model", "model 'mlp': hidden=(), needs at least one width of at least 1"),
        ("[train.keep_table]\nfc9 = 0.5", "model", "train.keep_table.fc9: no such layer; there are fc1, fc2"),
        (
            "[train]\nmethod = 'wsn'",
            "train",
            "train.method = 'wsn': keeps float32 weights and ends in no network; it is a baseline of "
            "`tsn-hw bench paper`",
        ),
        (
            "[model]\nhidden = [65536, 65536]",
            "train",
            "model: layer 'fc2' has 4294967296 weights, at most 268435456",
        ),
        (
            f"[model]\nhidden = [{', '.join(['16384'] * 65)}]",
            "train",
            "model: 17180917760 weights take 910.6 GB to train, there are ",
        ),
        (
            FEW.format(images=1),
            "data",
            "task 'npz-split-4': class 'e' has 1 training and 2 test images, must have at least 2 (one to train on, "
            "one to validate with) and 1",
        ),
        (
            FEW.format(images=2),
            "train",
            "model.batch_norm: task 'npz-split-4' trains on one image, a batch norm needs two",
        ),
    ],
)
def test_what_is_wrong_with_a_run_is_told_before_it_is_trained(
    text: str, part: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By ``check`` and, in the same words, by ``train``, which writes nothing then."""
    for images in (1, 2):  # of the last class; all others have ten
        labels = np.repeat(np.arange(5), [10, 10, 10, 10, images])
        x, y = np.zeros((len(labels), 4, 4), np.uint8), np.repeat(np.arange(5), 2)
        arrays = {"x_train": x, "y_train": labels, "x_test": x[:10], "y_test": y, "classes": np.array(list("abcde"))}
        np.savez(tmp_path / f"few_{images}.npz", **arrays)  # type: ignore[arg-type]
    path = tmp_path / "run.toml"
    path.write_text(text)
    checked = checked_on_zynq(path)
    assert not checked.is_supported
    assert list(checked.problems)[-1] == part  # what comes after it cannot be checked
    (problem,) = checked.problems[part]
    assert problem.startswith(message.format(path=path, folder=tmp_path))
    assert main(["train", str(path), "-o", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"tsn-hw: {problem}\n"
    assert not (tmp_path / "run").exists()


def test_a_body_that_is_too_large_to_be_drawn_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[data]\nsource = 'digits'\n[stream]\ntasks = 2\n[model]\nhidden = [16000, 16000]\n")
    assert checked_on_zynq(path).problems["model"] == [
        "model: its 257024000 weights in 2 tasks take 6682624000 bytes to be held against back ends, "
        "at most 1073741824 are; check a smaller model of the same layers"
    ]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_draft_has_the_masks_and_the_code_widths_of_its_settings(batch_norm: bool) -> None:
    settings = Settings(
        model=ModelSettings(batch_norm=batch_norm),
        formats=Formats(act_bits=4, centroid_bits=6, multiplier_bits=9),
        train=TrainSettings(keep_policy="per_layer", keep_ratio=0.5, keep_table={"conv1": 0.1}),
        quantize=QuantizeSettings(max_bits=3, head_bits=2),
    )
    body = alexnet((3, 16, 16), (4, 6), (20, 10), batch_norm)
    net = draft(body, settings, [("a", "b"), ("c", "d", "e")])
    assert net.layers[: len(body.layers)] == body.layers
    assert [task.classes for task in net.tasks] == [("a", "b"), ("c", "d", "e")]
    for index, layer in enumerate(net.layers):
        if not isinstance(layer, Weighted):
            continue
        is_head = index in net.heads
        task = index - len(body.layers) if is_head else 0
        words, mask = net.words(task, index), net.step(task, index).mask
        assert len(words.codebooks[task]) == (4 if is_head else 8)
        assert mask is not None
        share = 1.0 if is_head else 0.1 if layer.name == "conv1" else 0.5
        assert mask.mean() == pytest.approx(share, abs=0.1)
        multiplier = net.step(task, index).requantization.multiplier  # type: ignore[union-attr]
        assert set(multiplier) == {255 if batch_norm and not is_head else 1}
    assert capacity(net).body_weights == body.body_weights


# ---------------------------------------------------------------------------------------------------------------- ONNX


def model_of(
    nodes: Sequence[tuple[str, list[str], list[str], dict[str, Any]]],
    weights: dict[str, tuple[int, ...]],
    shape: Sequence[int | str] = ("N", 3, 32, 32),
    outputs: Sequence[str] = ("y",),
    domain: str = "",
) -> onnx.ModelProto:
    """A float model: nodes as (operator, inputs, outputs, attributes), weights of zeros by shape."""
    graph = helper.make_graph(
        [
            helper.make_node(kind, inputs, results, f"n{number}", domain=domain if kind == "Odd" else "", **attributes)
            for number, (kind, inputs, results, attributes) in enumerate(nodes)
        ],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in weights.items()],
    )
    domains = [("", 18)] + ([(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*entry) for entry in domains])


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
    assert checked.problems == {"operators": [], "settings": []}
    assert [row[2] for row in checked.rows] == [
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
    assert checked.to_text().endswith(
        "train it with\n\n"
        '[model]\nkind = "alexnet"\nchannels = [4, 8]\nhidden = [20]\nbatch_norm = true  # head: 10 classes\n\n'
        "supported"
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
    assert checked.problems == {"operators": [], "settings": []}
    assert checked.notes[-1] == f"[model]\n{table}  # head: 10 classes"


def test_a_residual_net_with_relus_elsewhere_is_told(tmp_path: Path) -> None:
    body = resnet18((3, 32, 32), 4)
    other = replace(body, signed=body.signed - {min(body.signed)} | {"stem"})
    (problem,) = checked_on_zynq(saved(float_model(other, True), tmp_path)).problems["settings"]
    assert problem.startswith('the body of kind = "resnet18" has block1_')
    assert "without Relu, this one has conv1, " in problem


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
    assert checked.problems["settings"] == [
        "no model.kind has this geometry (docs/training.md says which there are); change the model, or build its body "
        "in Python from tsn_hw.learn.architectures"
    ]


@pytest.mark.parametrize("missing", ["Relu", "BatchNormalization"])
def test_a_layer_without_relu_or_norm_among_others_is_told(missing: str, tmp_path: Path) -> None:
    nodes, weights = conv_net()
    nodes[11 if missing == "BatchNormalization" else 12] = (
        "Identity",
        ["l1" if missing != "Relu" else "n3"],
        ["n3" if missing != "Relu" else "r3"],
        {},
    )
    checked = checked_on_zynq(saved(model_of(nodes, weights), tmp_path))
    assert checked.problems == {
        "operators": [],
        "settings": [
            'the body of kind = "alexnet" has no layer without Relu, this one has fc1'
            if missing == "Relu"
            else "some layers have a BatchNormalization; a body has one behind every layer, or none"
        ],
    }


def found_in(nodes: Sequence[Any], weights: dict[str, tuple[int, ...]], **options: Any) -> Foreign:
    return read_foreign(model_of(nodes, weights, **options))


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


HEAD = ("Gemm", ["f", "w"], ["y"], {})
FLAT = {"w": (3 * 32 * 32, 10)}
IN_FRONT = "stands in front of the first layer; scale and shift the data before the network"
K = {"k": (4, 3, 3, 3)}
POOL = {"kernel_shape": [2, 2]}
ONE = {"kernel_shape": [1, 1]}
TRAINING = "is in training mode; export the model for inference"
WRONG: list[tuple[str, list[str], dict[str, Any], dict[str, tuple[int, ...]], str]] = [
    ("Sigmoid", ["x"], {}, {}, "use Relu: activations are saturated integers, and Relu is the saturation at 0"),
    ("LSTM", ["x"], {}, {}, f"has no counterpart; supported are {SUPPORTED}"),
    ("Softmax", ["x"], {}, {}, f"has no counterpart; supported are {SUPPORTED}"),
    ("Concat", ["x", "x"], {"axis": 1}, {}, "sum the branches with Add"),
    ("Odd", ["x"], {}, {}, f"operators of the domain 'odd' are unknown; supported are {SUPPORTED}"),
    ("Conv", ["x", "k"], {"dilations": [2, 2]}, K, "has dilations; use a larger kernel, or more layers"),
    ("Conv", ["x", "k"], {"auto_pad": "SAME_UPPER"}, K, "has auto_pad SAME_UPPER; export it with explicit pads"),
    (
        "Conv",
        ["x", "k"],
        {"pads": [0, 0, 1, 1]},
        K,
        "pads [0, 0, 1, 1] differ between both sides; must be the same before and after",
    ),
    ("Conv", ["x", "k"], {}, {"k": (4, 3, 2)}, "has 1 spatial dimensions, must have 2"),
    ("Conv", ["x", "x"], {}, {}, "multiplies two activations; one factor must be constant weights"),
    (
        "Conv",
        ["x", "k"],
        {},
        {"k": (4, 2, 3, 3)},
        "layer 'conv1': takes (2, height, width), its input is (3, 32, 32)",
    ),
    (
        "MaxPool",
        ["x"],
        POOL | {"ceil_mode": 1},
        {},
        "has ceil_mode or dilations; choose kernel and stride so that it needs none",
    ),
    (
        "AveragePool",
        ["x"],
        POOL | {"pads": [1, 1, 1, 1]},
        {},
        "pads by (1, 1); pools have no padding: use a Conv with padding, or a smaller kernel",
    ),
    ("Add", ["x", "k"], {}, {"k": (1,)}, IN_FRONT),
    ("Relu", ["x"], {}, {}, IN_FRONT),
    ("Flatten", ["x"], {"axis": 2}, {}, "has axis 2, must have 1"),
    (
        "Gemm",
        ["x", "k"],
        {"alpha": 2.0},
        {"k": (4, 3)},
        "has transA, alpha or beta; must be a plain product with constant weights",
    ),
]


@pytest.mark.parametrize(("kind", "inputs", "attributes", "weights", "problem"), WRONG)
def test_an_operator_without_counterpart_is_named_with_what_to_change(
    kind: str, inputs: list[str], attributes: dict[str, Any], weights: dict[str, tuple[int, ...]], problem: str
) -> None:
    foreign = found_in([(kind, inputs, ["f"], attributes), HEAD], FLAT | weights, domain="odd")
    assert foreign.all_problems == [f"{kind} 'n0': {problem}"]
    assert foreign.operators[1].becomes == "Linear, of unknown size because of what stands before it"


def test_all_problems_are_told_at_once() -> None:
    nodes = [
        ("Conv", ["x", "k"], ["c"], {}),
        ("Sigmoid", ["c"], ["s"], {}),
        ("Conv", ["s", "k2"], ["c2"], {"dilations": [2, 2]}),
        ("Tanh", ["c2"], ["t"], {}),
        ("Gemm", ["t", "w"], ["y"], {"beta": 2.0}),
    ]
    weights = {"k": (4, 3, 3, 3), "k2": (4, 4, 3, 3), "w": (10, 10)}
    assert [problem.partition(":")[0] for problem in found_in(nodes, weights, outputs=("y", "c")).all_problems] == [
        "the model has 2 outputs; a task has one head",
        "Sigmoid 'n1'",
        "Conv 'n2'",
        "Tanh 'n3'",
        "Gemm 'n4'",
    ]


@pytest.mark.parametrize("shape", [("N", 3, "h", "w"), ("N", 3, 32), ("N",)])
def test_an_input_of_another_shape_is_told(shape: Sequence[int | str]) -> None:
    problem = found_in([("Flatten", ["x"], ["f"], {}), HEAD], FLAT, shape=shape).problems[0]
    assert problem.startswith("input 'x': has shape (N, ")
    assert problem.endswith("must be (N, features) or (N, channels, height, width) with fixed sizes")


@pytest.mark.parametrize("kind", ["Relu", "BatchNormalization"])
def test_an_activation_that_is_read_with_and_without_relu_is_told(kind: str) -> None:
    inputs = ["c", "g", "g", "g", "g"] if kind == "BatchNormalization" else ["c"]
    nodes = [
        ("Conv", ["x", "k"], ["c"], {"pads": [1, 1, 1, 1]}),
        (kind, inputs, ["r"], {}),
        ("Add", ["c", "r"], ["s"], {}),
        ("Flatten", ["s"], ["f"], {}),
        HEAD,
    ]
    (problem,) = found_in(nodes, FLAT | {"k": (3, 3, 3, 3), "g": (3,)}).all_problems
    assert problem == (
        f"{kind} 'n1': its input is read elsewhere too; a layer gives its output with it or without, not both"
    )


@pytest.mark.parametrize("operator", ["Add", "BatchNormalization"])
def test_a_bias_or_norm_behind_a_relu_is_told(operator: str) -> None:
    inputs = ["r", "g", "g", "g", "g"] if operator == "BatchNormalization" else ["r", "g"]
    nodes = [
        ("Conv", ["x", "k"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c"], ["r"], {}),
        (operator, inputs, ["b"], {}),
        ("Flatten", ["b"], ["f"], {}),
        HEAD,
    ]
    problems = found_in(nodes, FLAT | {"k": (3, 3, 3, 3), "g": (3,)}).all_problems
    assert problems == [
        f"{operator} 'n2': must stand right behind a Conv, Gemm or MatMul, whose scale and bias it becomes"
    ]


def test_a_model_must_end_in_its_logits() -> None:
    nodes = [("Flatten", ["x"], ["f"], {}), ("Gemm", ["f", "w"], ["h"], {}), ("Relu", ["h"], ["y"], {})]
    assert found_in(nodes, FLAT).all_problems == [
        "the model must end in a Gemm or MatMul without Relu: the head, which gives logits"
    ]


def test_a_graph_of_ours_is_sent_back_to_its_network(tmp_path: Path) -> None:
    write_onnx(NET, tmp_path)
    with pytest.raises(SettingsError) as caught:
        checked_on_zynq(tmp_path / "task_00.onnx")
    assert str(caught.value) == (
        f"{tmp_path / 'task_00.onnx'}: is a graph that tsn-hw exported; check the .tsn file that it was made from"
    )


def test_a_trained_run_is_supported() -> None:
    assert checked_on_zynq(finished_run() / "net.tsn").is_supported


def test_a_model_that_contradicts_itself_is_told() -> None:
    model = model_of([("Flatten", ["x"], ["y"], {})], {})
    del model.opset_import[:]
    assert read_foreign(model).problems[0].startswith("the model contradicts itself: ")


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"])
@pytest.mark.parametrize("is_imported", [True, False])
def test_a_quantized_model_is_sent_back_to_its_float_model(domain: str, is_imported: bool) -> None:
    """Whatever stands behind quantized weights is read as with the weights themselves."""
    model = model_of(
        [("Odd", ["k", "s", "s", "s"], ["q"], {}), ("Gemm", ["f0", "q"], ["y"], {})],
        {"k": (3072, 4), "s": ()},
        domain=domain,
    )
    model.graph.node[0].op_type = "Quant"
    model.graph.node.insert(0, helper.make_node("Flatten", ["x"], ["f0"]))
    if not is_imported:
        del model.opset_import[1:]
    foreign = read_foreign(model)
    assert foreign.all_problems == [f"Quant 'n0': {QUANTIZED}"]
    assert foreign.operators[2].becomes == "Linear 'fc1', 4 out"


QUANTIZED = "give 'check' the float model that was quantized: the learner quantizes by itself"
READ_TWICE = "its input is read elsewhere too; a layer gives its output with it or without, not both"
NO_BIAS = "adds constants of shape {}; must be a bias a channel, (3, 1, 1)"
SUM: tuple[str, list[str], list[str], dict[str, Any]] = ("Add", ["c", "e"], ["s"], {})
BEHIND: list[tuple[str, list[tuple[str, list[str], list[str], dict[str, Any]]], str]] = [
    ("a bias a channel", [("Add", ["c", "b311"], ["e"], {})], ""),
    ("the same with a batch of one", [("Add", ["b1311", "c"], ["e"], {})], ""),
    ("one number", [("Add", ["c", "b"], ["e"], {})], ""),
    ("constants a pixel", [("Add", ["c", "pixel"], ["e"], {})], NO_BIAS.format("(1, 3, 32, 32)")),
    ("constants a column", [("Add", ["c", "b32"], ["e"], {})], NO_BIAS.format("(32,)")),
    ("constants a sample", [("Add", ["c", "b2111"], ["e"], {})], NO_BIAS.format("(2, 1, 1, 1)")),
    ("one dimension more", [("Add", ["c", "b11311"], ["e"], {})], NO_BIAS.format("(1, 1, 3, 1, 1)")),
    ("a cast to bytes", [("Cast", ["c"], ["e"], {"to": 2})], "cuts numbers down to whole ones; leave them as they are"),
    ("a cast to half floats", [("Cast", ["c"], ["e"], {"to": 10})], ""),
    ("a dropout of training", [("Dropout", ["c", "b", "yes"], ["e"], {})], TRAINING),
    ("a pool, then its ReLU", [("MaxPool", ["c"], ["p"], ONE), ("Relu", ["p"], ["e"], {}), SUM],
     READ_TWICE),
    ("a copy, then its ReLU", [("Identity", ["c"], ["p"], {}), ("Relu", ["p"], ["e"], {}), SUM],
     READ_TWICE),
    ("a bias on one of two ways", [("Add", ["c", "b311"], ["e"], {}), SUM], READ_TWICE),
    ("a tensor twice", [("Identity", ["c"], ["c"], {})], "computes 'c', which is there already"),
    ("a batch of pixels", [("Reshape", ["c", "rows"], ["e"], {})],
     "must bring (N, channels, height, width) to (N, features); other shapes have no counterpart"),
    ("too few inputs", [("Conv", ["c"], ["e"], {})],
     "is no valid ONNX: Node(n1) with schema(::Conv:11) has input size 1 not in range [min=2, max=3]."),
    ("an attribute of another type", [("Conv", ["c", "k"], ["e"], {"strides": 2})],
     "is no valid ONNX: Mismatched attribute type in 'n1 : strides'. Expected: 'INTS', actual: 'INT'"),
    ("pads of half their number", [("Conv", ["c", "k"], ["e"], {"pads": [1, 1]})],
     "pads [1, 1] differ between both sides; must be the same before and after"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "problem"), [case[1:] for case in BEHIND], ids=[case[0] for case in BEHIND])
def test_what_stands_behind_a_convolution_is_part_of_it_or_told(nodes: list[Any], problem: str) -> None:
    sizes = {"b311": (3, 1, 1), "b1311": (1, 3, 1, 1), "b": (), "pixel": (1, 3, 32, 32), "b32": (32,)}
    sizes |= {"b2111": (2, 1, 1, 1), "b11311": (1, 1, 3, 1, 1), "k": (3, 3, 3, 3), "yes": ()}
    model = model_of([("Conv", ["x", "k"], ["c"], {"pads": [1] * 4}), *nodes], sizes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 3]), "rows"))
    told = [f"{nodes[0][0] if len(nodes) < 2 else nodes[-2][0]} 'n{max(1, len(nodes) - 1)}': {problem}"] * bool(problem)
    assert [line for line in read_foreign(model).all_problems if not line.startswith("the model must end in")] == told


@pytest.mark.parametrize(
    ("operator", "attributes", "is_right"),
    [
        ("ArgMax", {"axis": 1}, True),
        ("ArgMax", {"axis": -1}, True),
        ("ArgMax", {}, False),  # over the batch
        ("ArgMax", {"axis": 1, "select_last_index": 1}, False),
        ("Softmax", {}, True),
        ("Softmax", {"axis": 0}, False),
    ],
)
def test_the_end_chooses_among_the_classes(operator: str, attributes: dict[str, Any], is_right: bool) -> None:
    nodes = [("Flatten", ["x"], ["f"], {}), ("Gemm", ["f", "w"], ["l"], {}), (operator, ["l"], ["y"], attributes)]
    problem = f"{operator} 'n2': must choose among the classes, axis 1, and of equal ones the first"
    assert found_in(nodes, FLAT).all_problems == [problem] * (not is_right)


def test_weights_of_another_number_type_are_weights() -> None:
    nodes = [("Flatten", ["x"], ["f"], {}), ("Cast", ["w"], ["v"], {"to": 1}), ("Gemm", ["f", "v"], ["y"], {})]
    assert found_in(nodes, FLAT).all_problems == []
