"""II = 1 in every loop, as far as what a step hands to the next decides it: an estimate, without memories."""

import shutil

import pytest

from export.hls.csim import TEMPLATES
from export.hls.project import rendered_files
from tests.helpers.cpp_lint.recurrences import BUDGET_NS, compiled_loops
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, random_network
from tsn_hw.core.files import write_files
from tsn_hw.hardware.pipeline import accelerator

pytestmark = pytest.mark.skipif(shutil.which("clang++") is None, reason="clang++ is not installed")
FOLDERS = [str(TEMPLATES), str(TEMPLATES / "firmware"), str(TEMPLATES / "csim")]


def test_what_a_step_hands_on_is_ready_for_the_next(tmp_path):
    net = random_network(Recipe(kind="residual", tasks=3, classes=5, multipliers=True, seed=3))
    design = accelerator(net, settings(net, pe=2, simd=4, layout=lambda number: ("lists", "dense")[number % 2]))
    assert {unit.module for unit in design.units} == {"matrix", "lists", "add", "average_pool"}
    write_files(tmp_path, rendered_files(design))
    firmware = tmp_path / "firmware"
    found = compiled_loops(str(firmware / "accelerator.cpp"), [str(firmware), *FOLDERS])
    assert len(found) >= len(design.dataflow.loops)
    assert max(found) <= BUDGET_NS


@pytest.mark.parametrize(
    ("step", "is_ready"),
    [
        ("sum += in.read().to_uint();", True),
        ("sum = (sum * 3 + in.read().to_uint()) * 5 % 1024;", False),
        (
            "if (sum > 77) { if (++place == 9) { place = 0; if (++line == n) line = 7; } } sum += line * 3 + place;",
            False,
        ),
    ],
)
def test_a_long_way_from_step_to_step_is_found(tmp_path, step, is_ready):
    (tmp_path / "loop.cpp").write_text(
        f"""#include "ap_int.h"
#include "hls_stream.h"
void run(hls::stream<ap_uint<32> > &in, hls::stream<ap_uint<32> > &out, unsigned n) {{
    unsigned sum = n, place = n, line = n;
    for (unsigned i = 0; i < n; i++) {{
        {step}
        out.write(sum + place + line);
    }}
}}
"""
    )
    (found,) = compiled_loops(str(tmp_path / "loop.cpp"), FOLDERS)
    assert (found <= BUDGET_NS) == is_ready
