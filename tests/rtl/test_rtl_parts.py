"""Deep memories in parts side by side, and multipliers of ECP5 and of LUTs: the same integers."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.rtl.simulation import RtlCall
from tests.helpers.ecp5_cells import MULTIPLIER
from tests.helpers.images import settings
from tests.helpers.networks import adversarial_inputs, random_network
from tests.helpers.rtl_designs import different_integers, icarus, loaded, needs_iverilog
from tests.rtl.test_rtl import MLP
from tsn_hw.hardware import memories
from tsn_hw.hardware.memories import Memory
from tsn_hw.hardware.pipeline import accelerator

RTL = Path(__file__).parents[2] / "hls_templates" / "rtl"


@pytest.mark.parametrize(
    ("depth", "width", "part", "choices", "cycles"),
    [
        (512, 224, 512, (), 2),
        (1024, 4, 1024, (), 2),
        (2049, 9, 2048, (1,), 3),
        (19_600, 24, 2048, (3, 1), 4),  # ten parts, 27 blocks of 2048 x 9
        (58_800, 24, 2048, (8, 2, 1), 5),
        (58_800, 1, 16_384, (1,), 3),
    ],
)
def test_words_lie_behind_one_another_as_deep_as_the_cheapest_block(depth, width, part, choices, cycles):
    found = Memory("fc", "words", depth, width)
    assert (found.part_words, found.choices, found.read_cycles) == (part, choices, cycles)
    assert Memory("fc", "words", depth, width, writable=True).read_cycles == 2
    assert Memory("fc", "vector", depth, width).part_words == depth


@needs_iverilog
@pytest.mark.parametrize("layouts", [("dense",), ("lists", "dense")])
def test_units_read_memories_in_parts(tmp_path, monkeypatch, layouts):
    """With blocks of few words, so that small networks have as many parts as large ones."""
    monkeypatch.setattr(memories, "BLOCK_SHAPES", ((128, 1), (64, 2), (32, 4), (16, 9), (8, 18)))
    net = random_network(replace(MLP, widths=(24, 12), classes=3))
    chosen = settings(net, pe=2, simd=2, layout=lambda number: layouts[number % len(layouts)])
    design = loaded(accelerator(net, chosen), "deep", "block")
    levels = {len(layout.memory.choices) for layout in design.layouts}
    assert {0, 2} <= levels
    calls = [RtlCall(task, adversarial_inputs(net, 1, seed=task)) for task in (3, 1)]
    compiled = icarus(tmp_path, design)
    for stall_percent in (0, 40):
        assert different_integers(net, calls, compiled.run(calls, stall_percent, seed=7)) == 0


BENCH = """
module bench;
    reg clk = 0, enable = 0;
    reg signed [{first}-1:0] first;
    reg signed [{second}-1:0] second;
    wire signed [{first}+{second}-1:0] product;
    reg signed [63:0] numbers[0:{count}-1][0:1];
    integer i, sent = 0;
    always #5 clk = !clk;
    tsn_multiply #(.FIRST_BITS({first}), .SECOND_BITS({second}), .FACTORS_HELD({held}), .IN_LUTS({in_luts})) unit (
        .clk(clk), .enable(enable), .first(first), .second(second), .product(product)
    );
    initial begin
{numbers}
        while (sent < {count} + 2) begin
            @(negedge clk) enable = $urandom % 3 != 0;
            first = enable && sent < {count} ? numbers[sent][0] : 'bx;
            second = enable && sent < {count} ? numbers[sent][1] : 'bx;
            @(posedge clk) #1 if (enable) begin
                sent = sent + 1;
                if (sent > {held} && sent <= {count} + {held}) $display("%0d", product);
            end
        end
        $finish;
    end
endmodule
"""


@needs_iverilog
@pytest.mark.parametrize(("first", "second", "held"), [(9, 8, 1), (18, 18, 1), (18, 12, 0), (2, 2, 1), (24, 9, 0)])
def test_the_multipliers_of_ecp5_and_of_luts_give_the_products_of_the_portable_one(tmp_path, first, second, held):
    rng = np.random.default_rng(first)
    ends = [[a, b] for a in (-(1 << first - 1), (1 << first - 1) - 1, 0, -1) for b in (-(1 << second - 1), 1, 0)]
    numbers = ends + [
        [int(rng.integers(-(1 << bits - 1), 1 << bits - 1)) for bits in (first, second)] for _ in range(60)
    ]
    lines = "\n".join(f"        numbers[{i}][{j}] = {n};" for i, pair in enumerate(numbers) for j, n in enumerate(pair))
    sources = ["bench.sv", str(RTL / "tsn_multiply.sv"), str(RTL / "tsn_multiply_lut.sv")]
    for macro, in_luts in (((), 0), (("-DTSN_ECP5",), 0), ((), 1), (("-DTSN_ECP5",), 1)):
        bench = BENCH.format(first=first, second=second, held=held, in_luts=in_luts, count=len(numbers), numbers=lines)
        (tmp_path / "bench.sv").write_text(MULTIPLIER + bench)
        subprocess.run(
            ["iverilog", "-g2012", *macro, "-s", "bench", "-o", "bench.vvp", *sources], cwd=tmp_path, check=True
        )
        done = subprocess.run(["vvp", "-n", "bench.vvp"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert [int(line) for line in done.stdout.splitlines()] == [a * b for a, b in numbers]
