"""Commands as a user says them, and runs with a page, which several files of tests read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.sweeping import DEEP, GRID, RUN, sweep_into
from tests.helpers.tiny_run import TINY_TOML, copied_run, finished_run
from tsn_hw.app.cli.main import main

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command; returns exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()  # what a training for the test had to say
        return main([str(argument) for argument in arguments]), *capsys.readouterr()

    return run


@pytest.fixture
def refused(say: Say) -> Callable[..., str]:
    """Run a command that must be refused in one line; returns that line."""

    def run(*arguments: object) -> str:
        code, text, error = say(*arguments)
        assert (code, text) == (2, "")
        assert error.startswith("tsn-hw: ")
        assert error.endswith("\n")
        assert error.count("\n") == 1
        return error.removeprefix("tsn-hw: ").rstrip("\n")

    return run


@pytest.fixture
def net() -> Path:
    return finished_run() / "net.tsn"


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY_TOML)
    return tmp_path / "tiny.toml"


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified run of two banks, batch norm, three tasks, with its page for a part; for reading only."""
    folder = copied_run(tmp_path_factory.mktemp("report") / "deep <run> & more", DEEP)
    assert (
        main(["verify", str(folder / "net.tsn"), "-o", str(folder / "verify.json"), "--samples", "8", "--quiet"]) == 0
    )
    assert main(["report", str(folder), "--device", "xc7z010", "--target-fps", "1000"]) == 0
    return folder


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a sweep within a budget, and its page; for reading only."""
    root = tmp_path_factory.mktemp("swept")
    folder = copied_run(root / "run", RUN)
    budget = "[budget]\naccuracy_drop = 90\n[budget.part]\ndevice = 'xc7z010'\n"
    sweep_into(root, GRID + budget, folder)
    assert main(["report", str(folder), "--sweep", str(root / "out"), "-o", str(root / "page.html")]) == 0
    return root
