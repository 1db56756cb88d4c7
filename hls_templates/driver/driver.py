"""PYNQ driver of an exported accelerator: load it, choose a task, run inputs, check it against golden data.

::

    from driver import TsnAccelerator

    accelerator = TsnAccelerator.load("..")         # the exported folder; its bitstream lies in build/overlay
    accelerator.verify()                            # golden inputs of every task, integer by integer
    accelerator.set_task("digits-permuted-3")       # a name or a number
    logits = accelerator.run(integers)              # (inputs, *shape) of integers -> (inputs, classes) of int32
    names = accelerator.predict(accelerator.quantize(images / 256))
    logits = accelerator.run_tasks([3, 0, 3], integers)  # an input of each task, in one call

On the board's command line: ``python3 driver.py verify``, ``throughput``, or ``run input.npy --task 3``.

All numbers stand in accelerator.json beside this file, golden data in golden.npz. It needs numpy, and pynq to load a
bitstream. The DMA is driven by its registers, so that every wait has a time-out; pynq's own waits have none.
Python 3.8 or newer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

RUN, LOAD, RUN_TASKS = 0, 1, 2
CLASSES = 0x80  # with RUN and RUN_TASKS: the class of an inference, not its logits
ALL_TASKS = 0xFFFF
STATUS = {
    1: "there is no such task",
    2: "the task is not loaded",
    3: "unknown command",
    4: "what was loaded did not come whole, or is for another task or accelerator; nothing is loaded any more",
    5: "a header names no task that is there",
    6: "it was aborted",
}
CONTROL, START, DONE, IDLE, ABORT = 0x00, 1, 2, 4, 0x100
BEAT_BYTES = 8


class DriverError(RuntimeError):
    """The accelerator, the bitstream or the data are not what they should be."""


class DriverTimeoutError(DriverError):
    """The hardware did not answer in time."""


@dataclass(frozen=True)
class LoadFile:
    """What is loaded over the bus: a file of the exported folder, and what shows that it is whole and the right one."""

    path: str
    size_bytes: int
    sha256: str

    def read(self, folder: Path) -> NDArray[Any]:
        """Its beats of 64 bits."""
        path = folder / self.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DriverError(f"{path}: cannot be read ({error.strerror})") from error
        if len(data) != self.size_bytes:
            raise DriverError(f"{path}: holds {len(data)} bytes instead of {self.size_bytes}; copy it again")
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise DriverError(f"{path}: is not the file of accelerator.json; copy both from the same export")
        return np.frombuffer(data, np.dtype("<u8"))


@dataclass(frozen=True)
class Task:
    """A task: its classes in the order of the logits, and the file that loads it (none: it is always there)."""

    name: str
    classes: tuple[str, ...]
    load_file: LoadFile | None


@dataclass(frozen=True)
class Numbers:
    """What accelerator.json holds, and nothing else.

    outputs: logits of an inference. load_file: what is loaded once, for all tasks (none: nothing is). registers:
    offsets by name. fingerprints: what registers of those names must hold, or the bitstream is of other files.
    can_abort: whether a call can be ended before its end. interval_cycles and latency_cycles: of an inference, as
    estimated; they set how long a call may take.
    """

    input_shape: tuple[int, ...]
    input_bits: int
    input_signed: bool
    input_exponent: int
    outputs: int
    tasks: tuple[Task, ...]
    load_file: LoadFile | None
    registers: dict[str, int]
    fingerprints: dict[str, int]
    can_abort: bool
    accelerator_cell: str
    dma_cell: str
    max_transfer_bytes: int
    clock_mhz: float
    interval_cycles: int
    latency_cycles: int

    @property
    def elements(self) -> int:
        """Activations of an input."""
        return int(np.prod(self.input_shape))

    @property
    def container(self) -> np.dtype[Any]:
        """The integer that holds one activation in memory."""
        return np.dtype(f"<{'i' if self.input_signed else 'u'}{1 if self.input_bits <= 8 else 2}")

    @property
    def beats(self) -> int:
        """64-bit beats of an input; the last may hold zeros behind the activations."""
        return -(-self.elements * self.container.itemsize // BEAT_BYTES)

    @property
    def input_range(self) -> tuple[int, int]:
        """Smallest and largest integer of an input."""
        half = 1 << (self.input_bits - 1)
        return (-half, half - 1) if self.input_signed else (0, 2 * half - 1)


def read_numbers(path: Path) -> Numbers:
    """Read accelerator.json."""
    try:
        values = json.loads(path.read_text())
        for owner in (values, *values["tasks"]):
            owner["load_file"] = owner["load_file"] and LoadFile(**owner["load_file"])
        tasks = tuple(Task(task["name"], tuple(task["classes"]), task["load_file"]) for task in values.pop("tasks"))
        return Numbers(tasks=tasks, input_shape=tuple(values.pop("input_shape")), **values)
    except (KeyError, TypeError, ValueError) as error:
        raise DriverError(f"{path}: is not what this driver reads ({error})") from error


class Deadline:
    """A moment after which waiting ends in DriverTimeoutError."""

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds, self.what, self.end = seconds, what, time.monotonic() + seconds

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Poll until it is over, or time is."""
        while not is_over():
            if time.monotonic() > self.end:
                raise DriverTimeoutError(f"{self.what}: no answer within {self.seconds:.1f} s")


class Dma:
    """Simple transfers of an AXI DMA by its registers (PG021, direct register mode)."""

    SEND, RECEIVE = 0x00, 0x30
    CONTROL, STATUS, ADDRESS, ADDRESS_HIGH, LENGTH = 0x00, 0x04, 0x18, 0x1C, 0x28
    RUN_STOP, RESET = 0x1, 0x4
    HALTED, IDLE, ERRORS = 0x1, 0x2, 0x70

    def __init__(self, registers: Any, timeout_s: float) -> None:
        self.registers, self.timeout_s = registers, timeout_s
        self.reset()

    def reset(self) -> None:
        """End all transfers, also those that hang, and make both channels ready."""
        self.registers.write(self.SEND + self.CONTROL, self.RESET)  # of either channel resets the whole engine
        Deadline(self.timeout_s, "reset of the DMA").wait(
            lambda: not self.registers.read(self.SEND + self.CONTROL) & self.RESET
        )
        for channel in (self.SEND, self.RECEIVE):
            self.registers.write(channel + self.CONTROL, self.RUN_STOP)
        Deadline(self.timeout_s, "start of the DMA").wait(
            lambda: not (self._status(self.SEND) | self._status(self.RECEIVE)) & self.HALTED
        )

    def start(self, channel: int, buffer: Any, size_bytes: int) -> None:
        """Begin to send or receive the first bytes of a buffer."""
        self.registers.write(channel + self.ADDRESS, buffer.device_address & 0xFFFFFFFF)
        self.registers.write(channel + self.ADDRESS_HIGH, buffer.device_address >> 32)
        self.registers.write(channel + self.LENGTH, size_bytes)

    def is_done(self, channel: int) -> bool:
        """Whether a transfer has ended; DriverError if it failed."""
        status = self._status(channel)
        if status & self.ERRORS:
            name = "send" if channel == self.SEND else "receive"
            raise DriverError(f"DMA, {name} channel: error bits 0x{status & self.ERRORS:02x} (PG021, DMASR)")
        return bool(status & self.IDLE)

    def received_bytes(self) -> int:
        """Bytes of the packet that the last transfer received."""
        return int(self.registers.read(self.RECEIVE + self.LENGTH))

    def _status(self, channel: int) -> int:
        return int(self.registers.read(channel + self.STATUS))


class TsnAccelerator:
    """An accelerator in the programmable logic.

    ``registers`` and ``dma`` have ``read(offset)`` and ``write(offset, value)``; ``allocate(shape, dtype)`` gives
    arrays that the DMA sees, with ``device_address``, ``flush()``, ``invalidate()`` and ``freebuffer()``. :meth:`load`
    takes them from pynq. ``dma`` may also be what has the methods of :class:`Dma` itself. ``timeout_s`` is what a call
    may take beyond twice its estimated time; ``batch`` inputs go into one call.
    """

    def __init__(
        self,
        folder: Path,
        registers: Any,
        dma: Any,
        allocate: Callable[..., Any],
        timeout_s: float = 5.0,
        batch: int = 256,
    ) -> None:
        if timeout_s <= 0 or batch < 1:
            raise DriverError(f"timeout_s={timeout_s}, batch={batch}: both must be above 0")
        self.folder, self.registers, self.allocate, self.timeout_s = folder, registers, allocate, timeout_s
        self.numbers = read_numbers(folder / "driver" / "accelerator.json")
        self.dma = dma if hasattr(dma, "received_bytes") else Dma(dma, timeout_s)
        most = self.numbers.max_transfer_bytes // max(BEAT_BYTES * (1 + self.numbers.beats), 4 * self.numbers.outputs)
        if not most:
            raise DriverError(f"an input of {self.numbers.elements} activations is longer than a transfer may be")
        self.batch = min(batch, most)
        self.task = 0
        self._failed = ""
        self._is_checked = False
        self._loaded: int | None = None
        self._sent = allocate((self.batch * (1 + self.numbers.beats),), np.dtype("<u8"))  # a header each, or none
        self._received = allocate((self.batch, self.numbers.outputs), np.dtype("<i4"))
        self._begin(0)

    def _begin(self, task: int) -> None:
        """Load all that is loaded."""
        self._loaded = None
        if self.numbers.load_file is not None:
            self._load(ALL_TASKS, self.numbers.load_file)
        self.set_task(task)

    @classmethod
    def load(cls, folder: str = "..", timeout_s: float = 5.0, batch: int = 256) -> TsnAccelerator:
        """Program the device with the bitstream of an exported folder, through pynq."""
        from pynq import MMIO, Overlay, allocate

        root = Path(folder)
        bitstream = root / "build" / "overlay" / "tsn_accelerator.bit"
        for path in (bitstream, bitstream.with_suffix(".hwh")):
            if not path.is_file():
                raise DriverError(f"{path} is not there; scripts/block_design.tcl makes it")
        overlay = Overlay(str(bitstream))
        numbers = read_numbers(root / "driver" / "accelerator.json")
        check_hardware(overlay.ip_dict, numbers)
        accelerator, dma = (
            MMIO(overlay.ip_dict[cell]["phys_addr"], overlay.ip_dict[cell]["addr_range"])
            for cell in (numbers.accelerator_cell, numbers.dma_cell)
        )
        return cls(root, accelerator, dma, allocate, timeout_s, batch)

    # ------------------------------------------------------------------------------------------------------- tasks

    def set_task(self, task: Any) -> None:
        """Choose the task of the inferences that follow, by name or number; loads it where it is not there."""
        task = self._number(task)
        load_file = self.numbers.tasks[task].load_file
        if load_file is not None and self._loaded != task:
            self._load(task, load_file)
        self._call(RUN, task, 0)  # computes nothing, and tells whether the task is there
        self.task = task

    def _number(self, task: Any) -> int:
        """The number of a task that is named, or numbered."""
        names = [known.name for known in self.numbers.tasks]
        if task in names:
            return names.index(task)
        if isinstance(task, str) and task.isdigit():
            task = int(task)
        if hasattr(task, "__index__"):
            task = int(task)  # of numpy, too
        if not isinstance(task, int) or not 0 <= task < len(names):
            raise DriverError(f"task {task!r}: must be 0..{len(names) - 1} or one of {', '.join(names)}")
        return task

    def _load(self, task: int, file: LoadFile) -> None:
        packets = file.read(self.folder)
        if packets.nbytes > self.numbers.max_transfer_bytes:
            raise DriverError(f"{file.path}: a transfer has at most {self.numbers.max_transfer_bytes} bytes")
        self._loaded = None  # whatever happens now, no task is whole before the end
        buffer = self.allocate(packets.shape, packets.dtype)
        try:
            buffer[:] = packets
            self._call(LOAD, task, len(packets), (buffer, packets.nbytes))
        finally:
            buffer.freebuffer()
        self._loaded = task

    def abort(self) -> None:
        """End a call that is under way or never ended, and load again what is loaded: then inferences may go on.

        DriverError where the accelerator has no abort.
        """
        if not self.numbers.can_abort:
            raise DriverError(
                "abort: what Vitis HLS makes has none, only a reset ends a call; load the bitstream again"
            )
        self.registers.write(CONTROL, ABORT)
        Deadline(self.timeout_s, "abort").wait(lambda: bool(self.registers.read(CONTROL) & IDLE))
        self.dma.reset()  # forgets the beats that were not taken
        self._failed = ""
        self._begin(self.task)

    # ------------------------------------------------------------------------------------------------------ inputs

    def quantize(self, real: NDArray[Any]) -> NDArray[Any]:
        """Integers of the input format for real values: round half to even, then saturate."""
        low, high = self.numbers.input_range
        return np.rint(np.ldexp(np.asarray(real, np.float64), -self.numbers.input_exponent)).clip(low, high).astype(int)

    def pack(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Integers (inputs, *shape) as (inputs, beats) of 64 bits: channels innermost, the first lane lowest."""
        values = np.asarray(inputs)
        if values.dtype.kind not in "iu" or values.shape[1:] != self.numbers.input_shape or not len(values):
            raise DriverError(
                f"inputs: {values.dtype} of shape {values.shape}, must be integers of shape (inputs, "
                f"{', '.join(map(str, self.numbers.input_shape))})"
            )
        low, high = self.numbers.input_range
        if values.min() < low or values.max() > high:
            raise DriverError(f"inputs: hold {values.min()}..{values.max()}, must lie in {low}..{high}")
        if values.ndim == 4:
            values = values.transpose(0, 2, 3, 1)
        lanes = np.ascontiguousarray(values.reshape(len(values), -1), self.numbers.container).view(np.uint8)
        beats = np.zeros((len(values), self.numbers.beats * BEAT_BYTES), np.uint8)
        beats[:, : lanes.shape[1]] = lanes
        return beats.view("<u8")

    def unpack(self, words: NDArray[Any]) -> NDArray[Any]:
        """Logits (inputs, classes) of the current task from received words (inputs, outputs)."""
        return np.array(words[:, : len(self.numbers.tasks[self.task].classes)], np.int32)

    # --------------------------------------------------------------------------------------------------- inference

    def run(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Logits (inputs, classes) of the current task for integers (inputs, *shape)."""
        packed = self.pack(inputs)
        return self.unpack(self._infer(RUN, packed))

    def run_tasks(self, tasks: Sequence[Any], inputs: NDArray[Any]) -> NDArray[Any]:
        """Logits (inputs, outputs) for integers (inputs, *shape), each of a task of its own, zeros behind those it has.

        A change of task costs no time. Where tasks are loaded, only one is there: DriverError.
        """
        return self._infer(RUN_TASKS, self._tagged(tasks, inputs))

    def classes(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Classes (inputs,) of the current task for integers (inputs, *shape): the first of the largest logits.

        The accelerator compares the logits: a word an input comes back.
        """
        return self._infer(RUN | CLASSES, self.pack(inputs))[:, 0]

    def classes_of_tasks(self, tasks: Sequence[Any], inputs: NDArray[Any]) -> NDArray[Any]:
        """The same for inputs that are each of a task of their own."""
        return self._infer(RUN_TASKS | CLASSES, self._tagged(tasks, inputs))[:, 0]

    def predict(self, inputs: NDArray[Any]) -> list[str]:
        """Names of the classes: the first of the largest logits."""
        names = self.numbers.tasks[self.task].classes
        return [names[index] for index in self.classes(inputs)]

    def _tagged(self, tasks: Sequence[Any], inputs: NDArray[Any]) -> NDArray[Any]:
        """Beats (inputs, 1 + beats), the first of each its header."""
        packed, numbers = self.pack(inputs), [self._number(task) for task in tasks]
        if len(numbers) != len(packed):
            raise DriverError(f"tasks: {len(numbers)} of them for {len(packed)} inputs")
        if any(self.numbers.tasks[number].load_file is not None for number in numbers):
            raise DriverError("tasks: this accelerator holds one at a time; choose it with set_task, and call run")
        return np.hstack([np.array(numbers, "<u8").reshape(-1, 1), packed])

    def _infer(self, command: int, packed: NDArray[Any]) -> NDArray[Any]:
        """Words (inputs, outputs), or with CLASSES (inputs, 1), for (inputs, beats), in calls of a batch."""
        width, words = 1 if command & CLASSES else self.numbers.outputs, []
        for start in range(0, len(packed), self.batch):
            some = packed[start : start + self.batch]
            self._sent[: some.size] = some.ravel()
            size = width * len(some)
            self._call(command, self.task, len(some), (self._sent, some.nbytes), (self._received, 4 * size))
            words.append(np.array(self._received.ravel()[:size], np.int32).reshape(-1, width))
        return np.concatenate(words)

    def _call(
        self,
        command: int,
        task: int,
        count: int,
        sent: tuple[Any, int] | None = None,
        received: tuple[Any, int] | None = None,
    ) -> None:
        """One call of the top function, with the buffers that it reads and writes and their sizes in bytes."""
        if self._failed:
            raise DriverError(f"an earlier call failed ({self._failed}); {self._way_on}")
        if not self.registers.read(CONTROL) & IDLE:
            raise DriverError(f"the accelerator is busy with a call that never ended; {self._way_on}")
        try:
            self._transfer(command, task, count, sent, received)
        except DriverError as error:
            # Beats that were sent may wait anywhere on their way, and would meet the next call.
            self._failed = str(error) if sent else ""
            self.dma.reset()
            raise

    @property
    def _way_on(self) -> str:
        return "call abort()" if self.numbers.can_abort else "load the bitstream again"

    def _transfer(
        self, command: int, task: int, count: int, sent: tuple[Any, int] | None, received: tuple[Any, int] | None
    ) -> None:
        numbers = self.numbers
        for name, value in (("task_id", task), ("count", count), ("command", command)):
            self.registers.write(numbers.registers[name], value)
        if received is not None:
            self.dma.start(Dma.RECEIVE, *received)
        if sent is not None:
            sent[0].flush()
            self.dma.start(Dma.SEND, *sent)
        self.registers.write(CONTROL, START)
        cycles = numbers.latency_cycles + count * (1 if command == LOAD else numbers.interval_cycles)
        what = f"task {task}, {'load' if command == LOAD else 'inference'} of {count}"
        deadline = Deadline(self.timeout_s + 2e-6 * cycles / numbers.clock_mhz, what)
        deadline.wait(lambda: bool(self.registers.read(CONTROL) & DONE))
        if not self._is_checked:
            self._check_fingerprints()
        status = self.registers.read(numbers.registers["status"])
        if status:
            raise DriverError(f"{what}: {STATUS.get(status, 'unknown status')} (status {status})")
        if sent is not None:
            deadline.wait(lambda: self.dma.is_done(Dma.SEND))
        if received is not None:
            deadline.wait(lambda: self.dma.is_done(Dma.RECEIVE))
            if self.dma.received_bytes() != received[1]:
                raise DriverError(f"{what}: received {self.dma.received_bytes()} bytes instead of {received[1]}")
            received[0].invalidate()

    # ------------------------------------------------------------------------------------------------------ checks

    def _check_fingerprints(self) -> None:
        """Refuse a bitstream of other files; its registers hold its fingerprints once a call has ended."""
        for name, wanted in self.numbers.fingerprints.items():
            found = self.registers.read(self.numbers.registers[name])
            if found != wanted:
                raise DriverError(
                    f"the bitstream is of another {name}: fingerprint 0x{found:08x}, accelerator.json says "
                    f"0x{wanted:08x}; take both from the same export"
                )
        self._is_checked = True

    def verify(self) -> dict[str, int]:
        """Run the golden inputs of every task; logits compared, by task. DriverError at the first that differs."""
        compared: dict[str, int] = {}
        with np.load(self.folder / "driver" / "golden.npz", allow_pickle=False) as golden:
            inputs, logits = golden["inputs"], golden["logits"]
        for number, task in enumerate(self.numbers.tasks):
            self.set_task(number)
            found, wanted = self.run(inputs[number]), logits[number][:, : len(task.classes)]
            for row, column in np.argwhere(found != wanted):
                raise DriverError(
                    f"task {task.name!r}, golden input {row}: logit {column} is {found[row, column]} instead of "
                    f"{wanted[row, column]}"
                )
            compared[task.name] = found.size
        return compared

    def throughput(self, count: int = 1000, seed: int = 0) -> dict[str, float]:
        """Time of ``count`` inferences of random inputs, transfers included, packing and unpacking not."""
        low, high = self.numbers.input_range
        size = (min(count, self.batch), *self.numbers.input_shape)
        packed = self.pack(np.random.default_rng(seed).integers(low, high + 1, size))
        calls = -(-count // len(packed))
        start = time.perf_counter()
        for _ in range(calls):
            self._infer(RUN, packed)
        seconds = time.perf_counter() - start
        done = calls * len(packed)
        return {
            "inferences": done,
            "batch": len(packed),
            "seconds": seconds,
            "inferences_per_second": done / seconds,
            "estimated_inferences_per_second": 1e6 * self.numbers.clock_mhz / self.numbers.interval_cycles,
            "sent_megabytes_per_second": 1e-6 * calls * packed.nbytes / seconds,
            "received_megabytes_per_second": 4e-6 * done * self.numbers.outputs / seconds,
        }


def check_hardware(cells: dict[str, Any], numbers: Numbers) -> None:
    """Refuse a design that lacks the accelerator or the DMA, or has a register elsewhere than the driver thinks."""
    for cell in (numbers.accelerator_cell, numbers.dma_cell):
        if cell not in cells:
            raise DriverError(f"the design has no {cell}, but {', '.join(sorted(cells))}")
    found = cells[numbers.accelerator_cell].get("registers", {})
    for name, offset in numbers.registers.items():
        if name in found and found[name]["address_offset"] != offset:
            raise DriverError(
                f"register {name!r} lies at 0x{found[name]['address_offset']:02x}, accelerator.json says 0x{offset:02x}"
            )


def _load(options: argparse.Namespace) -> TsnAccelerator:
    return TsnAccelerator.load(options.folder, options.timeout)


def main(
    arguments: Sequence[str] | None = None,
    parser: argparse.ArgumentParser | None = None,
    load: Callable[[argparse.Namespace], TsnAccelerator] = _load,
) -> None:
    """The command line of the board; with the parser and the accelerator of another one, that of its host."""
    if parser is None:
        parser = argparse.ArgumentParser(description="Run an exported accelerator on a PYNQ board.")
        parser.add_argument("--folder", default=str(Path(__file__).resolve().parent.parent), help="the exported folder")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="beyond twice the estimated time")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="golden inputs of every task, integer by integer")
    throughput = commands.add_parser("throughput", help="inferences in a second")
    throughput.add_argument("--count", type=int, default=1000, help="inferences (default: %(default)s)")
    run = commands.add_parser("run", help="classes of inputs")
    run.add_argument("input", help=".npy file of integers (inputs, *shape)")
    run.add_argument("--task", default="0", help="name or number (default: %(default)s)")
    options = parser.parse_args(arguments)
    accelerator = load(options)
    if options.command == "verify":
        print(json.dumps(accelerator.verify(), indent=1))
    elif options.command == "throughput":
        print(json.dumps(accelerator.throughput(options.count), indent=1))
    else:
        accelerator.set_task(options.task)
        print("\n".join(accelerator.predict(np.load(options.input, allow_pickle=False))))


if __name__ == "__main__":
    main()
