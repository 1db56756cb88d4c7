"""Verification finds what is wrong and says where: engines, words, snapshots, seals, and engines that are not there."""

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx.reference
import onnxruntime
import pytest

from export.c_code.machines import cortex_m
from sim.integer import Simulator
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET, U8, put
from tests.helpers.tiny_run import TINY, copied_run, finished_run
from tsn_hw.app.cli.main import main
from tsn_hw.app.deploy import verify as module
from tsn_hw.app.deploy.verification import EngineResult, LayerResult, TaskResult, Verification
from tsn_hw.app.deploy.verify import adversarial_integers, compare, verify
from tsn_hw.core import artifact, reference
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import EngineError
from tsn_hw.learn.checkpoint import read_checkpoint, save_checkpoint
from tsn_hw.learn.config import stream_of
from tsn_hw.learn.folder import settings_digest
from tsn_hw.learn.run import load_run

ENGINES = ["int64 loop", "brevitas", "simulator", "onnxruntime", "onnx reference", "hls", "c", "c-arm"]
NAMES = ["digits-permuted-0", "digits-permuted-1"]


@dataclass
class Outcome:
    """What a user sees of `tsn-hw verify`: exit code, printed text, and the JSON that was written."""

    code: int
    text: str
    data: dict[str, Any]


@pytest.fixture
def verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `tsn-hw verify` on few inputs."""

    def run(network: Path, *options: str) -> Outcome:
        out = tmp_path / "verify.json"
        capsys.readouterr()  # what the training of the network told
        code = main(["verify", str(network), "--samples=8", "--images=8", "--quiet", f"--out={out}", *options])
        text, errors = capsys.readouterr()
        assert errors == ""
        return Outcome(code, text, json.loads(out.read_text()))

    return run


def counted(data: dict[str, Any]) -> int:
    """All mismatches, added up layer by layer, and checked against the sums that the file gives."""
    total = 0
    for engine in data["engines"].values():
        if "absent" not in engine:
            layers = [layer for task in engine["tasks"].values() for layer in task["layers"].values()]
            assert engine["mismatches"] == sum(layer["mismatches"] for layer in layers)
            total += engine["mismatches"]
    assert data["mismatches"] == total
    return total


def test_a_sound_run_passes_in_every_engine(verified: Callable[..., Outcome]) -> None:
    found = verified(finished_run() / "net.tsn")
    assert found.code == 0
    assert found.data["passed"] is True
    assert counted(found.data) == 0
    assert list(found.data["engines"]) == ENGINES
    assert found.data["first_difference"] is None
    assert found.data["inputs"] == {"adversarial": 8, "real": 8}
    assert "all engines agree, all seals hold" in found.text
    engines = dict(found.data["engines"])
    missing = [tool for tool in cortex_m("mps2-an386").tools if shutil.which(tool) is None]
    if missing:
        assert engines.pop("c-arm") == {"absent": f"{missing[0]} is not installed"}
    for engine in engines.values():
        assert list(engine["tasks"]) == NAMES
    digests = [{engine["tasks"][name]["digest"] for engine in engines.values()} for name in NAMES]  # all 16 inputs
    assert [len(d) for d in digests] == [1, 1]
    assert digests[0] != digests[1]
    layers = found.data["engines"]["brevitas"]["tasks"][NAMES[1]]["layers"]
    assert list(layers) == ["flatten", "fc1", "head_digits-permuted-1"]
    assert layers["fc1"] == {"outputs": 16 * 12, "mismatches": 0, "first": None}


def test_metrics_stand_beside_the_verification_of_a_run(verified: Callable[..., Outcome]) -> None:
    found = verified(finished_run() / "net.tsn")
    assert found.data["metrics"]["bwt"] == 0.0
    assert f"ACC {found.data['metrics']['acc_percent']:.2f} %, BWT 0.0" in found.text


def test_a_network_alone_is_verified_without_a_run(verified: Callable[..., Outcome], tmp_path: Path) -> None:
    shutil.copy(finished_run() / "net.tsn", tmp_path / "net.tsn")
    found = verified(tmp_path / "net.tsn")
    assert found.code == 0
    assert found.data["inputs"] == {"adversarial": 8, "real": 0}
    assert found.data["engines"]["brevitas"] == {"absent": "no checkpoint beside the network"}
    assert "metrics" not in found.data
    assert "no checkpoint beside the network" in found.text


def test_a_run_may_lie_elsewhere(verified: Callable[..., Outcome], tmp_path: Path) -> None:
    shutil.copy(finished_run() / "net.tsn", tmp_path / "net.tsn")
    found = verified(tmp_path / "net.tsn", "--run", str(finished_run()))
    assert found.data["inputs"]["real"] == 8
    assert "absent" not in found.data["engines"]["brevitas"]


def test_a_run_without_its_checkpoint_lists_brevitas_as_absent(
    verified: Callable[..., Outcome], tmp_path: Path
) -> None:
    run = copied_run(tmp_path / "run")
    (run / "checkpoint.safetensors").unlink()
    found = verified(run / "net.tsn")
    assert found.code == 0
    assert found.data["engines"]["brevitas"] == {"absent": f"no checkpoint.safetensors in {run}"}
    assert found.data["inputs"]["real"] == 8


def test_engines_that_are_not_installed_are_listed_with_the_reason(
    verified: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else find_spec(name, *rest)
    )
    found = verified(finished_run() / "net.tsn")
    assert found.code == 0
    for engine in ("onnxruntime", "onnx reference"):
        assert found.data["engines"][engine] == {"absent": "not installed: onnxruntime"}
    assert found.text.count("not installed: onnxruntime") == 2
    assert "tasks" in found.data["engines"]["simulator"]


def test_the_compiled_accelerator_is_absent_without_a_compiler_and_where_tasks_share_no_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert verify(NET, samples=4).engines["hls"].absent == "g++ is not installed"
    narrow = replace(NET.step(1, 0).requantization, output=replace(U8, bits=7))  # type: ignore[type-var]
    other = put(NET, ("tasks", 1, "steps", 0, "requantization"), narrow)
    assert verify(other, samples=4).engines["hls"].absent == (
        "no accelerator: layer 'conv': its output has 7 bits unsigned, 8 bits unsigned by task; "
        "a stream has one width and sign"
    )


def test_the_compiled_accelerator_is_absent_where_the_temporary_folder_runs_no_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    access = os.access

    def runs_nothing(path: Any, mode: int, **others: Any) -> bool:
        """As on a noexec mount."""
        return Path(path).name != "testbench" and access(path, mode, **others)

    monkeypatch.setattr(os, "access", runs_nothing)

    assert verify(NET, samples=4).engines["hls"].absent == (
        f"{tempfile.gettempdir()}: no program runs there (mounted noexec?); set TMPDIR to another folder"
    )


def test_layers_may_be_called_as_tensors_of_the_graphs() -> None:
    names = ("x", "flat", "logits")
    layers = tuple(replace(layer, name=name) for layer, name in zip(NET.layers, names, strict=False))
    found = verify(replace(NET, layers=(*layers, *NET.layers[len(names) :])), samples=4)
    assert found.passed
    assert list(found.engines["onnxruntime"].tasks["a"].layers)[: len(names)] == list(names)


def one_more(values: Any, place: tuple[int, ...]) -> Any:
    changed = np.array(values)
    changed[place] += 1
    return changed


def assert_found(found: Outcome, engine: str, task: str, layer: str, place: str, times: int = 1) -> None:
    assert found.code == 1
    assert found.data["passed"] is False
    assert counted(found.data) == times
    assert found.data["engines"][engine]["mismatches"] == times
    result = found.data["engines"][engine]["tasks"][task]["layers"][layer]
    assert result["mismatches"] == times
    assert result["first"].endswith(f" at {place}")
    said = f"{engine}, task '{task}', layer '{layer}': {result['first']}"
    assert found.data["first_difference"] == said
    assert f"FIRST DIFFERENCE: {said}" in found.text
    assert "VERIFICATION FAILED" in found.text


def test_a_simulator_that_is_off_by_one_in_one_integer_is_found(
    verified: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(Simulator):
        def taps(self, x: Any) -> dict[str, Any]:
            values = super().taps(x)
            return values | ({"fc1": one_more(values["fc1"], (5, 7))} if self.task == 1 else {})

    monkeypatch.setattr(module, "Simulator", Wrong)
    assert_found(verified(finished_run() / "net.tsn"), "simulator", NAMES[1], "fc1", "(5, 7)")


@pytest.mark.parametrize(
    ("output", "layer", "place"), [("logits", "head_digits-permuted-0", (3, 9)), ("fc1:tap", "fc1", (15, 0))]
)
def test_an_onnxruntime_that_is_off_by_one_in_one_integer_is_found(
    output: str,
    layer: str,
    place: tuple[int, int],
    verified: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, made = onnxruntime.InferenceSession, []

    class Wrong(session):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

        def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
            values = super().run(names, inputs)
            if len(made) <= 2 and output in names:  # the two graphs of the first task
                values[names.index(output)] = one_more(values[names.index(output)], place)
            return list(values)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Wrong)
    assert_found(verified(finished_run() / "net.tsn"), "onnxruntime", NAMES[0], layer, str(place))


def test_a_reference_evaluator_that_is_off_by_one_is_found(
    verified: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = onnx.reference.ReferenceEvaluator

    class Wrong:  # no subclass: it would also run the functions of the graph
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.right = evaluator(*args, **kwargs)
            self.output_names = self.right.output_names

        def run(self, *args: Any, **kwargs: Any) -> list[Any]:
            return [one_more(values, (0, 0)) for values in self.right.run(*args, **kwargs)]

    monkeypatch.setattr(onnx.reference, "ReferenceEvaluator", Wrong)
    found = verified(finished_run() / "net.tsn")
    assert found.code == 1
    assert counted(found.data) == 6  # two tasks of three layers
    assert found.data["first_difference"].startswith("onnx reference, task 'digits-permuted-0', layer 'flatten': ")


def test_one_changed_code_in_the_trained_model_is_found(verified: Callable[..., Outcome], tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    model = load_run(TINY, stream_of(TINY), run)
    subnet = model.body_layers(0)[1].subnet
    row, column = next(
        (int(r), int(c)) for r, c in np.argwhere(subnet.owner.numpy() == 0) if 20 < c < 44
    )  # pixels that are bright somewhere
    book = subnet.codebooks[0, : int(subnet.entries[0])]
    subnet.code[row, column] = int((book - book[int(subnet.code[row, column])]).abs().argmax())
    restored = read_checkpoint(run, [settings_digest(TINY)])
    assert restored is not None
    save_checkpoint(run, replace(restored[0], committed=()), model, None)
    found = verified(run / "net.tsn")
    assert found.code == 1
    assert counted(found.data) == found.data["engines"]["brevitas"]["mismatches"] > 0
    assert found.data["first_difference"].startswith("brevitas, task 'digits-permuted-0', layer 'fc1': ")
    first = found.data["engines"]["brevitas"]["tasks"][NAMES[0]]["layers"]["fc1"]["first"]
    assert first.endswith(f", {row})")  # of the one unit that reads the changed weight


def test_a_snapshot_that_is_another_network_is_found(verified: Callable[..., Outcome], tmp_path: Path) -> None:
    run = copied_run(tmp_path / "run")
    path = run / "tasks" / "after_00.tsn"
    net = artifact.load(path)
    artifact.save(put(net, ("tasks", 0, "classes"), tuple("abcdefghij")), path)
    found = verified(run / "net.tsn")
    assert found.code == 1
    assert counted(found.data) == 0
    changed = "the first 1 tasks are not the network that was written after task 0"
    assert found.data["changed_snapshots"] == [changed]
    assert f"CHANGED: {changed}" in found.text
    assert "VERIFICATION FAILED" in found.text


def test_a_damaged_snapshot_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied_run(tmp_path / "run")
    path = run / "tasks" / "after_00.tsn"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["verify", str(run / "net.tsn"), "--samples=4", "--images=4", "--quiet"]) == 2
    text, errors = capsys.readouterr()
    assert text == ""
    assert errors.startswith(f"tsn-hw: {path}: ")
    assert errors.count("\n") == 1


def test_a_seal_that_later_tasks_broke_is_found() -> None:
    """Beside the files that were written after each task, of which one says something else of the second task."""
    net = random_network(Recipe(tasks=3))
    snapshots = {count: artifact.to_bytes(net.first_tasks(count)) for count in (1, 2, 3)}
    assert verify(net, samples=4, snapshots=snapshots).passed
    then = put(net.first_tasks(2), ("tasks", 1, "classes"), tuple(f"other{c}" for c in net.tasks[1].classes))
    found = verify(net, samples=4, snapshots=snapshots | {2: artifact.to_bytes(then)})
    assert found.broken_seals == ("task1",)
    assert found.changed_snapshots == ("the first 2 tasks are not the network that was written after task 1",)
    assert (found.passed, found.mismatches) == (False, 0)


def test_an_engine_without_the_head_is_refused() -> None:
    net = random_network(Recipe(tasks=1))
    with pytest.raises(EngineError, match="task 'task0': an engine gave no integers for the head 'head0'"):
        verify(net, brevitas=lambda task, x: {"fc0": x}, samples=4)


@pytest.mark.parametrize("kind", ["mlp", "conv", "residual"])
@pytest.mark.parametrize("act_bits", [4, 8, 16])
def test_random_networks_pass(kind: str, act_bits: int) -> None:
    """Those of 16 bits with requantizations at the ends of what the core allows."""
    found = verify(
        random_network(Recipe(kind=kind, act_bits=act_bits, tasks=3, banks=2, extremes=act_bits == 16)), samples=12
    )
    assert found.passed
    assert found.engines["brevitas"].absent == "no checkpoint beside the network"


def test_real_images_reach_every_engine_that_takes_them() -> None:
    net = random_network(Recipe(tasks=1))
    images = np.zeros((3, *net.input_shape), np.uint8)
    images[2] = 255
    seen: list[Ints] = []

    def engine(task: int, x: Ints) -> dict[str, Ints]:
        seen.append(x)
        return reference.run(net, task, x)

    found = verify(net, lambda task: images, engine, samples=5)
    assert found.inputs == {"adversarial": 5, "real": 3}
    assert seen[0].shape == (8, *net.input_shape)
    assert seen[0][5:7].max() == 0
    assert found.passed


def test_compare_counts_exactly_and_names_the_first_place() -> None:
    wanted = np.array([[1, 2], [3, 4], [5, 6]])
    assert compare(wanted, wanted) == LayerResult(6, 0, None)
    assert compare(wanted, np.array([[1, 2], [3, 5], [0, 6]])) == LayerResult(6, 2, "5 instead of 4 at (1, 1)")
    assert compare(wanted, wanted[:2]) == LayerResult(6, 6, "shape (2, 2) instead of (3, 2)")
    assert compare(wanted[:0], wanted) == LayerResult(0, 1, "shape (3, 2) instead of (0, 2)")


def test_compare_sees_what_floats_and_narrow_integers_would_hide() -> None:
    wide = np.array([2**53 + 1, 2**31])
    assert compare(wide, wide - np.array([1, 0])).mismatches == 1
    assert compare(np.array([-1]), np.array([255], np.uint8)).mismatches == 1


def test_adversarial_integers_hold_the_extremes_and_stay_in_range() -> None:
    net = random_network(Recipe(kind="conv", signed_input=True))
    low, high = net.input.range
    x = adversarial_integers(net, 20, seed=1).reshape(20, -1)
    assert (x[0] == low).all()
    assert (x[1] == high).all()
    assert (x[2, ::2] == high).all()
    assert (x[2, 1::2] == low).all()
    assert (x[2] + x[3] == low + high).all()
    for row in range(4, 12):  # one place after the other at its highest, all else zero
        assert np.flatnonzero(x[row]).tolist() == [row - 4]
        assert x[row, row - 4] == high
    assert len(np.unique(x[12:])) > 50
    assert low <= x.min() <= x.max() <= high
    np.testing.assert_array_equal(x, adversarial_integers(net, 20, seed=1).reshape(20, -1))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_adversarial_integers_are_still_the_extremes(count: int) -> None:
    net = random_network(Recipe())
    x = adversarial_integers(net, count, seed=0)
    assert x.shape == (count, *net.input_shape)
    assert (x[0] == net.input.range[0]).all()


def test_the_first_difference_is_the_first_and_none_if_there_is_none() -> None:
    assert Verification.of("", {"e": EngineResult()}, [], [], {}).first_difference is None
    layers = {"a": LayerResult(3), "b": LayerResult(3, 2, "1 instead of 2 at (0,)")}
    result = Verification.of("", {"e": EngineResult(mismatches=2, tasks={"t": TaskResult("", layers)})}, [], [], {})
    assert result.first_difference == "e, task 't', layer 'b': 1 instead of 2 at (0,)"
    assert (result.mismatches, result.passed) == (2, False)
