"""From a network to a board: folding, RTL, pins, a host's driver with golden data, a bitstream."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from export.hls.driver import driver_json, golden_npz
from export.project.folding_json import final_config_json, folding_json
from export.rtl.board import Bitstream, Board, board_files, boards, make_bitstream
from export.rtl.project import write_rtl
from tsn_hw.app.hardware.choose import (
    GOLDEN_INPUTS,
    Chosen,
    HardwareRequest,
    choose,
    driver_golden,
    golden_run,
    too_large,
    unit_table,
)
from tsn_hw.app.hardware.datasheet import SHEET, data_sheet
from tsn_hw.app.hardware.platform import platform
from tsn_hw.app.output import CommandResult, Note, Table
from tsn_hw.core import artifact
from tsn_hw.core.errors import EngineError, FoldingError, SettingsError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, unit_names
from tsn_hw.learn.progress import stage


def write_board(path: Path, folder: Path, name: str, folding: Path | None, board_file: Path | None) -> CommandResult:
    """Write the project of a network on a board, and make its bitstream.

    Without a folding file: the smallest accelerator that is as fast as the serial line, or the fastest that fits.
    Raises SettingsError for an unknown board, FoldingError for what does not fit, EngineError where there is no
    bitstream; the project is there then.
    """
    known = boards(board_file)
    if name not in known:
        raise SettingsError(f"--board {name}: is none of {', '.join(known)}; --board-file describes others")
    board, net = known[name], artifact.load(path)
    chosen = _chosen(net, board, folding)
    if not chosen.estimate.fits:
        raise FoldingError(f"{chosen.how}: {too_large(chosen.estimate)}; fold more, or choose a larger board")
    write_rtl(chosen.accelerator, folder, _files(name, board, chosen))
    try:
        with stage(f"yosys and nextpnr make the bitstream of {folder} for {board.title}"):
            made = make_bitstream(folder, board)
    except EngineError as error:
        raise EngineError(f"{error}; {folder} is written, and make there makes the bitstream") from error
    return _result(folder, board, chosen, made)


def _chosen(net: PackedNetwork, board: Board, folding: Path | None) -> Chosen:
    target = platform(board.device)
    if folding is not None:
        return choose(net, HardwareRequest(target, board.clock_mhz, folding))
    least = accelerator(net, HardwareSettings(dict.fromkeys(unit_names(net), UnitSettings(Folding(1)))))
    rate = board.inferences_per_second(least.input_beats, least.head.rows)
    try:
        return choose(net, HardwareRequest(target, board.clock_mhz, target_fps=rate))
    except FoldingError:
        return choose(net, HardwareRequest(target, board.clock_mhz))


def _files(name: str, board: Board, chosen: Chosen) -> dict[str, bytes]:
    made, estimate = chosen.accelerator, chosen.estimate
    golden = [golden_run(made.net, task, GOLDEN_INPUTS) for task in range(len(made.net.tasks))]
    texts = {
        "folding.json": folding_json(made.settings, made.net),
        SHEET: data_sheet(made),
        "final_hw_config.json": final_config_json(made),
        "driver/accelerator.json": driver_json(
            made, board.clock_mhz, estimate.interval_cycles, estimate.latency_cycles, can_abort=True
        ),
    }
    files = {path: text.encode() for path, text in texts.items()}
    return files | board_files(name, board) | {"driver/golden.npz": golden_npz(*driver_golden(made, golden))}


def _result(folder: Path, board: Board, chosen: Chosen, made: Bitstream) -> CommandResult:
    design, estimate = chosen.accelerator, chosen.estimate
    line = board.inferences_per_second(design.input_beats, design.head.rows)
    cells = [[cell, used] for cell, used in sorted(made.cells.items())]
    told = (
        f"{folder}/{made.path}: {made.fmax_mhz:.1f} MHz reached, {board.clock_mhz:g} needed; {board.program} loads it\n"
        f"estimated {estimate.inferences_per_second:.1f} inferences a second, and at most {line:.1f} over the line\n"
        f"python3 {folder}/driver/serial_board.py --port /dev/ttyUSB0 verify    # --simulate: in Verilator"
    )
    values = {
        "folder": str(folder),
        "board": board.title,
        "chosen": chosen.how,
        "clock_mhz": board.clock_mhz,
        "line_inferences_per_second": line,
        **asdict(made),
    }
    used = Table.of_rows(["cell", "used"], cells, board.title)
    return CommandResult([Note(chosen.how), unit_table(design, estimate), used, Note(told)], values)
