"""The LiteX system of docs/boards.md: a VexRiscv runs the C driver and classifies, in LiteX's own simulator."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export.rtl.project import write_rtl
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tests.helpers.rtl_designs import folded
from tsn_hw.core import reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "boards.md"
NET = random_network(
    Recipe(kind="mlp", tasks=3, multipliers=True, signed_input=True, widths=(13, 8), classes=4, seed=4)
)


def peers() -> str:
    python = os.environ.get("TSN_HW_PEERS_PYTHON")
    if python is None or subprocess.run([python, "-c", "import litex, migen"], capture_output=True).returncode:
        pytest.skip("TSN_HW_PEERS_PYTHON names no interpreter with LiteX (make test creates one)")
    for tool in ("verilator", "riscv64-unknown-elf-gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    for header in ("event2/event.h", "json-c/json.h", "zlib.h"):
        if not any(Path(folder, header).exists() for folder in ("/usr/include", "/usr/local/include")):
            pytest.skip(f"needs {header}, of which LiteX's simulator is built")
    return python


def test_a_system_classifies_with_two_tasks_by_at_most_15_lines_of_ones_own(tmp_path):
    python = peers()
    write_rtl(folded(NET, np.random.default_rng(0)), tmp_path / "build/rtl")
    sources = dict(re.findall(r"^```(c|py)\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE))
    assert sum(len(text.splitlines()) for text in sources.values()) <= 15
    (tmp_path / "main.c").write_text(sources["c"])
    (tmp_path / "system.py").write_text(sources["py"])
    inputs = adversarial_inputs(NET, 40, seed=3)
    logits = [list(reference.run(NET, task, inputs).values())[-1] for task in (0, 1)]
    classes = [values.argmax(axis=1) for values in logits]
    # one that the first task takes for class 1 or more, and one where the second task differs in it
    chosen = [
        next(i for i, a in enumerate(classes[0]) if a),
        next(i for i, (a, b) in enumerate(zip(*classes, strict=True)) if a != b),
    ]
    rows = (f"{{{', '.join(map(str, inputs[i].tolist()))}}}" for i in chosen)
    (tmp_path / "images.h").write_text(",\n".join(rows) + "\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "build/rtl/integration")}
    with subprocess.Popen(
        [python, "system.py"], cwd=tmp_path, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as system:  # fmt: skip
        told = system.stdout.read()
    assert system.returncode == 0, told[-2000:]
    printed = re.findall(r"^(-?\d+)$", told, re.MULTILINE)
    assert list(map(int, printed)) == [classes[0][chosen[0]], classes[1][chosen[1]]]
