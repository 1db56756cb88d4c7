"""What the driver of an exported project needs to know: its numbers, and golden data to check the hardware with."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import numpy as np

from tsn_hw.core.arithmetic import Ints
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.loads import ALL_TASKS, load_path

REGISTERS = {"task_id": 0x10, "count": 0x18, "command": 0x20, "status": 0x28, "network": 0x38, "design": 0x40}
"""Offsets of the arguments of the top function in the AXI-Lite bundle ``control``."""
ACCELERATOR_CELL, DMA_CELL = "tsn_accelerator_0", "axi_dma_0"
MAX_TRANSFER_BYTES = (1 << 26) - 1
"""Longest transfer of the DMA, whose length register has 26 bits."""


def driver_json(
    accelerator: Accelerator, clock_mhz: float, interval_cycles: int, latency_cycles: int, *, can_abort: bool
) -> str:
    """Text of ``driver/accelerator.json``; its keys are the fields of ``Numbers`` in ``driver.py``.

    clock_mhz: of the accelerator; interval_cycles, latency_cycles: of an inference, as estimated; the driver waits
    accordingly. can_abort: whether a call can be ended before its end, as RTL can.
    """
    stream = accelerator.input
    files = {path: _load_file(path, data) for path, data in accelerator.load_files.items()}
    tasks = [
        {"name": task.name, "classes": task.classes, "load_file": files.get(load_path(number))}
        for number, task in enumerate(accelerator.net.tasks)
    ]
    values = {
        "input_shape": stream.shape,
        "input_bits": stream.bits,
        "input_signed": stream.signed,
        "input_exponent": accelerator.net.input.exponent,
        "outputs": accelerator.head.rows,
        "tasks": tasks,
        "load_file": files.get(load_path(ALL_TASKS)),
        "registers": REGISTERS,
        "fingerprints": {"design": accelerator.design_number, "network": accelerator.network_number},
        "can_abort": can_abort,
        "accelerator_cell": ACCELERATOR_CELL,
        "dma_cell": DMA_CELL,
        "max_transfer_bytes": MAX_TRANSFER_BYTES,
        "clock_mhz": clock_mhz,
        "interval_cycles": interval_cycles,
        "latency_cycles": latency_cycles,
    }
    return json.dumps(values, indent=1) + "\n"


def _load_file(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def golden_npz(inputs: Ints, logits: Ints) -> bytes:
    """``driver/golden.npz``: inputs (tasks, n, *shape) and logits (tasks, n, outputs), zeros behind a task's own."""
    file = io.BytesIO()
    np.savez_compressed(file, inputs=inputs.astype(np.int32), logits=logits.astype(np.int32))
    return file.getvalue()
