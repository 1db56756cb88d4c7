"""Loads: what the bus brings into memories that have no content of their own. The format is in docs/hls.md."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from export.project.numbers import design_number, loads_all, loads_task
from tsn_hw.core.arithmetic import Ints
from tsn_hw.hardware.dataflow import dataflow
from tsn_hw.hardware.images import KINDS, MemoryImage, is_loaded, memory_images, task_images
from tsn_hw.hardware.units import Accelerator

ALL_TASKS = 0xFFFF
"""What stands in place of a task where all tasks use what is loaded."""
Beats = NDArray[np.uint64]


def load_packets(accelerator: Accelerator, task: int) -> Beats:
    """The 64-bit beats that load a task, or with ALL_TASKS what lies in UltraRAM: head, packets, CRC."""
    beats = packets(accelerator, loaded_images(accelerator, task))
    return sealed(beats, task, design_number(dataflow(accelerator)))


def sealed(beats: Beats, task: int, design: int) -> Beats:
    """Packets with the head in front, task and beats of the whole, and behind them the CRC-32 that began with a design.

    >>> [f"{beat:016x}" for beat in sealed(np.array([5], np.uint64), task=3, design=0).tolist()]
    ['0000000300000003', '0000000000000005', '00000000fa0d2333']
    """
    head = np.uint64(task | len(beats) + 2 << 32)
    covered = np.concatenate([[head], beats]).astype("<u8")
    return np.append(covered, np.uint64(zlib.crc32(covered.tobytes(), design))).astype(np.uint64)


def load_files(accelerator: Accelerator) -> dict[str, bytes]:
    """Path in a project → the beats of everything that can be loaded, in little-endian bytes."""
    return {load_path(task): load_packets(accelerator, task).astype("<u8").tobytes() for task in loads(accelerator)}


def load_path(task: int) -> str:
    """Where the load of a task, or of ALL_TASKS, lies in a project."""
    return "tasks/all.load" if task == ALL_TASKS else f"tasks/task_{task:02d}.load"


def loads(accelerator: Accelerator) -> list[int]:
    """Everything that can be loaded: ALL_TASKS, and every task, as far as the accelerator needs it."""
    tasks = range(len(accelerator.net.tasks)) if loads_task(accelerator) else ()
    return [*([ALL_TASKS] if loads_all(accelerator) else []), *tasks]


def loaded_images(accelerator: Accelerator, task: int) -> list[MemoryImage]:
    """The memories that are written when a task is loaded, or with ALL_TASKS once."""
    images: list[MemoryImage] = []
    everything = {(image.unit, image.kind): image for image in memory_images(accelerator)}
    for unit in accelerator.units:
        of_task = {image.kind: image for image in task_images(accelerator, unit, task)} if task != ALL_TASKS else {}
        for kind in KINDS:
            image = everything.get((unit.name, kind))
            if image is None or not is_loaded(unit, kind):
                continue
            by_task = unit.settings.mask == "runtime" and kind != "words"
            if by_task == (task != ALL_TASKS):
                images.append(of_task[kind] if by_task else image)
    return images


def packets(accelerator: Accelerator, images: Iterable[MemoryImage]) -> Beats:
    """One packet a line: unit, kind, limbs and address in a beat, then the limbs."""
    numbers = {unit.name: number for number, unit in enumerate(accelerator.units)}
    beats = [word_packets(numbers[image.unit], image, np.arange(image.depth)) for image in images]
    return np.concatenate([np.zeros(0, np.uint64), *beats])


def word_packets(unit: int, image: MemoryImage, addresses: Ints) -> Beats:
    """The packets of some lines of a memory of a unit."""
    header = np.uint64(unit | KINDS.index(image.kind) << 16 | image.layout.limbs << 24)
    heads = header | addresses.astype(np.uint64) << np.uint64(32)
    return np.concatenate([heads[:, None], image.limbs[addresses]], axis=1).ravel()
