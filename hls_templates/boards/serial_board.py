"""The accelerator on a board with a serial line, from a host: the commands of driver.py.

::

    python3 driver/serial_board.py --port /dev/ttyUSB0 verify
    python3 driver/serial_board.py --port /dev/ttyUSB0 run input.npy --task 3
    python3 driver/serial_board.py --simulate verify            # the board in Verilator: make simulation

    from serial_board import connect

    accelerator = connect("/dev/ttyUSB0")       # a TsnAccelerator of driver.py
    accelerator.set_task(1)
    names = accelerator.predict(integers)

The line speaks LiteX's UARTBone (board/tsn_uartbone.sv). It needs numpy, and pyserial for a port.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import driver
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
WRITE, READ, WRITE_FIXED, READ_FIXED = 1, 2, 3, 4
LOGIT, STREAMS, RESTART, BEATS = 0x80, 0x84, 0x88, 0x100
BURST_BEATS, BURSTS = 30, 2  # two bursts and a read are 498 of the 512 bytes that the board keeps while its bus waits
FORGETS_S = 0.5  # a command that was broken off is forgotten after so long; one that the bus held up, after seconds
TRIES = 3


class SimulatedPort:
    """The serial line of the board in Verilator, as pyserial has one."""

    def __init__(self, folder: Path, timeout: float = 60.0) -> None:
        subprocess.run(["make", "-s", "simulation"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        self.timeout = timeout
        self.process = subprocess.Popen(
            ["build/simulation/board"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.process.stdin.write(data)

    def read(self, count: int) -> bytes:
        """As many bytes, or fewer after the time-out."""
        found, end, output = b"", time.monotonic() + self.timeout, self.process.stdout.fileno()
        while len(found) < count and select.select([output], [], [], max(0.0, end - time.monotonic()))[0]:
            come = os.read(output, count - len(found))
            if not come:
                break
            found += come
        return found

    def reset_input_buffer(self) -> None:
        """Forget what came and was not read."""
        while select.select([self.process.stdout], [], [], 0)[0] and os.read(self.process.stdout.fileno(), 4096):
            pass

    def close(self) -> None:
        """End the simulation."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class SerialLine:
    """Registers of the accelerator over a serial line, and in place of a DMA what moves its beats and logits.

    A line does one thing after the other: what was started is moved when the call begins.
    """

    def __init__(self, port: Any) -> None:
        self.port = port
        self._queued: dict[int, tuple[Any, int]] = {}
        self._received_bytes = 0

    def read(self, offset: int) -> int:
        """A register."""
        return self._words(READ, offset, 1)[0]

    def write(self, offset: int, value: int) -> None:
        """Write a register; a start also moves what the call reads and writes."""
        self.port.write(_command(WRITE, offset, [value]))
        if offset == driver.CONTROL and value & driver.START:
            if driver.Dma.SEND in self._queued:
                self._send(*self._queued.pop(driver.Dma.SEND))
            if driver.Dma.RECEIVE in self._queued:
                self._receive(*self._queued.pop(driver.Dma.RECEIVE))

    def start(self, channel: int, buffer: Any, size_bytes: int) -> None:
        """What the next call takes (SEND) or gives (RECEIVE)."""
        self._queued[channel] = (buffer, size_bytes)

    def is_done(self, channel: int) -> bool:
        """Whether it was moved."""
        return channel not in self._queued

    def received_bytes(self) -> int:
        """Bytes that the last call gave."""
        return self._received_bytes

    def reset(self) -> None:
        """Let the board forget a command that was broken off, and reset the accelerator."""
        self._queued.clear()
        for _ in range(TRIES):
            time.sleep(FORGETS_S)
            self.port.reset_input_buffer()
            self.port.write(_command(WRITE, RESTART, [1]))
            try:
                self.read(STREAMS)
            except driver.DriverTimeoutError:
                continue
            return
        raise driver.DriverTimeoutError("serial line: the board does not answer; is it loaded, and is this its port?")

    def _send(self, buffer: Any, size_bytes: int) -> None:
        words = np.ascontiguousarray(buffer).reshape(-1).view("<u4")[: size_bytes // 4].tolist()
        burst = 2 * BURST_BEATS
        for first in range(0, len(words), BURSTS * burst):
            part = words[first : first + BURSTS * burst]
            bursts = [_command(WRITE, BEATS, part[start : start + burst]) for start in range(0, len(part), burst)]
            self.port.write(b"".join(bursts))
            self.read(STREAMS)  # is answered when all before it was taken

    def _receive(self, buffer: Any, size_bytes: int) -> None:
        count = size_bytes // 4
        words = [
            word for first in range(0, count, 255) for word in self._words(READ_FIXED, LOGIT, min(255, count - first))
        ]
        buffer.reshape(-1)[:count] = np.array(words, "<u4").view("<i4")
        self._received_bytes = 4 * len(words)

    def _words(self, command: int, address: int, count: int) -> tuple[int, ...]:
        self.port.write(_command(command, address, count))
        found = self.port.read(4 * count)
        if len(found) != 4 * count:
            raise driver.DriverTimeoutError(f"serial line: {len(found)} of {4 * count} bytes came from 0x{address:02x}")
        return struct.unpack(f">{count}I", found)


def _command(command: int, address: int, words: Any) -> bytes:
    """The bytes of a command: words to write, or how many to read."""
    count, data = (words, []) if isinstance(words, int) else (len(words), words)
    return struct.pack(f">BBI{len(data)}I", command, count, address // 4, *data)


class Buffer(np.ndarray):
    """What driver.py fills and reads, in the memory of the host."""

    device_address = 0

    def flush(self) -> None:
        """Nothing lies between."""

    invalidate = freebuffer = flush


def connect(port: str | None, timeout_s: float = 5.0, folder: Path = ROOT) -> driver.TsnAccelerator:
    """The accelerator at a serial port; None: in simulation."""
    if port is None:
        line = SerialLine(SimulatedPort(folder))
    else:
        import serial

        baud = json.loads((folder / "driver" / "board.json").read_text())["baud"]
        line = SerialLine(serial.Serial(port, baud, timeout=timeout_s))
    return attach(line, timeout_s, folder)


def attach(line: SerialLine, timeout_s: float = 5.0, folder: Path = ROOT) -> driver.TsnAccelerator:
    """The accelerator at the other end of a line, after a reset."""
    line.reset()
    return driver.TsnAccelerator(
        folder, line, line, lambda shape, dtype: np.zeros(shape, dtype).view(Buffer), timeout_s, batch=1
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of the host."""
    parser = argparse.ArgumentParser(description="Run an accelerator on a board with a serial line.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", help="serial port of the board: /dev/ttyUSB0")
    where.add_argument("--simulate", action="store_true", help="the board in Verilator instead")
    driver.main(arguments, parser, lambda options: connect(options.port, options.timeout))


if __name__ == "__main__":
    main()
