"""The paper's tables: published figures, costs by hand, which runs they need, and resuming."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.learning import commit_randomly, labels_of, model_of, residual
from tests.helpers.tiny_run import TINY, TINY_TOML
from tsn_hw.app.cli.main import main
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.app.paper import bench as paper
from tsn_hw.app.paper.bench import KEEP_SCALES, OWN_SHARES, bench_paper, read_results, variants
from tsn_hw.app.paper.tables import SCENARIOS, TABLES, PaperTable, body_macs, flops_million, method_points, published
from tsn_hw.app.paper.without_rounding import accuracy_without_rounding, logits_without_rounding
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import quantize
from tsn_hw.core.errors import FileError
from tsn_hw.learn.bodies import alexnet, mlp, resnet18, tinynet
from tsn_hw.learn.config import read_settings
from tsn_hw.learn.freezing import freeze
from tsn_hw.learn.ready import architecture_of
from tsn_hw.learn.settings import Formats

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = TINY_TOML.replace("transfer = true\n", "").replace("epochs = 2", "epochs = 1")


@pytest.mark.parametrize(
    ("preset", "ratio", "kept"),
    [("permuted_mnist", 9.5, 0.60), ("split_cifar100", 9.0, 0.88), ("split_tinyimagenet", 9.0, 0.85)],
)
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_table_6_follows_from_the_published_baselines(preset: str, ratio: float, kept: float, bits: int) -> None:
    """All 18 cells, two an instance; the float column is the one independent figure of each row."""
    cells = published(preset)["flops"]
    macs = cells["float"] * 1e6 / 2
    assert flops_million(macs, bits, bits, ratio) == pytest.approx(cells[str(bits)], rel=0.005)
    assert flops_million(macs, bits, bits, ratio, kept) == pytest.approx(cells[f"{bits}p"], rel=0.005)


@pytest.mark.parametrize(
    ("architecture", "by_hand"),
    [
        (mlp((1, 28, 28)), 784 * 100 + 100 * 100),
        (
            alexnet((3, 32, 32)),  # maps of 29, 12 and 5 pixels
            29**2 * 64 * 48 + 12**2 * 128 * 576 + 5**2 * 256 * 512 + 1024 * 2048 + 2048 * 2048,
        ),
        (
            tinynet((3, 64, 64)),  # maps of 32, 16, 8 and 4 pixels
            (32**2 * 27 + (16**2 + 8**2 + 4**2) * 1440) * 160 + 2560 * 640 + 640 * 640,
        ),
        (
            resnet18((3, 32, 32), 64),  # stem and stages of 32, 32, 16, 8 and 4 pixels
            32**2 * 64 * 27
            + 32**2 * 64 * 576 * 4
            + 16**2 * 128 * (576 + 3 * 1152 + 64)
            + 8**2 * 256 * (1152 + 3 * 2304 + 128)
            + 4**2 * 512 * (2304 + 3 * 4608 + 256),
        ),
    ],
    ids=["mlp", "alexnet", "tinynet", "resnet18"],
)
def test_macs_are_those_of_a_table_made_by_hand(architecture: object, by_hand: int) -> None:
    assert body_macs(architecture) == by_hand  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", SCENARIOS)
def test_every_scenario_of_the_paper_is_an_example_with_published_figures(preset: str) -> None:
    read_settings(EXAMPLES / f"{preset}.toml")
    assert published(preset)["bwt"] == 0.0


def test_other_presets_have_no_published_figures() -> None:
    assert published("digits") == {"wsn": {}}


def test_a_table_tells_ours_published_and_the_difference() -> None:
    table = PaperTable(8, "Title", (("ACC, %", 97.5, 97.14), ("BWT", 0.0, None), ("FWT", None, 1.0)), ("Beware.",))
    assert table.csv() == ',ours,published,difference\n"ACC, %",97.50,97.14,+0.36\nBWT,0.00,–,–\nFWT,–,1.00,–\n'
    assert table.markdown() == (
        "## Table 8. Title\n\n|  | ours | published | difference |\n|---|---:|---:|---:|\n"
        "| ACC, % | 97.50 | 97.14 | +0.36 |\n| BWT | 0.00 | – | – |\n| FWT | – | 1.00 | – |\n\nBeware.\n"
    )


def test_tables_ask_for_the_runs_that_they_need() -> None:
    assert list(variants(TINY, {1}, 2)) == list(variants(TINY, {3, 4, 6, 8}, 2)) == ["main"]
    assert list(variants(TINY, {2}, 2)) == ["main", "unpruned"]
    assert list(variants(TINY, {5}, 2))[2:] == ["memory_stats", "memory_samples_act", "memory_samples_input"]
    formats = variants(TINY, {7}, 2)
    assert formats.pop("main") == TINY
    assert {
        name: (v.formats.act_bits, v.formats.centroid_bits, v.quantize.max_bits) for name, v in formats.items()
    } == {
        "format_4": (4, 8, 4),
        "format_8": (8, 8, 8),
        "format_16": (16, 16, 8),
    }


def test_methods_are_compared_at_several_sizes_each() -> None:
    settings = replace(TINY, train=replace(TINY.train, keep_ratio=0.4, keep_table={"fc1": 0.8}))
    found = variants(settings, {9}, 10)
    assert list(found)[:2] == ["stl", "finetune"]
    kept = {name: (v.train.method, v.train.keep_ratio, v.train.keep_table) for name, v in found.items()}
    for scale, first, second in zip(KEEP_SCALES, (0.1, 0.2, 0.4, 0.6), (0.2, 0.4, 0.8, 1.0), strict=True):
        assert kept[f"tsn_{scale}"] == ("tsn", pytest.approx(first), {"fc1": second})
        assert kept[f"wsn_{scale}"] == ("wsn", pytest.approx(first), {"fc1": second})
    for share in OWN_SHARES:
        for method in ("packnet", "ada_qpacknet"):
            assert kept[f"{method}_{share}"][:2] == (method, share / 10)
    assert {v.formats.act_bits for name, v in found.items() if name.startswith(("wsn", "packnet", "finetune"))} == {16}


def test_finished_runs_are_not_run_again_and_tables_come_from_the_results_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset, out = tmp_path / "quick.toml", tmp_path / "out"
    preset.write_text(QUICK)
    result = bench_paper(preset, out, {1, 8}, 2, "cpu")
    text, data = result.text(), result.data
    assert data == {"results": str(out / "results.jsonl"), "runs": 2}
    (first, second) = read_results(out / "results.jsonl")
    assert (first["variant"], first["seed"], second["seed"]) == ("main", 0, 1)
    assert first["bwt"] == 0.0
    assert set(first["acc_by_bits"]) == {"5", "4", "3", "2"}
    assert first["machine"]["versions"]["torch"]
    assert first["settings"]["train"]["epochs"] == 1
    assert (out / "accuracy_matrix_seed1.png").read_bytes()[:4] == b"\x89PNG"
    mean = (first["acc_percent"] + second["acc_percent"]) / 2
    assert (out / "table_8.csv").read_text().splitlines()[1] == f'"ACC, %",{mean:.2f},–,–'

    def forbidden(*_: object) -> None:
        pytest.fail("a finished run is run again")

    monkeypatch.setattr(paper, "run_variant", forbidden)
    assert bench_paper(preset, out, {1, 8}, 2, "cpu").text() == text == (out / "tables.md").read_text()


def test_a_killed_comparison_leaves_the_tables_of_what_it_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def run(name: str, *_: object) -> dict[str, float]:
        started.append(name)
        if len(started) == 3:
            raise KeyboardInterrupt
        return {"acc_percent": 50.0, "body_percent": 100.0, "bwt": 0.0}

    monkeypatch.setattr(paper, "run_variant", run)
    (tmp_path / "quick.toml").write_text(QUICK.replace("epochs = 1", "epochs = 2"))  # a ramp needs two
    with pytest.raises(KeyboardInterrupt):
        bench_paper(tmp_path / "quick.toml", tmp_path / "out", {9}, 1, "cpu")
    assert started == ["stl", "finetune", "tsn_0.25"]
    table = (tmp_path / "out" / "table_9.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1::2]] == ['"stl: ACC', '"finetune: ACC']


def test_a_changed_preset_is_run_anew_beside_the_run_of_the_old_one(tmp_path: Path) -> None:
    preset, out = tmp_path / "quick.toml", tmp_path / "out"
    for rate in ("2e-2", "1e-2"):
        preset.write_text(QUICK.replace("2e-2", rate))
        assert bench_paper(preset, out, {8}, 1, "cpu").data["runs"] == 1
    results = read_results(out / "results.jsonl")
    assert [result["settings"]["train"]["lr"] for result in results] == [0.02, 0.01]
    folders = {folder.name: RunFolder(folder).settings.train.lr for folder in (out / "runs").iterdir()}
    assert folders == {"main-seed0": 0.02, f"main-seed0-{results[1]['settings_digest'][:8]}": 0.01}


def test_methods_end_in_a_table_and_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "KEEP_SCALES", (1.0,))
    monkeypatch.setattr(paper, "OWN_SHARES", (0.5,))
    preset, out = tmp_path / "quick.toml", tmp_path / "out"
    preset.write_text(QUICK.replace("epochs = 1", "epochs = 2"))  # a ramp needs two
    result = bench_paper(preset, out, {9}, 1, "cpu")
    assert result.data["runs"] == 6
    found = {result["variant"]: result for result in read_results(out / "results.jsonl")}
    assert found["stl"]["body_percent"] == 200.0
    assert found["tsn_1.0"]["body_percent"] < found["wsn_1.0"]["body_percent"]
    assert found["wsn_1.0"]["bwt"] == found["packnet_0.5"]["bwt"] == found["ada_qpacknet_0.5"]["bwt"] == 0.0
    assert "| wsn_1.0: ACC, % |" in result.text()
    assert (out / "methods.png").read_bytes()[:4] == b"\x89PNG"


def test_a_size_of_a_method_is_one_point_of_the_picture_the_mean_of_its_seeds() -> None:
    seeds = [("wsn_0.5", 30.0, 97.0), ("main", 12.0, 97.6), ("wsn_0.5", 32.0, 97.5), ("wsn_1.0", 50.0, 97.6)]
    results = [{"variant": name, "body_percent": body, "acc_percent": acc} for name, body, acc in seeds]
    assert list(method_points(results)) == [("wsn", 31.0, 97.25), ("wsn", 50.0, 97.6)]


def test_runs_can_be_chosen_and_the_others_come_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def run(name: str, *_: object) -> dict[str, float]:
        started.append(name)
        return {"acc_percent": 50.0, "body_percent": 100.0, "bwt": 0.0}

    monkeypatch.setattr(paper, "run_variant", run)
    preset, out = tmp_path / "quick.toml", tmp_path / "out"
    preset.write_text(QUICK.replace("epochs = 1", "epochs = 2"))  # a ramp needs two
    assert (
        main(["bench", "paper", "--preset", str(preset), "-o", str(out), "--tables", "9", "--only", "wsn_1.0,stl"]) == 0
    )
    assert started == ["wsn_1.0", "stl"]
    assert bench_paper(preset, out, {9}, 1, "cpu").data["runs"] == len(started) == len(set(started)) > 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--only", "main,wsn_1.0"],
            "--only 'wsn_1.0': the tables need main, unpruned, memory_stats, memory_samples_act, "
            "memory_samples_input, format_4, format_8, format_16",
        ),
        (["--tables", "1-99"], f"--tables {max(TABLES) + 1}: must be within 1..{max(TABLES)}"),
        (["--tables", "3-1"], "--tables '3-1': must be numbers and ranges, such as 1-3,7"),
        (["--tables", ""], "--tables '': must be numbers and ranges, such as 1-3,7"),
        (
            ["--seeds", "0"],
            "--seeds: must be a whole number within 1..1000, found 0 ('tsn-hw bench --help' tells more)",
        ),
    ],
)
def test_bad_options_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "quick.toml").write_text(QUICK)
    out = tmp_path / "out"
    assert main(["bench", "paper", "--preset", str(tmp_path / "quick.toml"), "-o", str(out), *arguments]) == 2
    assert capsys.readouterr().err == f"tsn-hw: {message}\n"
    assert not out.exists()


@pytest.mark.parametrize("line", ["{", json.dumps({"variant": "main"}), "[]"])
def test_a_damaged_results_file_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(line + "\n")
    with pytest.raises(FileError, match="is no results file"):
        read_results(tmp_path / "results.jsonl")


@pytest.mark.parametrize("batch_norm", [False, True])
def test_without_rounding_a_network_computes_nearly_what_it_computes_with_16_bits(batch_norm: bool) -> None:
    model = model_of(residual(batch_norm), Formats(act_bits=16), classes=4)
    commit_randomly(model, 0, seed=3)
    net = freeze(model, labels_of(model))
    images = np.random.default_rng(0).integers(0, 256, (400, 2, 7, 6), np.uint8)
    layers = reference.run(net, 0, quantize(images / 256.0, net.input))
    exact = layers.pop("head_task0")
    inside = np.ones(400, np.bool_)  # what saturates at 16 bits does not saturate without
    for name, values in layers.items():
        low, high = net.format(0, [layer.name for layer in net.layers].index(name)).range
        inside &= (
            (values.reshape(400, -1) < high) & (values.reshape(400, -1) > low) | (values.reshape(400, -1) == 0)
        ).all(1)
    logits = logits_without_rounding(net, 0, images).numpy()
    assert logits.shape == (400, 4)
    assert inside.sum() > 10
    assert (logits[inside] != exact[inside]).any()
    assert np.abs(logits - exact)[inside].max() < 1e-3 * np.abs(exact).max()
    labels = logits.argmax(1)
    labels[:4] = (labels[:4] + 1) % 4
    assert accuracy_without_rounding(net, 0, images, labels) == 99.0


def test_the_plan_of_a_preset_describes_networks() -> None:
    settings = read_settings(EXAMPLES / "permuted_mnist.toml")
    for variant in variants(settings, set(TABLES), 10).values():
        assert architecture_of(variant, (1, 28, 28)).body_weights == 88_400
