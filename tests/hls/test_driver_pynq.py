"""The driver on PYNQ: what it takes from there, and what it needs besides."""

import ast
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export.hls.driver import REGISTERS
from tests.helpers.drivers import CONV, SOURCE, exported, logits_of
from tests.helpers.fake_board import Board, Model
from tests.helpers.images import settings
from tests.helpers.networks import adversarial_inputs
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.pipeline import accelerator


def on_pynq(
    root: Path, design: Accelerator, patch: pytest.MonkeyPatch
) -> tuple[dict[str, dict[str, Any]], list[str], Path]:
    """PYNQ with a board: the cells of its overlay, the bitstreams that it was asked for, and the one that is there."""
    board = Board(Model(design), REGISTERS)
    spaces = {0xA000_0000: board.registers, 0xA001_0000: board.dma}
    cells: dict[str, dict[str, Any]] = {
        "tsn_accelerator_0": {
            "phys_addr": 0xA000_0000,
            "addr_range": 65536,
            "registers": {"CTRL": {"address_offset": 0}, "task_id": {"address_offset": 16}},
        },
        "axi_dma_0": {"phys_addr": 0xA001_0000, "addr_range": 65536},
    }
    asked = list[str]()
    pynq = SimpleNamespace(
        MMIO=lambda address, length: spaces[address],
        Overlay=lambda path: asked.append(path) or SimpleNamespace(ip_dict=cells),
        allocate=board.allocate,
    )
    patch.setitem(sys.modules, "pynq", pynq)
    bitstream = root / "build/overlay/tsn_accelerator.bit"
    bitstream.parent.mkdir(parents=True)
    for path in (bitstream, bitstream.with_suffix(".hwh")):
        path.touch()
    return cells, asked, bitstream


def test_load_takes_bitstream_registers_and_buffers_from_pynq(
    driver: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    design = accelerator(CONV, settings(CONV))
    root = exported(design, tmp_path)
    _, asked, bitstream = on_pynq(root, design, monkeypatch)
    driver.main(["--folder", str(root), "verify"])
    assert json.loads(capsys.readouterr().out) == {task.name: 6 * len(task.classes) for task in CONV.tasks}
    np.save(tmp_path / "x.npy", adversarial_inputs(CONV, 3))
    driver.main(["--folder", str(root), "run", str(tmp_path / "x.npy"), "--task", "task1"])
    predicted = logits_of(CONV, 1, adversarial_inputs(CONV, 3)).argmax(axis=1)
    assert capsys.readouterr().out.split() == [CONV.tasks[1].classes[i] for i in predicted]
    driver.main(["--folder", str(root), "throughput", "--count", "5"])
    assert json.loads(capsys.readouterr().out)["inferences"] == 5
    assert asked == [str(bitstream)] * 3


def test_an_overlay_that_is_not_the_exported_one_is_told(
    driver: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = accelerator(CONV, settings(CONV))
    root = exported(design, tmp_path)
    cells, _, bitstream = on_pynq(root, design, monkeypatch)

    def refusal() -> str:
        with pytest.raises(driver.DriverError) as caught:
            driver.TsnAccelerator.load(str(root))
        return str(caught.value)

    cells["tsn_accelerator_0"]["registers"]["task_id"]["address_offset"] = 0x1C
    assert refusal() == "register 'task_id' lies at 0x1c, accelerator.json says 0x10"
    del cells["axi_dma_0"]
    assert refusal() == "the design has no axi_dma_0, but tsn_accelerator_0"
    bitstream.unlink()
    assert refusal() == f"{bitstream} is not there; scripts/block_design.tcl makes it"


def test_the_driver_is_python_3_8_and_needs_numpy_and_pynq_alone() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    packages = {name.partition(".")[0] for name in imported}
    assert packages - sys.stdlib_module_names == {"numpy", "pynq"}


@pytest.mark.parametrize("text", ["", "{}", '{"tasks": [{"name": "a"}]}', '{"tasks": [], "input_shape": 3}'])
def test_numbers_of_another_program_are_refused(text: str, driver: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "accelerator.json"
    path.write_text(text)
    with pytest.raises(driver.DriverError) as caught:
        driver.read_numbers(path)
    assert str(caught.value).startswith(f"{path}: is not what this driver reads (")
