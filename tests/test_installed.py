"""What an installed tsn-hw looks like from a folder of a user's own, where files have names that ours have too."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.networks import Recipe, random_network
from tsn_hw.core import artifact

ROOT = Path(__file__).parent.parent
OWN = 'raise_if_imported = "by tsn-hw"\nvalue = 7\n'


@pytest.fixture
def folder(tmp_path):
    """A folder with a sim.py, an export.py and a network; ours are found as installed packages are."""
    for name in ("sim", "export"):
        (tmp_path / f"{name}.py").write_text(OWN)
    artifact.save(random_network(Recipe(kind="mlp", tasks=2, seed=3)), tmp_path / "net.tsn")
    return tmp_path


def run(folder, *arguments):
    """What a fresh interpreter in the folder prints; PYTHONPATH stands for the installed packages."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_script_beside_files_of_those_names_has_both(folder):
    (folder / "mine.py").write_text(
        "import sim, export\n"
        "import tsn_hw.export, tsn_hw.sim\n"
        "from tsn_hw.sim.integer import Simulator\n"
        "net = __import__('tsn_hw').load('net.tsn')\n"
        "assert (sim.value, export.value) == (7, 7)\n"
        "assert tsn_hw.sim.Simulator is Simulator\n"
        "assert Simulator.__module__ == 'tsn_hw.sim.integer'\n"
        "tsn_hw.export.write_onnx(net, 'onnx')\n"
        "tsn_hw.sim.estimate_cost(net)\n"
        "print(Simulator(net, 0).predict(__import__('numpy').zeros((2, *net.input_shape), int)).shape)\n"
    )
    assert run(folder, "mine.py") == "(2,)\n"
    assert (folder / "onnx/task_00.onnx").is_file()


def test_elsewhere_both_names_mean_the_same_modules(tmp_path):
    told = run(
        tmp_path,
        "-c",
        "import tsn_hw.sim, tsn_hw.sim.integer, sim, sim.integer, sys\n"
        "from tsn_hw import export as longer\n"
        "import export\n"
        "assert tsn_hw.sim is sim and tsn_hw.sim.integer is sim.integer and longer is export\n"
        "assert sim.__spec__.name == sim.__name__ == 'sim'\n"
        "print('torch' in sys.modules)\n",
    )
    assert told == "False\n"
    with pytest.raises(AssertionError, match=r"No module named 'tsn_hw\.sim\.none'"):
        run(tmp_path, "-c", "import tsn_hw.sim.none")


def test_the_command_line_imports_ours(folder):
    assert "tasks 2" in run(folder, "-m", "tsn_hw", "show", "net.tsn")
    assert "Usage: tsn-hw cost" in run(folder, "-m", "tsn_hw", "cost", "--help")
    script = Path(sys.executable).with_name("tsn-hw")
    if not script.is_file():
        pytest.skip("tsn-hw is not installed beside this interpreter")
    assert run(folder, str(script), "cost", "net.tsn")


def test_the_wheel_brings_documents_and_examples(tmp_path):
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for place, inside in (("docs", "tsn_hw/docs"), ("examples", "tsn_hw/examples"), ("sim", "sim")):
        assert {f"{inside}/{file.name}" for file in (ROOT / place).iterdir() if file.is_file()} <= names
