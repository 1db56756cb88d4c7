"""Loads: what the bus brings into memories that have no content of their own. The format is in docs/hls.md."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import FoldingError
from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.memories import KINDS, LIMB_BITS, MemoryLayout

ALL_TASKS = 0xFFFF
"""What stands in place of a task where all tasks use what is loaded."""
MAX_PACKET_LIMBS = 255
"""The limbs that a load packet can have: its header counts them in 8 bits."""
Beats = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Load:
    """What is loaded for a task, or once for ALL_TASKS: the memories, and the beats (head, packets, CRC) as bytes."""

    task: int
    images: tuple[MemoryImage, ...]
    data: bytes

    @property
    def beats(self) -> Beats:
        """The 64-bit beats."""
        return np.frombuffer(self.data, "<u8")

    @property
    def path(self) -> str:
        """Where it lies in a project."""
        return load_path(self.task)


def load_path(task: int) -> str:
    """Where the load of a task, or of ALL_TASKS, lies in a project."""
    return "tasks/all.load" if task == ALL_TASKS else f"tasks/task_{task:02d}.load"


def load(task: int, images: Sequence[tuple[int, MemoryImage]], design: int) -> Load:
    """The load of the memories of units (by number) for a task, of an accelerator of that number."""
    packets = [word_packets(unit, image, np.arange(image.layout.depth)) for unit, image in images]
    beats = sealed(np.concatenate([np.zeros(0, np.uint64), *packets]), task, design)
    return Load(task, tuple(image for _, image in images), beats.astype("<u8").tobytes())


def sealed(beats: Beats, task: int, design: int) -> Beats:
    """Packets with the head in front, task and beats of the whole, and behind them the CRC-32 that began with a design.

    >>> [f"{beat:016x}" for beat in sealed(np.array([5], np.uint64), task=3, design=0).tolist()]
    ['0000000300000003', '0000000000000005', '00000000fa0d2333']
    """
    head = np.uint64(task | len(beats) + 2 << 32)
    covered = np.concatenate([[head], beats]).astype("<u8")
    return np.append(covered, np.uint64(zlib.crc32(covered.tobytes(), design))).astype(np.uint64)


def word_packets(unit: int, image: MemoryImage, addresses: Ints) -> Beats:
    """The packets of some lines of a memory of a unit: unit, kind, limbs and address in a beat, then the limbs."""
    header = np.uint64(packet_header(unit, image.layout))
    heads = header | addresses.astype(np.uint64) << np.uint64(32)
    return np.concatenate([heads[:, None], image.limbs[addresses]], axis=1).ravel()


def packet_header(unit: int, layout: MemoryLayout) -> int:
    """The lower half of the first beat of every packet of a memory; the address is the upper one."""
    return unit | KINDS.index(layout.kind) << 16 | layout.limbs << 24


def check_packets(layouts: Sequence[MemoryLayout]) -> None:
    """Refuse a folding whose lines are longer than a load packet, where they are loaded."""
    for layout in layouts:
        if layout.is_loaded and layout.limbs > MAX_PACKET_LIMBS:
            raise FoldingError(
                f"layer {layout.unit!r}: a line of its {layout.kind} has {layout.width_bits} bits, a load packet "
                f"carries at most {MAX_PACKET_LIMBS * LIMB_BITS}; take a smaller pe or simd"
            )
