"""tsn-hw board: the whole board in simulation, its pins, and a bitstream by open tools."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from export.rtl.board import boards
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tsn_hw.app.cli.main import main
from tsn_hw.core import artifact, reference

NET = random_network(Recipe(kind="mlp", tasks=2, signed_input=True, widths=(13, 8), classes=4, seed=4))
FOLDING = {"Defaults": {"PE": 2, "SIMD": 1, "mask_mode": "runtime"}}


def needs(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")


def test_a_host_classifies_over_the_serial_line_of_the_whole_board(tmp_path, capsys, monkeypatch):
    needs("verilator", "g++", "make")
    artifact.save(NET, tmp_path / "net.tsn")
    (tmp_path / "folding.json").write_text(json.dumps(FOLDING))
    folder = tmp_path / "board"
    command = ["board", str(tmp_path / "net.tsn"), "--board", "ulx3s", "-o", str(folder)]
    with monkeypatch.context() as without_tools:
        without_tools.setattr("export.project.tools.shutil.which", lambda *_, **__: None)
        assert main([*command, "--folding", str(tmp_path / "folding.json")]) == 2
    told = capsys.readouterr().err
    assert "yosys is not installed; on Debian, apt-get install yosys" in told
    assert f"{folder} is written, and make there makes the bitstream" in told

    monkeypatch.syspath_prepend(str(folder / "driver"))
    for name in ("driver", "serial_board"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    serial_board = importlib.import_module("serial_board")
    accelerator = serial_board.connect(None, timeout_s=60, folder=folder)
    try:
        for task in (0, 1, 0):  # each is loaded over the line
            inputs = adversarial_inputs(NET, 6, seed=task)
            accelerator.set_task(task)
            wanted = list(reference.run(NET, task, inputs).values())[-1]
            assert np.array_equal(accelerator.run(inputs), wanted)
            assert accelerator.predict(inputs) == [NET.tasks[task].classes[i] for i in wanted.argmax(axis=1)]
        # A host that breaks off in the midst of a command: the board forgets it, and the next host finds all as it was.
        accelerator.dma.port.write(b"\x01\x08\x00")
        accelerator.dma.port.timeout = 10.0
        again = serial_board.attach(accelerator.dma, timeout_s=60, folder=folder)
        assert np.array_equal(again.run(inputs), wanted)
    finally:
        accelerator.dma.port.close()


def test_the_pins_of_a_board_are_all_constrained_once(tmp_path):
    for name, board in boards().items():
        pins = [*board.pins.values(), *board.high]
        assert len(set(pins)) == len(pins), name
    assert {board.device for board in boards().values()} == {"ecp5-85", "ecp5-25", "ice40-up5k", "ice40-hx8k"}


MIGEN = """
from importlib import import_module
for name in ("icebreaker", "ice40_hx8k_b_evn"):
    io = {(item[0], item[1]): item[2:] for item in import_module(f"migen.build.platforms.{name}")._io}
    serial = {part.name: part.constraints[0].identifiers[0] for part in io["serial", 0] if hasattr(part, "constraints")}
    led = io.get(("user_led", 0)) or io["user_led_n", 0]
    print(io["clk12", 0][0].identifiers[0], serial["rx"], serial["tx"], led[0].identifiers[0], ("user_led_n", 0) in io)
"""


def test_pins_are_those_that_migen_knows():
    python = os.environ.get("TSN_HW_PEERS_PYTHON")
    if python is None or subprocess.run([python, "-c", "import migen"], capture_output=True).returncode:
        pytest.skip("TSN_HW_PEERS_PYTHON names no interpreter with migen (make test creates one)")
    told = subprocess.run([python, "-c", MIGEN], capture_output=True, text=True, check=True).stdout.split("\n")
    for name, line in zip(("icebreaker", "ice40hx8k-b-evn"), told, strict=False):
        board = boards()[name]
        assert [*(board.pins[port] for port in ("clk", "rx", "tx", "led")), str(board.led_low)] == line.split()


def test_a_small_network_becomes_a_bitstream_with_the_pins_of_the_board(tmp_path):
    needs("yosys", "nextpnr-ice40", "icepack", "make")
    net = random_network(Recipe(kind="mlp", tasks=2, widths=(4,), classes=2, seed=4))
    artifact.save(net, tmp_path / "net.tsn")
    assert main(["board", str(tmp_path / "net.tsn"), "--board", "icebreaker", "-o", str(tmp_path / "board")]) == 0
    placed = (tmp_path / "board/build/board.asc").read_text()
    assert (tmp_path / "board/build/board.bin").stat().st_size > 100_000
    assert re.search(r"^\.device 5k$", placed, re.MULTILINE)
    assert (tmp_path / "board/board/pins.pcf").read_text() == "set_io clk 35\nset_io rx 6\nset_io tx 9\nset_io led 11\n"
    log = (tmp_path / "board/build/nextpnr.log").read_text()
    for port, pin in boards()["icebreaker"].pins.items():
        assert re.search(rf"constrained '{port}' to bel '\S+'", log), pin


def test_an_unknown_board_and_a_board_with_a_missing_pin_are_told(tmp_path, capsys):
    artifact.save(NET, tmp_path / "net.tsn")
    command = ["board", str(tmp_path / "net.tsn"), "-o", str(tmp_path / "board"), "--board"]
    assert main([*command, "arty"]) == 2
    assert "--board arty: is none of ulx3s, colorlight-i5" in capsys.readouterr().err
    (tmp_path / "mine.toml").write_text('[ulx3s]\ndevice = "xc7z020"\n')
    assert main([*command, "ulx3s", "--board-file", str(tmp_path / "mine.toml")]) == 2
    assert "ulx3s: device is of ecp5, ice40, pins are those of clk, rx, tx, led" in capsys.readouterr().err
