"""The notebooks run as they stand, say what they promise, and draw their pictures."""

import re
import time
from pathlib import Path

import pytest

from tsn_hw.app.reference.notebooks import run_cells

FOLDER = Path(__file__).parents[2] / "examples/notebooks"
PROMISED = {  # what a notebook prints, and the pictures that it leaves
    "01_two_tasks": (r"before the second task: True\n.*task_01.onnx computes the same logits", []),
    "02_own_network_and_data": (r"pump: [89]\d\.\d %, .*\nfan: [89]\d\.\d %", []),
    "03_bit_widths": (r"6 points that no other betters", ["bit_widths.png"]),
    "04_accelerator": (r"task 0: .* integers: True\ntask 1: .* integers: True", ["waveform.png"]),
    "05_microcontroller": (r"PASS: 10 tasks, 20 golden inputs.*Cortex-M4", []),
    "06_which_task": (r"task found: \d\d\.\d %.*10 images together: the right task in \d\d", ["chosen_task.png"]),
}
MOST_SECONDS = 60
"""Of the processor; each is meant to stay well below a minute."""


def test_every_notebook_is_promised_something() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_a_notebook_runs_and_keeps_its_promise(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    start = time.process_time()
    *ran, last = run_cells(FOLDER / f"{name}.py")
    if isinstance(last, str):
        pytest.skip(last)
    cells = [*ran, last]
    printed = "".join(cell.printed for cell in cells if not isinstance(cell, str))
    promised, pictures = PROMISED[name]
    assert re.search(promised, printed, re.DOTALL), printed
    assert "False" not in printed
    assert [file.name for cell in cells if not isinstance(cell, str) for file in cell.pictures] == pictures
    assert time.process_time() - start < MOST_SECONDS
