"""README and docs, taken at their word: every block of Python runs as it stands, every command is one, cheap ones run.

Each document has a folder of its own with what its examples name: a network of five tasks, where ``make demo`` leaves
one, and pictures. Nothing is run twice elsewhere: the C++ is compiled by test_onnx_cpp.py.
"""

import doctest
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export import write_onnx, write_qonnx
from sim import device, search_folding
from tests.helpers.drivers import board_of
from tests.helpers.tiny_run import copied_run
from tsn_hw.app.check.draft import draft
from tsn_hw.app.cli.main import COMMANDS, main, parse
from tsn_hw.core import artifact
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.network import PackedNetwork, Requantization
from tsn_hw.learn.bodies import mlp
from tsn_hw.learn.settings import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
CHEAP = {"show", "check", "onnx", "run", "c", "hls", "memories", "rtl", "cost", "gate", "simulate", "report", "verify"}
DEAR = ("--rtl", "--sweep", "build/digits/tasks/after_04.tsn")
"""Options and files that ask for what takes minutes to make."""
HEAD = Requantization(np.ones(10, np.int64), np.zeros(10, np.int64), 0, None)
"""Logits as they are accumulated: those that every QONNX flavour holds."""
PIXELS = np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8)


def blocks(document: str, language: str) -> list[str]:
    """The blocks of a language, in order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
    return [block for named, block in fenced if named == language]


def having(language: str) -> list[str]:
    found = [document for document in DOCUMENTS if blocks(document, language)]
    assert found
    return found


def network() -> PackedNetwork:
    """As the demo learns one: layers and tasks have the names that the examples use."""
    net = draft(mlp((1, 8, 8), (12, 12)), Settings(), [tuple("0123456789")] * 5)
    tasks = []
    for number, task in enumerate(net.tasks):
        steps, head = list(task.steps), net.head(number)
        steps[head] = replace(net.step(number, head), requantization=HEAD)
        tasks.append(replace(task, name=f"digits-permuted-{number}", steps=tuple(steps)))
    return replace(net, tasks=tuple(tasks))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what examples name; the working directory."""
    monkeypatch.chdir(tmp_path)
    net = network()
    for name in ("net.tsn", "new.tsn", "build/demo/net.tsn"):
        artifact.save(net, name)
    artifact.save(net.first_tasks(4), "old.tsn")
    shutil.copytree(ROOT / "examples", "examples")
    Image.fromarray(PIXELS[0, 0]).save("image.png")
    return tmp_path


# ------------------------------------------------------------------------------------------------------------ Python


@pytest.mark.parametrize("document", having("python"))
def test_python_runs_as_it_stands(document: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    for folder in ("build/demo/onnx", "."):
        write_onnx(net, folder)
    write_qonnx(net, ".", "quant")
    monkeypatch.setitem(sys.modules, "driver", driver_of(net, site))
    names: dict[str, Any] = {"images": PIXELS, "integers": PIXELS.astype(np.int64)}
    shown: dict[str, Any] = {}  # names of the examples with >>>
    for block in blocks(document, "python"):
        if block.startswith(">>>"):
            case = doctest.DocTestParser().get_doctest(block, shown, document, document, 0)
            assert doctest.DocTestRunner().run(case, clear_globs=False).failed == 0
            shown |= case.globs
        elif "qonnx" not in block:
            exec(compile(block, document, "exec"), names)


def test_the_whole_chain_with_ones_own_data_takes_at_most_25_lines_of_python() -> None:
    (block,) = (block for block in blocks("README.md", "python") if "own_stream" in block)
    assert 10 < len([line for line in block.splitlines() if line.strip()]) <= 25


def driver_of(net: PackedNetwork, folder: Path) -> ModuleType:
    """The driver of an exported folder, whose board is a model of it."""
    source = (ROOT / "hls_templates/driver/driver.py").read_text()
    module = ModuleType("driver")
    sys.modules["driver"] = module  # dataclasses look their module up
    exec(compile(source, "driver.py", "exec"), vars(module))
    design = search_folding(net, device("xc7z020"), target_fps=1000).accelerator
    module.TsnAccelerator.load = lambda _: board_of(module, design, folder / "exported")[1]  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("tool", ["qonnx.core.onnx_exec", "hls4ml"])
def test_python_of_other_tool_chains_runs_as_it_stands(tool: str, site: Path) -> None:
    (block,) = (block for block in blocks("docs/deploy.md", "python") if tool in block)
    python = os.environ.get("TSN_HW_PEERS_PYTHON")
    if python is None:
        pytest.skip("TSN_HW_PEERS_PYTHON names no interpreter with qonnx and hls4ml (make test creates one)")
    write_qonnx(network(), ".", "quant")
    shutil.copy("qonnx/task_03.quant.onnx", ".")
    given = "import numpy; x = numpy.zeros((2, 1, 8, 8), numpy.float32)\n"
    told = "\nassert logits.shape == (2, 10), logits.shape\n"
    found = subprocess.run(
        [python, "-c", given + block + told], capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stderr


# ---------------------------------------------------------------------------------------------------------- commands


def commands(document: str) -> list[list[str]]:
    """The arguments of every line that begins with tsn-hw, without what the line says of itself."""
    found = []
    for block in blocks(document, ""):
        for line in re.findall(r"^tsn-hw .*$", block, re.MULTILINE):
            first, *rest = re.split(r"\s{2,}", line.partition("#")[0].strip())
            ways = [first, " ".join([first, *rest[:1]])]
            found.append(next((words for way in reversed(ways) if parses(words := shlex.split(way)[1:])), ways))
    return found


def parses(arguments: list[str]) -> bool:
    try:
        parse(arguments)
    except SettingsError:
        return False
    return True


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if commands(document)])
def test_every_command_line_is_one(document: str) -> None:
    assert [way for way in commands(document) if not parses(way)] == []


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d != "README.md" and commands(d)])
def test_commands_run_in_the_order_in_which_they_stand(
    document: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "build/digits" in (ROOT / document).read_text():
        copied_run(site / "build/digits")
    folding = ["cost", "net.tsn", "--device", "xc7z010", "--max-tasks", "8", "--save-folding"]
    for name in ("folding.json", "mine.json", "build/hls/folding.json"):
        assert main([*folding, name]) == 0
    shutil.rmtree("build/hls") if document == "docs/hls.md" else None
    for arguments in commands(document):
        if arguments[0] in CHEAP and not any(option in arguments for option in DEAR):
            code = main(arguments)
            assert code == 0, (arguments, capsys.readouterr().err)


def test_the_readme_lists_every_command_once() -> None:
    known = [command.__name__ for group in COMMANDS.values() for command in group]
    assert sorted(arguments[0] for arguments in commands("README.md")) == sorted(known)


# ------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("document", having("toml"))
def test_toml_and_json_can_be_read(document: str) -> None:
    for block in blocks(document, "toml"):
        assert tomllib.loads(block)
    for block in blocks(document, "json"):
        assert json.loads(block)
