"""Registers of multipliers and block RAMs of an ECP5: which flip-flops they replace, and which they leave."""

from copy import deepcopy

import pytest

from export.rtl.registers import absorb_registers

NARROW, WIDE = f"{18:032b}", f"{36:032b}"
CLOCK, ENABLE = 2, 3


def flip_flop(data, out, clock=CLOCK, enable=ENABLE, **changes):
    """A flip-flop of yosys; ``changes`` of its parameters and connections."""
    parameters = {"CEMUX": "CE", "CLKMUX": "CLK", "GSR": "DISABLED", "LSRMUX": "LSR", "REGSET": "RESET"}
    pins = {"CE": [enable], "CLK": [clock], "DI": [data], "Q": [out]}
    directions = dict.fromkeys(("CE", "CLK", "DI", "LSR"), "input") | {"Q": "output"}
    parameters |= {key: value for key, value in changes.items() if key in parameters}
    pins |= {key: value for key, value in changes.items() if key not in parameters}
    return {"type": "TRELLIS_FF", "parameters": parameters, "port_directions": directions, "connections": pins}


def block(kind, outputs, parameters):
    directions = dict.fromkeys(outputs, "output") | {"CLKA": "input", "CLKB": "input"}
    pins = {port: [bit] for port, bit in outputs.items()} | {"CLKA": ["0"], "CLKB": [CLOCK]}
    return {"type": kind, "parameters": dict(parameters), "port_directions": directions, "connections": pins}


def netlist(**cells):
    """Bits 20, 21 ... leave the design."""
    outputs = {"data": {"direction": "output", "bits": [20, 21]}, "clk": {"direction": "input", "bits": [CLOCK]}}
    return {"modules": {"top": {"ports": outputs, "cells": cells}}}


def cells_of(made):
    return made["modules"]["top"]["cells"]


MULTIPLIER = block("MULT18X18D", {"P0": 10, "P1": 11, "P2": 12}, {})


def test_a_multiplier_takes_the_flip_flops_behind_it():
    made = netlist(m=deepcopy(MULTIPLIER), a=flip_flop(10, 20), b=flip_flop(11, 21))  # nobody reads P2
    assert absorb_registers(made, "top") == 2
    (name, cell), *others = cells_of(made).items()
    assert (name, others) == ("m", [])
    assert cell["parameters"] == {
        "REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0", "REG_OUTPUT_RST": "RST0", "GSR": "DISABLED",
    }  # fmt: skip
    assert {pin: cell["connections"][pin] for pin in ("P0", "P1", "P2", "CLK0", "CE0", "RST0")} == {
        "P0": [20], "P1": [21], "P2": [12], "CLK0": [CLOCK], "CE0": [ENABLE], "RST0": ["0"],
    }  # fmt: skip
    assert {cell["port_directions"][pin] for pin in ("CLK0", "CE0", "RST0")} == {"input"}


def test_an_enable_that_is_always_on_stays_so():
    made = netlist(m=deepcopy(MULTIPLIER), a=flip_flop(10, 20, CEMUX="1"), b=flip_flop(11, 21, CEMUX="1"))
    assert absorb_registers(made, "top") == 2
    assert cells_of(made)["m"]["connections"]["CE0"] == ["1"]


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param({"b": flip_flop(11, 21, enable=4)}, id="two enables"),
        pytest.param({"b": flip_flop(11, 21, clock=5)}, id="two clocks"),
        pytest.param({"b": flip_flop(11, 21, LSR=[6])}, id="a reset"),
        pytest.param({"b": flip_flop(11, 21, CLKMUX="INV")}, id="the falling edge"),
        pytest.param({"b": flip_flop(11, 21, CEMUX="INV")}, id="an enable upside down"),
        pytest.param({"b": flip_flop(11, 21), "c": flip_flop(11, 22)}, id="two readers of a bit"),
        pytest.param({"b": flip_flop(7, 21, CE=[11])}, id="a reader that is no data"),
        pytest.param({"b": block("LUT4", {}, {}) | {"port_directions": {"A": "input"}, "connections": {"A": [11]}}},
                     id="logic"),
    ],
)  # fmt: skip
def test_what_is_no_register_of_the_block_stays(cells):
    made = netlist(m=deepcopy(MULTIPLIER), a=flip_flop(10, 20), **deepcopy(cells))
    before = deepcopy(made)
    assert absorb_registers(made, "top") == 0
    assert made == before


def test_a_bit_that_leaves_the_design_has_a_reader():
    made = netlist(m=block("MULT18X18D", {"P0": 20}, {}), a=flip_flop(20, 22))
    assert absorb_registers(made, "top") == 0


def test_a_block_ram_has_a_register_a_port():
    parameters = {"DATA_WIDTH_A": NARROW, "DATA_WIDTH_B": NARROW, "REGMODE_A": "NOREG", "REGMODE_B": "NOREG"}
    ram = block("DP16KD", {"DOA0": 10, "DOB0": 11}, parameters)
    made = netlist(r=ram, b=flip_flop(11, 21, enable=4))
    assert absorb_registers(made, "top") == 1
    assert cells_of(made) == {"r": ram}
    assert ram["parameters"] == parameters | {"REGMODE_B": "OUTREG"}
    assert ram["connections"] == {"DOA0": [10], "DOB0": [21], "CLKA": ["0"], "CLKB": [CLOCK], "OCEB": [4]}


def test_a_block_ram_that_answers_at_both_ports_has_one_register_and_one_clock():
    parameters = {"DATA_WIDTH_A": WIDE, "DATA_WIDTH_B": WIDE, "REGMODE_A": "NOREG", "REGMODE_B": "NOREG"}
    ram = block("DP16KD", {"DOA0": 10, "DOB0": 11}, parameters)
    made = netlist(r=deepcopy(ram), a=flip_flop(10, 20), b=flip_flop(11, 21))
    assert absorb_registers(made, "top") == 2
    found = cells_of(made)["r"]
    assert found["parameters"] == parameters | {"REGMODE_A": "OUTREG", "REGMODE_B": "OUTREG"}
    pins = {"CLKA": [CLOCK], "CLKB": [CLOCK], "OCEA": [ENABLE], "OCEB": [ENABLE]}
    assert found["connections"] == {"DOA0": [20], "DOB0": [21]} | pins
    made = netlist(r=deepcopy(ram), a=flip_flop(10, 20), b=flip_flop(11, 21, enable=4))
    assert absorb_registers(made, "top") == 0
