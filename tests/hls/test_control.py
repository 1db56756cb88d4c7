"""One list of calls through model, compiled C++ and RTL: legal and illegal ones in random order, all answers equal.

HYPOTHESIS_PROFILE=thorough runs more than 10,000 sequences.
"""

import os
import shutil
from dataclasses import replace

import pytest

from export import write_hls
from export.rtl.project import write_rtl
from export.rtl.simulation import compile_rtl
from export.rtl.simulators import simulator
from tests.helpers.compiled_top import CompiledTop, needs_compiler
from tests.helpers.control_calls import Caller, answers_of_hls, answers_of_rtl
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, random_network
from tests.helpers.rtl_designs import loaded
from tsn_hw.hardware.pipeline import accelerator

needs_iverilog = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")

IS_THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
SEQUENCES = 2500 if IS_THOROUGH else 22
MLP = Recipe(kind="mlp", widths=(8, 4), classes=2, tasks=3, banks=2, seed=4)
DESIGNS = {
    "nothing": (MLP, "deep", "auto"),
    "all tasks at once": (MLP, "deep", "ultra"),
    "a task": (MLP, "runtime", "auto"),
    "both": (MLP, "runtime", "ultra"),
}
if IS_THOROUGH:
    DESIGNS["both, with windows"] = replace(MLP, kind="residual", seed=3), "runtime", "ultra"


def design_of(name):
    """A small accelerator with room for two tasks that there are not yet."""
    recipe, mask, ram_style = DESIGNS[name]
    net = random_network(recipe)
    return loaded(accelerator(net, settings(net, pe=2, simd=2, max_tasks=len(net.tasks) + 2)), mask, ram_style)


@needs_compiler
@needs_iverilog
@pytest.mark.parametrize("name", DESIGNS)
def test_cpp_and_rtl_answer_every_call_as_the_table_says(tmp_path, name):
    design = design_of(name)
    drawn = list(Caller(design, seed=5 * list(DESIGNS).index(name)).sequences(SEQUENCES))
    calls, answers = [call for call, _ in drawn], [answer for _, answer in drawn]
    write_hls(design, tmp_path / "hls", golden=[])
    write_rtl(design, tmp_path / "rtl")
    top = CompiledTop(tmp_path / "hls")
    rtl = compile_rtl(design, tmp_path / "rtl", chosen=simulator(None if IS_THOROUGH else "icarus"))
    for found in (answers_of_hls(top, calls), answers_of_rtl(rtl, calls, 40, seed=5)):
        different = [pair for pair in zip(drawn, found, strict=True) if pair[0][1] != pair[1]]
        assert different == []
    assert len(answers) > 3 * SEQUENCES
