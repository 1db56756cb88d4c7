"""`tsn-hw check`: every reason against a model at once, with what to change, before any long work."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import write_onnx
from sim.area import read_coefficients
from sim.devices import device
from sim.resources import estimate_resources
from tests.helpers.foreign_models import checked_on_zynq
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET
from tests.helpers.tiny_run import TINY_TOML, finished_run
from tsn_hw.app.check.draft import draft
from tsn_hw.app.cli.main import main
from tsn_hw.app.hardware.choose import HardwareRequest, choose
from tsn_hw.app.hardware.platform import Platform
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import FoldingError, SettingsError
from tsn_hw.core.layers import Weighted
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, unit_names
from tsn_hw.learn.bodies import alexnet, mlp
from tsn_hw.learn.settings import Formats, ModelSettings, QuantizeSettings, Settings, TrainSettings

# ------------------------------------------------------------------------------------------------------------ networks


def test_a_network_is_held_against_every_back_end_layer_by_layer(tmp_path: Path) -> None:
    path = tmp_path / "net.tsn"
    artifact.save(NET, path)
    checked = checked_on_zynq(path)
    assert checked.is_supported
    assert checked.result().text().splitlines()[:5] == [
        f"{path}: packed network, 2 tasks, 1 banks",
        "",
        "layer    kind     output     onnx  hls  qonnx quant  qonnx multithreshold",
        "conv     Conv2d   2 x 3 x 2  yes   yes  yes          yes",
        "mix      Conv2d   2 x 3 x 2  yes   yes  yes          yes",
    ]
    assert checked.result().text().splitlines()[8:] == [
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
    wide = draft(mlp((1, 28, 28), (600, 200)), Settings(), [tuple("0123456789")] * 10)
    artifact.save(wide, path)
    checked = checked_on_zynq(path, "xc7z010")
    assert checked.notes[1].startswith("  masks deep: 597 of 120 block RAMs (497 %), ")
    (problem,) = checked.problems["xc7z010"]
    assert re.fullmatch(
        r"device 'xc7z010': no folding fits 80 % of it even at the lowest rate; the least takes \d+ of its 120 block "
        r"RAMs \(\d+ %\); choose a larger --device, or a smaller network",
        problem,
    )
    assert not checked.is_supported
    assert checked.result().text().endswith("\nNOT SUPPORTED AS IT IS: xc7z010")


def test_a_part_that_holds_one_task_at_a_time_is_large_enough(tmp_path: Path) -> None:
    path = tmp_path / "net.tsn"
    many = draft(mlp((1, 28, 28), (100, 100)), Settings(), [tuple("0123456789")] * 20)
    artifact.save(many, path)
    assert checked_on_zynq(path, "xc7z010").problems["xc7z010"] == []
    with pytest.raises(FoldingError) as refused:
        choose(many, HardwareRequest(Platform(device("xc7z010"), read_coefficients())))
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
    assert [(record["onnx"], record["hls"]) for record in checked.records[:2]] == [("yes", "no"), ("yes", "yes")]
    assert f"\nhls: 1 to change\n  - {problem}\n" in checked.result().text()
    assert checked.result().text().endswith("\nNOT SUPPORTED AS IT IS: hls")
    assert checked.result().data["rows"][0] == {
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
    assert checked.result().text().endswith("\nsupported, but not by qonnx quant and qonnx multithreshold")


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
    assert [list(record.values()) for record in checked.records] == [
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
            "model: kind = 'resnet': must be one of 'mlp', 'alexnet', 'tinynet', 'resnet18', 'layers', 'onnx'",
            "train: train.epochs = 0: must be at least 1",
            "formats: act_bits = 7: must be one of 4, 8, 16",
            "quantize: min_bits = '2': must be a whole number",
        ]
    }
    assert (
        checked.result()
        .text()
        .endswith("what depends on these parts could not be checked\n\nNOT SUPPORTED AS IT IS: settings")
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
            "data 'npz': class 'e' has 1 training and 2 test examples, must have at least 2 and 1; leave the class "
            "out, or bring more",
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


def test_a_graph_of_ours_is_sent_back_to_its_network(tmp_path: Path) -> None:
    write_onnx(NET, tmp_path)
    with pytest.raises(SettingsError) as caught:
        checked_on_zynq(tmp_path / "task_00.onnx")
    assert str(caught.value) == (
        f"{tmp_path / 'task_00.onnx'}: is a graph that tsn-hw exported; check the .tsn file that it was made from"
    )


def test_a_trained_run_is_supported() -> None:
    assert checked_on_zynq(finished_run() / "net.tsn").is_supported
