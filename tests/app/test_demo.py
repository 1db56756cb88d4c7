"""The demo does the whole chain and leaves everything that it promises."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tests.helpers.tiny_run import TINY, networks_of
from tsn_hw.app.cli.main import main
from tsn_hw.app.deploy.verification import EngineResult, Verification
from tsn_hw.app.learning import demo
from tsn_hw.app.learning.demo import DEMO, DemoResult, report, run_demo
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import TsnError
from tsn_hw.learn import run
from tsn_hw.learn.settings import Settings

PROMISED = {
    "accuracy_percent",
    "dense_accuracy_percent",
    "acc_percent",
    "bwt",
    "mismatches",
    "capacity_body_percent",
    "capacity_total_percent",
    "seconds",
}
TINY_DEMO = replace(TINY, seed=3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult]:
    """A demo on tiny settings; for reading only."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "DEMO", TINY_DEMO)
        return folder, run_demo(folder)


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DEMO", TINY_DEMO)


def summary(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return values


def test_the_summary_holds_every_promised_figure(finished: tuple[Path, DemoResult]) -> None:
    folder, result = finished
    values = summary(folder)
    assert values == result.summary()
    assert values.keys() >= PROMISED
    metrics, sizes = RunFolder(folder).metrics(), capacity(artifact.load(folder / "net.tsn"))
    assert values["accuracy_percent"] == metrics.matrix[-1].tolist()
    assert values["acc_percent"] == metrics.acc == pytest.approx(np.mean(metrics.matrix[-1]))
    assert values["bwt"] == 0.0
    assert values["fwt"] == metrics.fwt is not None
    assert (values["mismatches"], values["verified"]) == (0, True)
    assert values["capacity_body_percent"] == sizes.body_percent
    assert values["capacity_total_percent"] == sizes.total_percent
    dense = values["dense_accuracy_percent"]
    assert isinstance(dense, list)
    assert len(dense) == 2
    assert all(0 <= accuracy <= 100 for accuracy in dense)
    assert isinstance(values["seconds"], float)
    assert math.isfinite(values["seconds"])
    assert values["seconds"] > 0


def test_the_folder_is_a_run_with_graphs_verification_and_picture(finished: tuple[Path, DemoResult]) -> None:
    folder, result = finished
    assert RunFolder(folder).settings == TINY_DEMO
    checked = json.loads((folder / "verify.json").read_text())
    assert checked["passed"] is True
    assert checked["mismatches"] == 0
    for engine in ("int64 loop", "brevitas", "simulator", "onnxruntime", "onnx reference"):
        tasks = checked["engines"][engine]["tasks"]
        assert len(tasks) == 2
        assert all(layer["mismatches"] == 0 for task in tasks.values() for layer in task["layers"].values())
    with Image.open(folder / "accuracy_matrix.png") as picture:
        picture.verify()
        assert picture.format == "PNG"
    for task in range(2):
        path = folder / "onnx" / f"task_{task:02d}.onnx"
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert result.files[path.name] == path.stat().st_size
    assert result.files["net.tsn"] == (folder / "net.tsn").stat().st_size


def test_the_sample_pictures_are_read_right_by_the_graph_of_the_first_task(
    finished: tuple[Path, DemoResult], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = finished
    pictures = sorted((folder / "samples").iterdir())
    assert len(pictures) > 2
    assert main(["run", str(folder / "onnx" / "task_00.onnx"), str(folder / "samples")]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{picture}: {picture.stem}" for picture in pictures]


def test_the_report_shows_what_was_measured(finished: tuple[Path, DemoResult]) -> None:
    folder, result = finished
    text = report(result, folder).text()
    lines = text.splitlines()
    for name, ours, dense in zip(result.names, result.metrics.matrix[-1], result.dense, strict=True):
        assert [name, f"{ours:.2f}", f"{dense:.2f}"] in [line.split() for line in lines]
    assert ["mean", f"{result.metrics.acc:.2f}", f"{np.mean(result.dense):.2f}"] in [line.split() for line in lines]
    assert "mismatching integers between engines: 0" in lines
    assert any(line.startswith("backward transfer 0.0 points, forward transfer ") for line in lines)
    assert str(folder) in lines[-2]
    assert lines[-1] == f"test pictures: tsn-hw run {folder}/onnx/task_00.onnx {folder}/samples/*.png"


@pytest.mark.usefixtures("_tiny")
def test_resuming_a_finished_demo_learns_nothing_again(
    finished: tuple[Path, DemoResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a finished task was learned again")

    folder, result = finished
    before = networks_of(folder)
    monkeypatch.setattr(run, "fit", fail)
    again = run_demo(folder, resume=True)
    assert networks_of(folder) == before
    assert again.summary() | {"seconds": 0} == result.summary() | {"seconds": 0}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("settings", "resume", "expected"),
    [
        (TINY_DEMO, False, "{folder} holds a run already: go on with --resume, or choose another folder"),
        (replace(TINY_DEMO, seed=4), False, "{folder} holds another run: choose another --out, or delete it"),
        (replace(TINY_DEMO, seed=4), True, "{folder} holds another run: choose another --out, or delete it"),
    ],
)
def test_a_demo_never_discards_an_earlier_run(
    settings: Settings,
    resume: bool,
    expected: str,
    finished: tuple[Path, DemoResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = finished[0]
    before = content(folder)
    monkeypatch.setattr(demo, "DEMO", settings)
    with pytest.raises(TsnError) as error:
        run_demo(folder, resume)
    assert str(error.value) == expected.format(folder=folder)
    assert content(folder) == before


@pytest.mark.usefixtures("_tiny")
def test_a_demo_that_stops_early_leaves_no_summary_of_an_earlier_one(
    finished: tuple[Path, DemoResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "demo"))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        run_demo(folder, resume=True)
    assert content(finished[0]).keys() - content(folder).keys() == {
        "summary.json",
        "verify.json",
        "accuracy_matrix.png",
    }


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize(("mismatches", "code"), [(0, 0), (3, 1)])
def test_the_command_prints_the_report_or_the_summary_and_fails_with_a_difference(
    mismatches: int,
    code: int,
    finished: tuple[Path, DemoResult],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, result = finished
    engine = EngineResult(mismatches=mismatches)
    changed = replace(result, verification=Verification.of("", {"e": engine}, [], [], {}))
    asked: list[tuple[object, ...]] = []
    pretend: Callable[..., DemoResult] = lambda *args, device: asked.append((*args, device)) or changed  # noqa: E731
    monkeypatch.setattr(demo, "run_demo", pretend)
    assert main(["demo", "--out", str(folder), "--quiet", "--resume"]) == code
    assert capsys.readouterr().out == report(changed, folder).text() + "\n"
    assert main(["demo", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == changed.summary()
    assert asked == [(folder, True, "cpu"), (Path("build/demo"), False, "cpu")]


def test_the_real_demo_is_five_permuted_tasks_with_four_bit_codebooks_and_eight_bit_activations() -> None:
    assert (DEMO.stream.kind, DEMO.stream.tasks, DEMO.stream.natural_first) == ("permuted", 5, True)
    assert (DEMO.quantize.min_bits, DEMO.quantize.max_bits, DEMO.formats.act_bits) == (4, 4, 8)
    assert [data.source for data in DEMO.data] == ["digits"]
    assert DEMO.train.threads == 1  # the same bytes on any number of cores
