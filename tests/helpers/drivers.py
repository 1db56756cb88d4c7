"""Exported projects on a board that is a model, for the driver."""

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from export.hls.driver import REGISTERS, driver_json, golden_npz
from export.hls.scripts import TEMPLATES
from tests.helpers.fake_board import Board, Model, Top
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tsn_hw.core import reference
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator

SOURCE = TEMPLATES / "driver" / "driver.py"
CONV = random_network(Recipe(kind="conv", tasks=3, banks=2, seed=5))
X = adversarial_inputs(CONV, 3)
NETWORKS = {
    "mlp": random_network(Recipe(tasks=2, seed=31)),
    "conv": CONV,
    "residual": random_network(Recipe(kind="residual", tasks=2, seed=3, multipliers=True)),
    "signed": random_network(Recipe(kind="conv", tasks=2, seed=4, signed_input=True)),
    "4 bits": random_network(Recipe(tasks=2, act_bits=4, seed=9, signed_input=True)),
}


def logits_of(net: PackedNetwork, task: int, x: np.ndarray) -> np.ndarray:
    return list(reference.run(net, task, x).values())[-1]


def exported(design: Accelerator, folder: Path, clock_mhz: float = 100, can_abort: bool = False) -> Path:
    """The part of an exported folder that the driver reads."""
    net = design.net
    (folder / "driver").mkdir(parents=True, exist_ok=True)
    (folder / "tasks").mkdir(exist_ok=True)
    shutil.copy(SOURCE, folder / "driver")
    cycles = max(unit.cycles for unit in design.units), sum(unit.cycles for unit in design.units)
    (folder / "driver/accelerator.json").write_text(driver_json(design, clock_mhz, *cycles, can_abort=can_abort))
    inputs = np.stack([adversarial_inputs(net, 6, seed=task) for task in range(len(net.tasks))])
    logits = np.zeros((*inputs.shape[:2], design.head.rows), np.int64)
    for task, x in enumerate(inputs):
        values = logits_of(net, task, x)
        logits[task, :, : values.shape[1]] = values
    for path, data in design.load_files.items():
        (folder / path).write_bytes(data)
    (folder / "driver/golden.npz").write_bytes(golden_npz(inputs, logits))
    return folder


def board_of(
    driver: ModuleType,
    design: Accelerator,
    folder: Path,
    top: Top | None = None,
    can_abort: bool = False,
    **options: Any,
) -> tuple[Board, Any]:
    """A board with a design, and the driver on it."""
    root = exported(design, folder, can_abort=can_abort)
    board = Board(top or Model(design), REGISTERS)
    return board, driver.TsnAccelerator(root, board.registers, board.dma, board.allocate, **options)
