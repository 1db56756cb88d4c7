"""The simulation headers against Python's integers and the vendor's types; the rounding of C++ on the shared cases."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers.hls import ap_types, needs_compiler

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parents[1] / "hls_programs"
TEMPLATES = ROOT / "hls_templates"
CASES = json.loads((Path(__file__).parents[1] / "cases" / "requantize.json").read_text())

pytestmark = needs_compiler


def compile_program(source: Path, program: Path, vendor: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = ["g++", "-std=c++14", "-O0", "-Wno-unknown-pragmas", f"-I{TEMPLATES}", f"-I{TEMPLATES / 'csim'}"]
    if vendor is not None:
        command += ["-DAP_INT_MAX_W=4096", "-isystem", str(vendor), "-include", str(vendor / "ap_int.h")]
    return subprocess.run([*command, source, "-o", program], capture_output=True, text=True)


def output(name: str, folder: Path, vendor: Path | None = None, given: str = "") -> str:
    compiled = compile_program(PROGRAMS / f"{name}.cpp", folder / name, vendor)
    assert compiled.returncode == 0, compiled.stderr
    return subprocess.run([folder / name], input=given, capture_output=True, text=True, check=True).stdout


def in_range(value: int, bits: int, signed: bool) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> bits - 1 else value


def digits(value: int, bits: int) -> str:
    return f"{value & ((1 << bits) - 1):0{(bits + 63) // 64 * 16}x}"


def expected_arithmetic(sign: str, width: int, a_bits: int, b_bits: int, amount: int) -> list[str]:
    a, b = (in_range(bits, width, s == "s") for bits, s in zip((a_bits, b_bits), sign, strict=True))
    comparisons = (a < b) + 2 * (a == b) + 4 * (a > 0) + 8 * (a != b) + 16 * (b >= a)
    values = [a + b, a - b, a * b, a * 3 + b - 1, a >> amount, comparisons]
    return [digits(v, 64) for v in values] + [digits(v, width) for v in (a * b, a + b - 4)]


def expected_bits(sign: str, numbers: list[int], a_bits: int) -> list[str]:
    width, other_width, low, high, bit = numbers
    a = in_range(a_bits, width, sign[0] == "s")
    other, mask = a & ((1 << other_width) - 1), ((1 << high - low + 1) - 1) << low
    value = a & ((1 << width) - 1)
    cut = (value & mask) >> low
    changed = value & ~mask | other << low & mask
    flipped = changed & ~(1 << bit) | (1 - (a >> bit & 1)) << bit
    filled = flipped & ~mask | ((1 << 64) - 1) << low & mask
    found = [digits(other, other_width), digits(cut, other_width), digits(a >> bit & 1, 64)]
    found += [digits(v, width) for v in (changed, flipped, filled)]
    return [*found, digits(a >> bit & 1, 64), digits(a & 0xFFFFFFFF, 64), digits(in_range(a, 32, True), 64)]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """What our integers compute."""
    return output("integers", tmp_path_factory.mktemp("integers"))


def test_integers_of_simulation_compute_like_pythons(ours):
    lines = ours.splitlines()
    assert len(lines) == 6 * 600 + 10 * 400
    for line in lines:
        what, sign, *rest = line.split()
        if what == "arithmetic":
            width, (a, b, amount) = int(rest[0]), (int(text, 16) for text in rest[1:4])
            assert rest[4:] == expected_arithmetic(sign, width, a, b, amount), line
        else:
            assert rest[6:] == expected_bits(sign, [int(text) for text in rest[:5]], int(rest[5], 16)), line


def test_the_vendors_integers_compute_the_same(ours, tmp_path):
    assert output("integers", tmp_path, ap_types()) == ours


@pytest.mark.parametrize("types", ["ours", "the vendor's"])
def test_rounding_and_saturation_follow_the_cases(types, tmp_path):
    rows = [row for rows in CASES["rules"].values() for row in rows]
    given = "".join(" ".join(str(int(field)) for field in row[:6]) + "\n" for row in rows)
    found = output("requantize", tmp_path, None if types == "ours" else ap_types(), given).split()
    assert found == [str(row[6]) for row in rows]


def test_a_field_may_begin_at_any_bit_of_a_line(tmp_path):
    line = 0x13579BDF02468ACE_FEDCBA9876543210_0123456789ABCDEF
    lines = output("fields", tmp_path).splitlines()
    assert len(lines) == sum(193 - bits for bits in (1, 4, 6, 16, 32, 63, 64))
    for bits, low, content in (text.split() for text in lines):
        assert int(content, 16) == line >> int(low) & ((1 << int(bits)) - 1)


def test_streams_keep_order_and_tell_what_is_wrong(tmp_path):
    assert output("streams", tmp_path).splitlines() == [
        "1 0 2 3 4, peak 5, empty 0",
        "left in kept",
        "stream 'nothing' is read while it is empty",
    ]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("ap_uint<8> a = 1; a << 2;", "use of deleted function"),
        ("ap_uint<8> a = 1; a.range(3, 0) << 2;", "use of deleted function"),
        ("ap_uint<64> a = 1; a + 1;", "arithmetic is for up to 64 bits signed, 63 unsigned"),
        ("ap_uint<65> a = 1; a + 1;", "arithmetic is for up to 64 bits signed, 63 unsigned"),
        ("ap_axiu<64, 1, 0, 0> a;", "no side channels"),
    ],
)
def test_what_the_vendors_types_would_do_otherwise_does_not_compile(statement, error, tmp_path):
    source = tmp_path / "wrong.cpp"
    source.write_text(f'#include "ap_axi_sdata.h"\nint main() {{ {statement} return 0; }}\n')
    compiled = compile_program(source, tmp_path / "wrong")
    assert compiled.returncode != 0
    assert error in compiled.stderr
