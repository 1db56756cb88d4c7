"""The Makefile, with programs in place of the environment's that tell what they were asked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = "{}.{}".format(*sys.version_info[:2])
TELLS = '#!/bin/sh\necho "$0 $*; old $TSN_HW_OLD_PYTHON; peers $TSN_HW_PEERS_PYTHON"\n'

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a path with a blank, with environments that are installed."""
    folder = tmp_path / "my repo"
    for venv in (".venv", ".venv-onnxruntime-1.17", ".venv-peers"):
        (folder / venv / "bin").mkdir(parents=True)
        for program in ("python", "tsn-hw", "ruff", "mypy"):
            (folder / venv / "bin" / program).write_text(TELLS)
            (folder / venv / "bin" / program).chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    for venv in (".venv", ".venv-onnxruntime-1.17", ".venv-peers"):
        (folder / venv / f".installed-{VERSION}").touch()
    return folder


def make(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["make", *arguments, f"PYTHON={sys.executable}"]
    outer = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "TORCH_INDEX", "PIP_FLAGS")  # of a `make test`
    given = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(command, cwd=checkout, env=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("target", ["demo", "test", "check", "format", "clean"])
def test_a_checkout_may_lie_in_a_path_with_a_blank(target: str, checkout: Path) -> None:
    for folder in ("tsn_hw", "export", "sim", "tests"):
        (checkout / folder).mkdir()
    found = make(checkout, target, "-o", "tools", "-o", "peers")
    assert found.returncode == 0, found.stderr
    if target == "test":
        told = f"-m pytest -n 2 --dist loadfile; old {checkout}/.venv-onnxruntime-1.17/bin/python; "
        assert f"{told}peers {checkout}/.venv-peers/bin/python" in found.stdout


def installed(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    (checkout / ".venv" / f".installed-{VERSION}").unlink()
    return make(checkout, f".venv/.installed-{VERSION}", *arguments)


@pytest.mark.skipif(
    Path("/proc/driver/nvidia").exists() or sys.platform != "linux", reason="CUDA wheels are right here"
)
def test_torch_comes_without_cuda_where_there_is_no_gpu_else_from_the_usual_sources(checkout: Path) -> None:
    cpu = "--no-deps --index-url https://download.pytorch.org/whl/cpu torch"
    first, second = [line for line in installed(checkout).stdout.splitlines() if "; old" in line and "pip" in line]
    assert cpu in first
    assert second.partition(";")[0].endswith("-c constraints.txt -e .[test,dev]")
    for asked in ("TORCH_INDEX=http://mine", "PIP_FLAGS=--no-index", "PIP_FLAGS=--index-url http://mirror"):
        assert "pytorch.org" not in installed(checkout, asked).stdout
    python = checkout / ".venv/bin/python"
    python.write_text(f'{TELLS}case "$*" in *--no-deps*) exit 1;; esac\n')
    found = installed(checkout)
    assert found.returncode == 0
    assert "make: no CPU-only torch there, the usual sources follow\n" in found.stderr
    assert "-e .[test,dev]" in found.stdout.splitlines()[-1]
