"""Output registers of an ECP5's block RAMs: which flip-flops they replace, which they leave, and the same integers."""

import shutil
from copy import deepcopy

import numpy as np
import pytest

from export.rtl.project import write_rtl
from export.rtl.registers import absorb_registers
from export.rtl.simulation import RtlCall, compile_rtl
from export.rtl.synthesis import synthesize
from tests.helpers.ecp5_cells import CELLS, simulated
from tests.helpers.handmade import U8, linear, requantization
from tests.helpers.networks import adversarial_inputs
from tests.helpers.rtl_designs import icarus, needs_iverilog
from tsn_hw.core import reference
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator

needs_yosys = pytest.mark.skipif(shutil.which("yosys") is None, reason="needs yosys")
CLOCK, ENABLE = 2, 3


def flip_flop(data, out, clock=CLOCK, enable=ENABLE, **changes):
    """A flip-flop of yosys; ``changes`` of its parameters and connections."""
    parameters = {"CEMUX": "CE", "CLKMUX": "CLK", "GSR": "DISABLED", "LSRMUX": "LSR", "REGSET": "RESET"}
    pins = {"CE": [enable], "CLK": [clock], "DI": [data], "Q": [out]}
    directions = dict.fromkeys(("CE", "CLK", "DI", "LSR"), "input") | {"Q": "output"}
    parameters |= {key: value for key, value in changes.items() if key in parameters}
    pins |= {key: value for key, value in changes.items() if key not in parameters}
    return {"type": "TRELLIS_FF", "parameters": parameters, "port_directions": directions, "connections": pins}


def block(width_b=18, **changes):
    """A block RAM whose outputs are DOA0 and DOB0, DOB1; port B reads."""
    parameters = {"DATA_WIDTH_B": f"{width_b:032b}", "REGMODE_A": "NOREG", "REGMODE_B": "NOREG"}
    parameters |= {"CLKAMUX": "CLKA", "CLKBMUX": "CLKB"}
    pins = {"DOA0": [10], "DOB0": [11], "DOB1": [12], "CLKA": ["0"], "CLKB": [CLOCK], "OCEA": ["1"], "OCEB": ["1"]}
    pins |= {"RSTA": ["0"], "RSTB": ["0"]}
    parameters |= {key: value for key, value in changes.items() if key in parameters}
    pins |= {key: value for key, value in changes.items() if key in pins}
    directions = {pin: "output" if pin.startswith("DO") else "input" for pin in pins}
    return {"type": "DP16KD", "parameters": parameters, "port_directions": directions, "connections": pins}


def netlist(**cells):
    """Bits 20, 21 ... leave the design."""
    outputs = {"data": {"direction": "output", "bits": [20, 21]}, "clk": {"direction": "input", "bits": [CLOCK]}}
    return {"ports": outputs, "cells": cells}


def test_a_port_takes_the_flip_flops_behind_it_and_their_enable():
    made = netlist(r=block(DOA0=[9]), a=flip_flop(11, 20), b=flip_flop(12, 21))  # nobody reads bit 9
    assert absorb_registers(made) == 2
    assert made == netlist(r=block(DOA0=[9], DOB0=[20], DOB1=[21], OCEB=[ENABLE], REGMODE_B="OUTREG"))


def test_an_enable_that_is_always_on_stays_so():
    made = netlist(r=block(OCEB=[7]), a=flip_flop(11, 20, CEMUX="1"), b=flip_flop(12, 21, CEMUX="1"))
    assert absorb_registers(made) == 2
    assert made["cells"]["r"]["connections"]["OCEB"] == ["1"]


def test_a_block_that_answers_at_both_ports_has_the_register_of_port_b():
    flip_flops = {"a": flip_flop(10, 20), "b": flip_flop(11, 21), "c": flip_flop(12, 22)}
    made = netlist(r=block(36), **deepcopy(flip_flops))
    assert absorb_registers(made) == 3
    both = {"REGMODE_A": "OUTREG", "REGMODE_B": "OUTREG", "CLKA": [CLOCK], "OCEA": [ENABLE], "OCEB": [ENABLE]}
    assert made == netlist(r=block(36, DOA0=[20], DOB0=[21], DOB1=[22], **both))
    flip_flops["a"]["connections"]["CE"] = [4]
    assert absorb_registers(netlist(r=block(36), **flip_flops)) == 0


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param({"b": flip_flop(12, 21, enable=4)}, id="two enables"),
        pytest.param({"b": flip_flop(12, 21, clock=5)}, id="two clocks"),
        pytest.param({"b": flip_flop(12, 21, LSR=[6])}, id="a reset"),
        pytest.param({"b": flip_flop(12, 21, CLKMUX="INV")}, id="the falling edge"),
        pytest.param({"b": flip_flop(12, 21, CEMUX="INV")}, id="an enable upside down"),
        pytest.param({"b": flip_flop(12, 21), "c": flip_flop(12, 22)}, id="two readers of a bit"),
        pytest.param({"b": flip_flop(7, 21, CE=[12])}, id="a reader that is no data"),
        pytest.param({"b": {"type": "LUT4", "parameters": {}, "port_directions": {"A": "input"},
                            "connections": {"A": [12]}}}, id="logic"),
        pytest.param({"r": block(DOB1=[21])}, id="a bit that leaves the design"),
        pytest.param({"r": block(DOB1=[9], CLKB=[5])}, id="another clock than that of the port"),
        pytest.param({"r": block(DOB1=[9], CLKBMUX="INV")}, id="the falling edge of the port"),
        pytest.param({"r": block(DOB1=[9], RSTB=[6])}, id="a reset of the port"),
    ],
)  # fmt: skip
def test_what_is_no_register_of_the_port_stays(cells):
    made = netlist(**{"r": block(), "a": flip_flop(11, 20)} | deepcopy(cells))
    before = deepcopy(made)
    assert absorb_registers(made) == 0
    assert made == before


@needs_iverilog
@needs_yosys
def test_a_netlist_of_ecp5_cells_gives_the_integers_of_the_reference_in_the_cycles_of_the_rtl(tmp_path):
    weights = np.random.default_rng(2).integers(-3, 4, (4, 160))
    net = linear(weights, requantization(None, channels=4), U8, head=False)
    design = accelerator(net, HardwareSettings({"head": UnitSettings(Folding(1, 2), ram_style="block")}))
    write_rtl(design, tmp_path)
    synthesize(tmp_path, "ecp5")
    text = (tmp_path / "synthesis" / "ecp5.v").read_text()
    for port in "AB":
        assert f'.REGMODE_{port}("OUTREG")' in text
    (tmp_path / "ecp5.v").write_text(simulated(text))
    compiled = compile_rtl(design, tmp_path, ["ecp5.v", *CELLS])
    inputs = adversarial_inputs(net, 4)
    for stall_percent in (0, 40):
        (result,) = compiled.run([RtlCall(0, inputs)], stall_percent, seed=7)
        np.testing.assert_array_equal(result.layers["fc"], reference.run(net, 0, inputs)["fc"])
    (rtl,) = icarus(tmp_path / "again", design).run([RtlCall(0, inputs)], stall_percent, seed=7)
    assert result.cycles == rtl.cycles
