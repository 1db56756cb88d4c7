"""The command line as a user meets it: help, figures, JSON, and a process of its own."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tsn_hw
from sim.integer import Simulator
from tests.helpers.networks import Recipe, random_network
from tests.helpers.tiny_run import TINY, finished_run, networks_of
from tsn_hw.app.cli.main import main
from tsn_hw.app.learning.metrics import accuracy
from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity

COMMANDS = [
    *("demo", "init", "train", "show", "onnx", "run", "c", "check", "hls", "cost", "memories", "rtl", "synth"),
    *("gate", "simulate", "sweep", "report", "page", "verify", "bench", "board", "calibrate", "completion"),
]
Say = Callable[..., tuple[int, str, str]]


def user(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "tsn_hw.app.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


# ------------------------------------------------------------------------------------------------------------- help


def test_help_names_every_command_and_where_to_start(say: Say) -> None:
    code, text, error = say("--help")
    assert (code, error) == (0, "")
    for command in COMMANDS:
        assert f"\n  {command} " in text
    assert "tsn-hw demo" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_every_option(command: str, say: Say, monkeypatch: Any) -> None:
    for columns in ("80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        code, text, _ = say(command, "--help")
        assert code == 0
        assert text.startswith(f"Usage: tsn-hw {command} ")
        lines = text.splitlines()
        assert max(map(len, lines)) <= int(columns)
        assert not set(text) & set("\x1b│╭─╮")  # neither colours nor frames
        for option in ("  --json ", "  --quiet "):
            assert f"\n{option}" in text
        for line in lines:  # of an option or an argument: names, and what it is
            if line.startswith("  ") and not line.startswith("   "):
                assert len(line.strip().split("  ", 1)) == 2, line


def test_the_version_is_the_package_s(say: Say) -> None:
    assert say("--version") == (0, f"tsn-hw {tsn_hw.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "nonsense",
        "show",
        "train x.toml",
        "simulate n",
        "simulate n --task 0 --run r --input i",
        "demo x",
        "verify n --samples many",
        "show n --bogus",
    ],
)
def test_what_is_no_command_is_one_line_that_names_the_help(arguments: str, refused: Callable[..., str]) -> None:
    assert refused(*arguments.split()).endswith(" --help' tells more)")


# ----------------------------------------------------------------------------------------------------------- figures


def test_show_tells_the_figures_of_the_file(say: Say, net: Path) -> None:
    loaded = artifact.load(net)
    sizes = capacity(loaded)
    code, text, _ = say("show", net)
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == f"{net}: tasks 2, banks 1, input (1, 8, 8), 8 bits"
    fc1, layer = next(line.split() for line in lines if line.startswith("fc1 ")), sizes.layers[0]
    assert fc1[:7] == ["fc1", "0", "64", "→", "12", "768", f"{100 * layer.used / 768:.2f}"]
    bits = [layer.codes_bits, layer.codebooks_bits, layer.masks_bits, f"{layer.bits / 768:.2f}"]
    assert fc1[-4:] == [str(value) for value in bits]
    for number, task in enumerate(sizes.tasks):
        row = next(line.split() for line in lines if line.startswith(task.task))
        counts = [str(count) for count in (0, 10, task.used, task.owned, task.used - task.owned)]
        assert row[1:7] == [*counts, f"{task.sparsity_percent:.2f}"]
        assert row[-1] == artifact.seal(loaded, number)[:12]
    assert f"whole file {net.stat().st_size} bytes" in text


def test_show_as_json_is_the_capacity_and_the_seals(say: Say, net: Path) -> None:
    loaded = artifact.load(net)
    sizes = capacity(loaded)
    code, text, error = say("show", net, "--json")
    assert (code, error) == (0, "")
    data = json.loads(text)
    assert data["seals"] == {task.name: artifact.seal(loaded, t) for t, task in enumerate(loaded.tasks)}
    assert data["file_bits"] == 8 * net.stat().st_size == sizes.file_bits
    for name in ("body_percent", "total_percent", "codes_bits", "codebooks_bits", "masks_bits", "heads_bits"):
        assert data[name] == getattr(sizes, name)
    assert [layer["layer"] for layer in data["layers"]] == [layer.layer for layer in sizes.layers]
    assert data["tasks"][1]["owned"] == sizes.tasks[1].owned


@pytest.mark.parametrize("flavour", ["quant", "multithreshold"])
def test_onnx_writes_files_for_other_tool_chains(flavour: str, say: Say, net: Path, tmp_path: Path) -> None:
    code, text, error = say("onnx", net, "-o", tmp_path, "--flavour", flavour, "--json")
    assert (code, error) == (0, "")
    files = [tmp_path / "qonnx" / f"task_{task:02d}.{flavour}.onnx" for task in range(2)]
    assert json.loads(text) == {str(file): file.stat().st_size for file in files}


@pytest.mark.parametrize("option", ["shared", "folded"])
def test_files_for_other_tool_chains_have_one_layout(
    option: str, refused: Callable[..., str], net: Path, tmp_path: Path
) -> None:
    line = refused("onnx", net, "-o", tmp_path, "--flavour", "quant", f"--{option}")
    assert line == f"--flavour quant: --{option} is for stock graphs only"
    assert list(tmp_path.iterdir()) == []


def test_only_stock_graphs_are_checked(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused("onnx", "--check", tmp_path, "--flavour", "multithreshold")
    assert line == "--flavour multithreshold: --check is for stock graphs only"


def test_onnx_writes_one_graph_a_task_and_names_them(say: Say, net: Path, tmp_path: Path) -> None:
    code, text, error = say("onnx", net, "-o", tmp_path / "graphs", "--json")
    assert (code, error) == (0, "")
    written = {str(path): path.stat().st_size for path in (tmp_path / "graphs").iterdir()}
    assert json.loads(text) == written
    assert {str(tmp_path / "graphs" / f"task_{task:02d}.onnx") for task in range(2)} <= written.keys()


def test_check_says_whether_a_network_is_supported_and_exits_accordingly(say: Say, net: Path, tmp_path: Path) -> None:
    code, text, error = say("check", net)
    assert (code, error) == (0, "")
    assert text.splitlines()[-1] == "supported"
    (tmp_path / "run.toml").write_text("[model]\nkind = 'resnet'\n")
    code, text, error = say("check", tmp_path / "run.toml", "--json")
    assert (code, error) == (1, "")
    assert json.loads(text) == {
        "supported": False,
        "title": f"{tmp_path / 'run.toml'}: settings of a run",
        "rows": [],
        "problems": {
            "settings": [
                "model: kind = 'resnet': must be one of 'mlp', 'alexnet', 'tinynet', 'resnet18', 'layers', 'onnx'"
            ]
        },
        "notes": ["what depends on these parts could not be checked"],
    }


def test_simulate_measures_the_accuracy_of_the_test_images(say: Say, net: Path) -> None:
    run = RunFolder(finished_run())
    data = run.stream.task(1)
    percent = accuracy(Simulator(run.network, 1), data.x_test, data.y_test)
    code, text, _ = say("simulate", net, "--task", 1)
    assert (code, text) == (0, f"task 1 (digits-permuted-1): {percent:.2f} % of 120 test images\n")
    code, text, _ = say("simulate", net, "--task", 1, "--json")
    values = json.loads(text)
    assert json.loads(say("simulate", net, "--task", "digits-permuted-1", "--json")[1]) == values
    assert (values["task"], values["name"], values["accuracy_percent"]) == (1, "digits-permuted-1", percent)
    assert [layer["layer"] for layer in values["plan"]] == ["fc1", "head_digits-permuted-1"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64, ">i4"])
def test_simulate_answers_the_classes_of_an_input_file(dtype: Any, say: Say, net: Path, tmp_path: Path) -> None:
    run = RunFolder(finished_run())
    images = run.images(0, 7)
    np.save(tmp_path / "x.npy", images.astype(dtype))
    expected = [str(c) for c in Simulator(run.network, 0).predict(images)]
    assert say("simulate", net, "--task", 0, "--input", tmp_path / "x.npy")[:2] == (0, "\n".join(expected) + "\n")
    _, text, _ = say("simulate", net, "--task", 0, "--input", tmp_path / "x.npy", "--json")
    assert json.loads(text)["classes"] == expected


def test_one_image_may_come_without_a_batch(say: Say, net: Path, tmp_path: Path) -> None:
    image = RunFolder(finished_run()).images(0, 1)
    np.save(tmp_path / "batch.npy", image)
    np.save(tmp_path / "one.npy", image[0])
    answers = [say("simulate", net, "--task", 0, "--input", tmp_path / name)[1] for name in ("batch.npy", "one.npy")]
    assert answers[0] == answers[1] != "\n"


def test_train_learns_what_the_file_says_and_tells_the_metrics(say: Say, toml: Path, tmp_path: Path) -> None:
    code, text, _ = say("train", toml, "-o", tmp_path / "run", "--quiet", "--json")
    assert code == 0
    assert networks_of(tmp_path / "run") == networks_of(finished_run())
    run = RunFolder(tmp_path / "run")
    assert run.settings == TINY
    assert json.loads(text) == {"network": str(tmp_path / "run" / "net.tsn")} | run.metrics().to_json()
    code, text, _ = say("train", toml, "-o", tmp_path / "run", "--quiet", "--resume")
    assert code == 0
    metrics = run.metrics()
    assert text.splitlines()[1].split() == ["digits-permuted-0", f"{metrics.matrix[1, 0]:.2f}"]
    assert text.splitlines()[-2].startswith(f"ACC {metrics.acc:.2f} %, BWT 0.0")
    net = tmp_path / "run" / "net.tsn"
    assert text.splitlines()[-1] == f"{net}: tsn-hw verify {net} compares all engines on it"


@pytest.mark.parametrize(
    "arguments",
    [["show"], ["onnx", "-o", "{tmp}/graphs"], ["simulate", "--task", "0"], ["verify", "--samples=4", "--images=4"]],
    ids=lambda arguments: arguments[0],
)
def test_json_is_all_that_is_printed(arguments: list[str], say: Say, net: Path, tmp_path: Path) -> None:
    command, *options = [argument.format(tmp=tmp_path) for argument in arguments]
    code, text, _ = say(command, net, *options, "--json")
    assert code == 0

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    assert isinstance(json.loads(text, parse_constant=refuse), dict)


# ---------------------------------------------------------------------------------------------- in its own process


def test_a_process_prints_json_and_nothing_else(net: Path) -> None:
    found = user("verify", str(net), "--samples=4", "--images=4", "--json", "--quiet")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["passed"] is True
    assert found.stderr == ""


def test_a_process_that_is_refused_says_one_line(net: Path) -> None:
    found = user("simulate", str(net), "--task", "7")
    assert (found.returncode, found.stdout, found.stderr) == (
        2,
        "",
        "tsn-hw: task 7: must be 0..1 or a name, such as 'digits-permuted-0'\n",
    )


def test_a_reader_that_has_seen_enough_is_no_error(net: Path) -> None:
    shell = f"{sys.executable} -m tsn_hw.app.cli.main show {net} --json | true; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=True)
    assert (found.stdout, found.stderr) == ("0\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", ["cost --devices", "cost --devices --json", "show nowhere"])
def test_output_that_cannot_be_written_is_one_line_and_no_difference_of_engines(arguments: str) -> None:
    command = [sys.executable, "-m", "tsn_hw.app.cli.main", *arguments.split()]
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        silent = subprocess.run(command, stdout=full, stderr=full, timeout=60, check=False)
    told = "cannot write standard output: No space left on device"
    told = "cannot read nowhere: No such file or directory" if "nowhere" in arguments else told
    assert (found.returncode, found.stderr, silent.returncode) == (2, f"tsn-hw: {told}\n", 2)


@pytest.mark.parametrize("coding", ["ascii", "cp1252", "gbk"])
def test_names_that_the_console_cannot_show_are_escaped(
    coding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = random_network(Recipe(kind="mlp", tasks=1, seed=14))
    names = tuple(f"猫 é собака {number}" for number in range(len(net.tasks[0].classes)))
    net = replace(net, tasks=(replace(net.tasks[0], classes=names),))
    artifact.save(net, tmp_path / "net.tsn")
    x = np.full((1, *net.input_shape), net.input.range[1], np.int64)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), coding))
    assert main(["simulate", str(tmp_path / "net.tsn"), "--task", "0", "--input", str(tmp_path / "x.npy")]) == 0
    (number,) = Simulator(net, 0).predict(x)
    assert sys.stdout.buffer.getvalue().rstrip() == names[number].encode(coding, "backslashreplace")  # type: ignore[attr-defined]


def test_the_module_and_the_script_are_one_program(net: Path) -> None:
    script = Path(sys.executable).with_name("tsn-hw")
    if not script.is_file():
        pytest.skip("tsn-hw is not installed beside this interpreter")
    for arguments in ("--help", "simulate net.tsn --task x", "show"):
        found = subprocess.run([script, *arguments.split()], capture_output=True, text=True, timeout=60, check=False)
        as_module = user(*arguments.split())
        assert (found.returncode, found.stdout, found.stderr) == (
            as_module.returncode,
            as_module.stdout,
            as_module.stderr,
        )


def test_help_and_bad_networks_do_not_wait_for_torch() -> None:
    script = (
        "import sys; from tsn_hw.app.cli.main import main\n"
        "assert main(['show', '/nowhere']) == 2\n"
        "assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (0, "tsn-hw: cannot read /nowhere: No such file or directory\n")
