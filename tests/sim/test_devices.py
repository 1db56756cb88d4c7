"""Parts: ours, the user's, and the one line for everything that is wrong with a file of them."""

from pathlib import Path

import pytest

from sim.area import read_coefficients
from sim.devices import device, devices
from tsn_hw.core.errors import SettingsError

MINE = """
[device.xc7z020]
clock_mhz = 150

[device.mine]
family = "ecp5"
source = "data sheet of mine"
lut = 1000
ff = 1000
bram = 4
clock_mhz = 50
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "devices.toml"


def test_the_parts_that_are_promised_are_there_with_their_source() -> None:
    known = devices()
    assert list(known) == [
        "xc7z010", "xc7z020", "xc7a35t", "xc7a100t", "zu3eg", "zu7ev", "ecp5-25", "ecp5-45", "ecp5-85",
        "ice40-hx8k", "ice40-up5k",
    ]  # fmt: skip
    for part in known.values():
        assert part.capacities.source.startswith(("AMD DS", "Lattice FPGA-DS-"))
        assert part.capacities.lut_ram < part.capacities.lut
        assert part.family_name in read_coefficients().families


def test_bits_of_block_ram_are_those_of_the_data_sheets() -> None:
    """DS190: 2.1 and 4.9 Mb; DS180: 1,800 and 4,860 kb; DS891: 7.6 and 11.0 Mb; FPGA-DS-02012: 1,008 ... kb."""
    kbits = {
        name: part.capacities.bram
        * max(shape[0] * shape[1] for shape in part.family.block_shapes if len(shape) == 2)
        / 1024
        for name, part in devices().items()
    }
    assert kbits == {
        "xc7z010": 2160, "xc7z020": 5040, "xc7a35t": 1800, "xc7a100t": 4860, "zu3eg": 7776, "zu7ev": 11232,
        "ecp5-25": 1008, "ecp5-45": 1944, "ecp5-85": 3744, "ice40-hx8k": 128, "ice40-up5k": 120,
    }  # fmt: skip


def test_a_file_of_the_user_s_adds_parts_and_changes_figures(file: Path) -> None:
    file.write_text(MINE)
    known = devices(file)
    assert known["mine"].capacities.dsp == 0
    assert known["mine"].family == known["ecp5-25"].family
    assert known["xc7z020"].capacities.clock_mhz == 150.0
    assert known["xc7z020"].capacities.lut == 53200
    assert known["xc7z010"] == device("xc7z010")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("xc7z02", "did you mean xc7z020 or xc7z010 or xc7a100t?"),
        ("ECP5-25", "did you mean ecp5-25 or ecp5-85 or ecp5-45?"),
        ("", f"known are {', '.join(devices())}"),
    ],
)
def test_an_unknown_part_is_told_with_the_nearest_names(name: str, hint: str) -> None:
    with pytest.raises(SettingsError) as error:
        device(name)
    assert str(error.value) == f"device {name!r}: unknown; {hint}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[devices.x]", "unknown key 'devices'; known are family, device"),
        ("device = 3", "device: must be a table, found int"),
        ("[device.xc7z020]\nluts = 1", "device.xc7z020: unknown key 'luts'; known are family, source, lut, ff, bram, "
         "clock_mhz, lut_ram, uram, dsp, part"),
        ("[device.new]\nfamily = 'xc7'", "device.new: has no 'source'"),
        ("[device.xc7z020]\nfamily = 'xc8'", "device.xc7z020: unknown family 'xc8'; known are xc7, xcu, ecp5, ice40"),
        ("[device.xc7z020]\nlut = -1", "device.xc7z020: lut = -1: must be 0..1099511627776"),
        ("[device.xc7z020]\nclock_mhz = 0", "device.xc7z020: clock_mhz = 0.0: must be above 0"),
        ("[family.xc7]\nblock_shapes = []", "family.xc7: block_shapes = []: needs at least one"),
        ("[family.xc7]\nblock_shapes = [[512]]", "family.xc7: block_shapes: every shape has 2 or 3 numbers"),
        ("[family.xc7]\nram_shapes = [[64, 0, 1]]", "family.xc7: ram_shapes[0][1] = 0: must be 1..16777216"),
        ("[family.xc7]\ndsp_bits = [25]", "family.xc7: dsp_bits = (25,): must be two widths, or none"),
        ("[family.xc7]\nlut_inputs = 1", "family.xc7: lut_inputs = 1: must be 2..16"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line(text: str, message: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        devices(file)
    assert str(error.value) == f"{file}: {message}"
