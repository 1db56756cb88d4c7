"""An example in cocotb: one inference of the accelerator in Icarus Verilog, with waveforms if asked for.

::

    pip install cocotb
    python integration/tsn_cocotb.py --task 1 --input 1,2,3 --waves     # prints logits; simulation/cocotb/*.fst

It is a test bench to begin one's own with: AXI4-Lite and both streams are a few lines each. Activations that are not
given are 0.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
CONTROL, START, DONE = 0x00, 1, 2
TASK, COUNT, COMMAND, STATUS, CYCLES = 0x10, 0x18, 0x20, 0x28, 0x30


def numbers() -> dict[str, int]:
    """What driver/tsn_numbers.h says of the network."""
    text = (ROOT / "driver" / "tsn_numbers.h").read_text()
    return {name: int(value) for name, value in re.findall(r"#define TSN_(\w+) (\d+)", text)}


async def edge(dut: Any, signal: Any) -> int:
    """Wait for the clock edge at which a signal is 1; what rdata and tdata hold there."""
    while True:
        await ReadOnly()
        taken, words = int(signal.value), (dut.s_axi_control_rdata.value, dut.m_axis_tdata.value)
        await RisingEdge(dut.aclk)
        if taken:
            word = words[0] if signal is dut.s_axi_control_rvalid else words[1]
            return int(word) if word.is_resolvable else 0


async def write(dut: Any, address: int, value: int) -> None:
    """Write a register."""
    dut.s_axi_control_awaddr.value, dut.s_axi_control_wdata.value = address, value
    dut.s_axi_control_awvalid.value = dut.s_axi_control_wvalid.value = 1
    await edge(dut, dut.s_axi_control_awready)
    dut.s_axi_control_awvalid.value = dut.s_axi_control_wvalid.value = 0
    await edge(dut, dut.s_axi_control_bvalid)


async def read(dut: Any, address: int) -> int:
    """Read a register."""
    dut.s_axi_control_araddr.value, dut.s_axi_control_arvalid.value = address, 1
    await edge(dut, dut.s_axi_control_arready)
    dut.s_axi_control_arvalid.value = 0
    return await edge(dut, dut.s_axi_control_rvalid)


async def send(dut: Any, beats: Sequence[int]) -> None:
    """Give beats to the input stream."""
    for beat in beats:
        dut.s_axis_tdata.value, dut.s_axis_tvalid.value = beat, 1
        await edge(dut, dut.s_axis_tready)
    dut.s_axis_tvalid.value = 0


@cocotb.test()
async def one_inference(dut: Any) -> None:
    """The logits of a task for an input, both from the environment; they are left in simulation/cocotb/logits.json."""
    given, task = json.loads(os.environ["TSN_INPUT"]), int(os.environ["TSN_TASK"])
    sizes = numbers()
    bits = sizes["CONTAINER_BITS"]
    lanes = [value % 2**bits for value in given] + [0] * (sizes["ACTIVATIONS"] - len(given))
    per_beat = 64 // bits
    parts = [lanes[first : first + per_beat] for first in range(0, len(lanes), per_beat)]
    beats = [sum(lane << bits * place for place, lane in enumerate(part)) for part in parts]

    cocotb.start_soon(Clock(dut.aclk, 10, "ns").start())
    for name in ("awvalid", "wvalid", "arvalid"):
        getattr(dut, f"s_axi_control_{name}").value = 0
    dut.s_axi_control_wstrb.value, dut.s_axi_control_bready.value, dut.s_axi_control_rready.value = 15, 1, 1
    dut.s_axis_tvalid.value, dut.m_axis_tready.value, dut.aresetn.value = 0, 1, 0
    for _ in range(4):
        await RisingEdge(dut.aclk)
    dut.aresetn.value = 1
    await RisingEdge(dut.aclk)

    for address, value in ((TASK, task), (COUNT, 1), (COMMAND, 0), (CONTROL, START)):
        await write(dut, address, value)
    cocotb.start_soon(send(dut, beats))
    words = [await edge(dut, dut.m_axis_tvalid) for _ in range(sizes["LOGITS"])]
    while not await read(dut, CONTROL) & DONE:
        pass
    assert await read(dut, STATUS) == 0
    logits = [word - 2**32 * (word >> 31) for word in words]
    dut._log.info(f"task {task}: logits {logits} in {await read(dut, CYCLES)} cycles")
    Path("logits.json").write_text(json.dumps(logits))


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile the accelerator and run the inference above."""
    from cocotb_tools.runner import get_runner

    parser = argparse.ArgumentParser(description="One inference in cocotb and Icarus Verilog.")
    parser.add_argument("--task", default="0")
    parser.add_argument("--input", default="", help="activations: 1,2,3")
    parser.add_argument("--waves", action="store_true", help="write simulation/cocotb/tsn_accelerator.fst")
    options = parser.parse_args(arguments)
    build = ROOT / "simulation" / "cocotb"
    runner = get_runner("icarus")
    memories = {"TSN_MEMORIES": f'"{ROOT}/memories/"'}
    flags = {"hdl_toplevel": "tsn_accelerator", "waves": options.waves}
    sources = sorted((ROOT / "rtl").glob("*.sv"))
    runner.build(
        sources=sources,
        build_dir=build,
        always=True,
        build_args=["-g2012"],
        defines=memories,
        timescale=("1ns", "1ns"),
        **flags,
    )
    values = [int(value) for value in options.input.split(",") if value]
    environment = {"TSN_TASK": options.task, "TSN_INPUT": json.dumps(values)}
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    results = runner.test(test_module="tsn_cocotb", build_dir=build, test_dir=build, extra_env=environment, **flags)
    if "<failure" in Path(results).read_text():
        sys.exit(1)


if __name__ == "__main__":
    main()
