"""A board without hardware: registers, a DMA and buffers as the real ones, around a model of the top function.

The model follows the table of calls in docs/hls.md by itself: it takes beats apart, computes with the int64 loop, and
checks load packets against the memories that they must fill.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tsn_hw.core import reference
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.images import MemoryImage

ALL_TASKS = 0xFFFF
CLASSES = 0x80
KINDS = ("words", "codebook", "mask", "scales", "task")
Top = Callable[[int, int, int, list[int]], tuple[int, list[int]]]
"""(command, task, count, beats of 64 bits) -> status and words of 32 bits; it takes the beats that it reads away."""


class Buffer(np.ndarray):
    """An array that knows its address; what the other side writes is seen after invalidate(), as behind a cache."""

    device_address: int

    def flush(self) -> None:
        self.board.memory[self.device_address] = np.array(self)  # what the DMA sees

    def invalidate(self) -> None:
        np.copyto(self, self.board.memory[self.device_address])

    def freebuffer(self) -> None:
        self.board.freed.append(self.device_address)

    def __array_finalize__(self, source: object) -> None:
        self.device_address, self.board = getattr(source, "device_address", 0), getattr(source, "board", None)


@dataclass
class Model:
    """The top function in Python."""

    accelerator: Accelerator
    loaded: set[int] = field(default_factory=set)
    known: dict[tuple[int, bytes], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = (ALL_TASKS, *range(len(self.accelerator.net.tasks)))
        self.wanted = {number: wanted_loads(self.accelerator, number) for number in numbers}
        self.loads_all, self.loads_task = bool(self.wanted[ALL_TASKS]), bool(self.wanted[0])
        self.design = self.accelerator.design_number
        kept = [image.limbs.astype("<u8").tobytes() for image in self.accelerator.images if self._begins_with(image)]
        network = int(hashlib.sha256(b"".join(kept)).hexdigest()[:8], 16)
        self.fingerprints = {"network": network, "design": self.design}

    def _begins_with(self, image: MemoryImage) -> bool:
        """Whether a bitstream has its content: nothing loads it."""
        unit = next(unit for unit in self.accelerator.units if unit.name == image.unit)
        in_ultra = unit.settings.ram_style == "ultra" and image.kind in ("words", "mask")
        return not in_ultra and (unit.settings.mask != "runtime" or image.kind == "words")

    def __call__(self, command: int, task: int, count: int, beats: list[int]) -> tuple[int, list[int]]:
        status = self.verdict(command, task)
        if status:
            return status, []
        if command == 1:
            return self._load(task, count, beats), []
        words = list[int]()
        for _ in range(count):
            of_this = beats.pop(0) if command & 2 else task
            x, is_refused = self._input(beats), self.verdict(0, of_this) != 0
            status = 5 if is_refused else status
            words += self._refused(command) if is_refused else self._given(command, of_this, x)
        return status, words

    def _refused(self, command: int) -> list[int]:
        """Of an inference whose header names no task that is there: its logits are the lowest, its class is -1."""
        return [2**32 - 1] if command & CLASSES else [2**31] * self.accelerator.head.rows

    def _given(self, command: int, task: int, x: np.ndarray) -> list[int]:
        """The logits of an inference, or the class with the largest, the first of equal ones."""
        logits = self._logits(task, x)
        if not command & CLASSES:
            return logits
        own = logits[: len(self.accelerator.net.tasks[task].classes)]
        return [int(np.argmax(np.array(own, np.uint32).view(np.int32)))]

    def verdict(self, command: int, task: int) -> int:
        """The status of a call that takes no beat; 0: it takes all that it is told of."""
        listed = len(self.accelerator.net.tasks)
        if self.accelerator.head.settings.mask == "runtime":  # what is loaded says which tasks there are
            listed = self.accelerator.max_tasks
        if command == 1 and (self.loads_all or self.loads_task):
            is_there = self.loads_all if task == ALL_TASKS else self.loads_task and task < listed
            return 0 if is_there else 1
        command = {CLASSES: 0, CLASSES | 2: 2}.get(command, command)
        if command not in (0, 2):
            return 3
        if command == 0 and task >= listed:
            return 1
        wanted = {task} if command == 0 else self.loaded - {ALL_TASKS}
        is_missing = (self.loads_all and ALL_TASKS not in self.loaded) or (self.loads_task and not wanted & self.loaded)
        return 2 if is_missing else 0

    def _logits(self, task: int, x: np.ndarray) -> list[int]:
        key = task, x.tobytes()
        if key not in self.known:
            logits = list(reference.run(self.accelerator.net, task, x).values())[-1][0].tolist()
            zeros = [0] * (self.accelerator.head.rows - len(logits))
            self.known[key] = [value % 2**32 for value in logits] + zeros
        return self.known[key]

    def _input(self, beats: list[int]) -> np.ndarray:
        stream = self.accelerator.input
        container = 8 if stream.bits <= 8 else 16
        per_beat = 64 // container
        used = -(-stream.elements // per_beat)
        lanes = [beats[i // per_beat] >> i % per_beat * container & (2**container - 1) for i in range(stream.elements)]
        del beats[:used]
        if stream.signed:
            lanes = [lane - 2**container if lane >> container - 1 else lane for lane in lanes]
        x = np.array(lanes)
        if len(stream.shape) == 3:
            channels, height, width = stream.shape
            return x.reshape(height, width, channels).transpose(2, 0, 1)[None]
        return x[None]

    def _load(self, task: int, count: int, beats: list[int]) -> int:
        """A load that is not whole, or is for another task or design, leaves nothing loaded."""
        taken = beats[:count]
        del beats[:count]
        if not self._is_whole(task, taken):
            self.loaded.clear()
            return 4
        self.loaded = {task} | (self.loaded if task == ALL_TASKS else self.loaded & {ALL_TASKS})
        return 0

    def _is_whole(self, task: int, beats: list[int]) -> bool:
        """Whether packets between head and CRC fill exactly the memories that units hold for one task, word by word."""
        if len(beats) < 2 or beats[0] != task | len(beats) << 32:
            return False
        if beats[-1] != zlib.crc32(np.array(beats[:-1], "<u8").tobytes(), self.design):
            return False
        packets, found = beats[1:-1], {}
        while packets:
            header = packets.pop(0)
            unit, kind, limbs, address = header & 0xFFFF, header >> 16 & 0xFF, header >> 24 & 0xFF, header >> 32
            if unit >= len(self.accelerator.units) or kind >= len(KINDS) or len(packets) < limbs:
                return False
            found[unit, KINDS[kind], address] = [packets.pop(0) for _ in range(limbs)]
        return found == self.wanted.get(task)


def wanted_loads(accelerator: Accelerator, task: int) -> dict[tuple[int, str, int], list[int]]:
    """(unit, kind, address) -> limbs of every word that is loaded for a task, or once for all of them.

    UltraRAM is loaded once; the masks in it too, unless they are those of one task.
    """
    numbers = {unit.name: number for number, unit in enumerate(accelerator.units)}
    images: list[MemoryImage] = []
    for unit in accelerator.units:
        runtime, ultra = unit.settings.mask == "runtime", unit.settings.ram_style == "ultra"
        if task != ALL_TASKS:
            of_task = accelerator.task_images(task) if runtime and task < len(accelerator.net.tasks) else ()
            images += [image for image in of_task if image.unit == unit.name]
        elif ultra:
            kinds = {"words"} if runtime else {"words", "mask"}
            images += [image for image in accelerator.images if (image.unit, image.kind in kinds) == (unit.name, True)]
    return {
        (numbers[image.unit], image.kind, address): [int(limb) for limb in limbs]
        for image in images
        for address, limbs in enumerate(image.limbs)
    }


@dataclass
class Board:
    """Registers of the accelerator and of the DMA. ``hangs`` names what never answers."""

    top: Top
    offsets: dict[str, int]
    hangs: set[str] = field(default_factory=set)
    dma_error: int = 0
    lost_bytes: int = 0
    calls: list[tuple[int, int, int]] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.registers = Registers(self.read, self.write)
        self.dma = Registers(self.read_dma, self.write_dma)
        self.values: dict[int, int] = {0: 4}  # idle
        self.dma_values: dict[int, int] = {0x04: 1, 0x34: 1}  # halted
        self.beats: list[int] = []
        self.received: list[int] = []

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> Buffer:
        buffer = np.zeros(shape, dtype).view(Buffer)
        buffer.device_address, buffer.board = 0x1_0000_0000 + 0x1000 * len(self.memory), self
        self.memory[buffer.device_address] = np.full(shape, 7, dtype)  # what lay there before
        return buffer

    # ------------------------------------------------------------------------------------------------- accelerator

    def read(self, offset: int) -> int:
        value = self.values.get(offset, 0)
        if offset == 0:
            self.values[0] = value & ~2  # done is cleared by reading it
        return value

    def write(self, offset: int, value: int) -> None:
        self.values[offset] = value
        if offset == 0 and value & 0x100:
            self.values[0] = 4 | 2
        if offset != 0 or not value & 1:
            return
        if "accelerator" in self.hangs:
            self.values[0] = 0
            return
        command, task, count = (self.values[self.offsets[name]] for name in ("command", "task_id", "count"))
        self.calls.append((command, task, count))
        self.values[self.offsets["status"]], words = self.top(command, task, count, self.beats)
        self.values |= {self.offsets[name]: value for name, value in getattr(self.top, "fingerprints", {}).items()}
        self.received += words
        self.values[0] = 4 | 2
        self._receive()

    # --------------------------------------------------------------------------------------------------------- DMA

    def read_dma(self, offset: int) -> int:
        if offset in (0x04, 0x34):
            return self.dma_values[offset] | self.dma_error
        return self.dma_values.get(offset, 0)

    def write_dma(self, offset: int, value: int) -> None:
        self.dma_values[offset] = value
        if offset in (0x00, 0x30):
            if value & 4 and "reset" not in self.hangs:
                self.dma_values |= {0x00: 0, 0x30: 0, 0x04: 1, 0x34: 1}
                self.beats.clear()
            elif value & 1:
                self.dma_values[offset + 4] = 0
        elif offset == 0x28:
            self.dma_values[0x04] = 0
            words = self.memory[self._address(0x18)].reshape(-1)[: value // 8]
            self.beats += [int(word) for word in words]
            self.dma_values[0x04] = 0 if "send" in self.hangs else 2
        elif offset == 0x58:
            self.dma_values[0x34] = 0

    def _address(self, offset: int) -> int:
        return self.dma_values[offset] | self.dma_values[offset + 4] << 32

    def _receive(self) -> None:
        if not self.received or "receive" in self.hangs:
            return
        target = self.memory[self._address(0x48)].reshape(-1)
        target[: len(self.received)] = np.array(self.received, "<u4").view("<i4")
        self.dma_values |= {0x34: 2, 0x58: 4 * len(self.received) - self.lost_bytes}
        self.received.clear()


@dataclass
class Registers:
    """read and write, as pynq.MMIO has them."""

    read: Callable[[int], int]
    write: Callable[[int, int], None]
