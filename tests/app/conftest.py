"""Runs with a page, which several files of tests read."""

from pathlib import Path

import pytest

from tests.helpers.sweeping import DEEP, GRID, RUN, sweep_into
from tests.helpers.tiny_run import copied_run
from tsn_hw.app.cli.main import main


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
