"""What multiplies words and activations: LUTs alone, or one DSP for two rows. The integers stay the same."""

import shutil
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from export.rtl.project import write_rtl
from export.rtl.simulation import RtlCall
from export.rtl.synthesis import synthesize
from sim.area import dsps_of, model_of, read_coefficients, unit_logic
from sim.devices import device, devices
from tests.helpers.hls import ap_types, assert_equal_integers, needs_compiler
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tests.helpers.rtl_designs import different_integers, icarus, needs_iverilog
from tsn_hw.core.errors import FoldingError
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.pipeline import accelerator

RTL = Path(__file__).parents[2] / "hls_templates" / "rtl"
NET = Recipe(widths=(24, 12), classes=4, seed=3)
needs_yosys = pytest.mark.skipif(shutil.which("yosys") is None, reason="needs yosys")

BENCH = """
module bench;
    reg clk = 0, enable = 0;
    reg [{shared}+2*{bits}-1:0] numbers[0:{count}-1];
    reg signed [{shared}-1:0] shared;
    reg signed [{bits}-1:0] first, second;
    wire signed [{shared}+{bits}-1:0] first_product, second_product;
    integer sent = 0;
    always #5 clk = !clk;
    tsn_multiply_pair #(.SHARED_BITS({shared}), .BITS({bits}), .LOW_BITS({low})) unit (
        .clk(clk), .enable(enable), .shared(shared), .first(first), .second(second),
        .first_product(first_product), .second_product(second_product)
    );
    initial begin
        $readmemh("numbers.hex", numbers);
        while (sent < {count} + 2) begin
            @(negedge clk) enable = $urandom % 3 != 0;
            {{shared, first, second}} = enable && sent < {count} ? numbers[sent] : 'bx;
            @(posedge clk) #1 if (enable) begin
                sent = sent + 1;
                if (sent > 1 && sent <= {count} + 1) $display("%0d %0d", first_product, second_product);
            end
        end
        $finish;
    end
endmodule
"""


@needs_iverilog
@pytest.mark.parametrize(("input_bits", "signed", "bits"), [(8, False, 8), (8, True, 8), (3, False, 4), (3, True, 3)])
def test_one_multiplier_gives_two_products_whatever_is_borrowed(tmp_path, input_bits, signed, bits):
    """All activations with weights at the edges, and all weights of either kind with activations at the edges."""
    least, most = (-(1 << input_bits - 1), 1 << input_bits - 1) if signed else (0, 1 << input_bits)
    half = 1 << bits - 1
    edges = sorted({-half, 1 - half, -1, 0, 1, half - 1})
    few = sorted({least, -1 if signed else 0, 0, 1, most // 2, most - 1})
    whole = range(-half, half)
    numbers = np.array(
        [*product(range(least, most), edges, edges), *product(few, whole, edges), *product(few, edges, whole)]
    )
    shared = input_bits + (not signed)
    masks = [(1 << width) - 1 for width in (shared, bits, bits)]
    words = [(x & masks[0]) << 2 * bits | (a & masks[1]) << bits | b & masks[2] for x, a, b in numbers.tolist()]
    (tmp_path / "numbers.hex").write_text("\n".join(f"{word:x}" for word in words))
    text = BENCH.format(shared=shared, bits=bits, low=input_bits + bits, count=len(words))
    (tmp_path / "bench.sv").write_text(text)
    sources = ["bench.sv", str(RTL / "tsn_multiply_pair.sv")]
    subprocess.run(["iverilog", "-g2012", "-s", "bench", "-o", "bench.vvp", *sources], cwd=tmp_path, check=True)
    done = subprocess.run(["vvp", "-n", "bench.vvp"], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = np.array([line.split() for line in done.stdout.splitlines()], np.int64)
    np.testing.assert_array_equal(found, numbers[:, :1] * numbers[:, 1:])


def made(
    recipe: Recipe, multipliers: tuple[str, ...], layouts: tuple[str, ...] = ("dense",), pe: int = 2
) -> Accelerator:
    """An accelerator whose units have these multipliers and layouts in turn."""
    net = random_network(recipe)
    chosen = settings(net, pe=pe, simd=2, layout=lambda number: layouts[number % len(layouts)])
    units = {
        name: replace(own, multiplier=multipliers[number % len(multipliers)])
        for number, (name, own) in enumerate(chosen.units.items())
    }
    return accelerator(net, replace(chosen, units=units))


@needs_iverilog
@needs_compiler
@pytest.mark.parametrize("signed_input", [False, True])
@pytest.mark.parametrize(
    ("multipliers", "layouts"), [(("packed", "lut"), ("dense", "lists")), (("lut", "packed"), ("dense",))]
)
def test_no_integer_and_no_cycle_depends_on_what_multiplies(tmp_path, multipliers, layouts, signed_input):
    recipe = replace(NET, signed_input=signed_input)
    design = made(recipe, multipliers, layouts)
    calls = [RtlCall(task, adversarial_inputs(design.net, 3, seed=task)) for task in (1, 0)]
    results = icarus(tmp_path / "rtl", design).run(calls, 40, seed=7)
    assert different_integers(design.net, calls, results) == 0
    plain = icarus(tmp_path / "plain", made(recipe, ("auto",), layouts)).run(calls, 40, seed=7)
    assert [result.cycles for result in results] == [result.cycles for result in plain]
    assert_equal_integers(design, 3)


@needs_compiler
def test_the_vendors_integer_types_multiply_alike():
    assert_equal_integers(made(NET, ("packed", "lut")), 3, ap_types())


@needs_yosys
def test_a_packed_unit_takes_half_the_dsps_and_one_of_luts_none(tmp_path):
    z020 = device("xc7z020")
    model = model_of(z020, read_coefficients())
    design, plain = (made(NET, own, pe=4) for own in (("packed", "lut"), ("auto",)))
    of_units = [[unit_logic(one, unit, z020, model).dsp for unit in one.units] for one in (plain, design)]
    assert of_units == [[8, 8], [4, 0]]
    write_rtl(design, tmp_path)
    assert synthesize(tmp_path, "xc7").resources["dsp"] == 4


def test_a_unit_tells_what_multiplies():
    told = ["fc0: 12 rows x 24 columns, 2 x 2 in a cycle", "head: 4 rows x 12 columns, 2 x 2 in a cycle"]
    assert [unit.title for unit in made(NET, ("auto",)).units] == told
    first, second = (unit.title for unit in made(NET, ("packed", "lut")).units)
    assert (first, second) == (f"{told[0]}, two rows a multiplier", f"{told[1]}, products of LUTs")


@pytest.mark.parametrize(
    ("pe", "layout", "message"),
    [
        (3, "dense", "multiplier='packed': is for two rows at a time, but pe=3; choose an even pe, 'auto' or 'lut'"),
        (2, "lists", "multiplier='packed': lanes of lists share no activation; choose 'auto' or 'lut'"),
    ],
)
def test_what_cannot_be_packed_is_refused(pe, layout, message):
    with pytest.raises(FoldingError) as error:
        made(NET, ("packed", "auto"), (layout,), pe)
    assert str(error.value) == f"layer 'fc0': {message}"


def test_rows_of_a_depthwise_convolution_cannot_be_packed():
    with pytest.raises(FoldingError, match="rows of a depthwise convolution share no activation"):
        made(Recipe(kind="depthwise", classes=4, seed=13), ("packed",))


def test_two_products_that_do_not_fit_a_dsp_are_refused_for_the_part():
    ecp5 = next(part for part in devices().values() if part.family.dsp_bits == (18, 18))
    design = made(NET, ("packed", "lut"))
    assert dsps_of(25, 9, device("xc7z020").family) == 1
    with pytest.raises(FoldingError) as error:
        unit_logic(design, design.units[0], ecp5, model_of(ecp5, read_coefficients()))
    assert str(error.value) == (
        f"layer 'fc0': multiplier='packed' takes DSPs of 25 x 9 bits, {ecp5.name} has 18 x 18; choose 'auto' or 'lut'"
    )
