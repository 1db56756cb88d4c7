"""Estimates beside measured syntheses, memories by hand, and the figures of a whole accelerator."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.nets import random_mlp
from sim.area import (
    OWN_FILE,
    Features,
    Logic,
    dsps_of,
    features,
    in_dsp,
    model_of,
    read_coefficients,
    shifter_stages,
    shifts,
    unit_logic,
)
from sim.calibration import Measured, fit
from sim.devices import device, devices
from sim.memories import blocks, is_shallow, joining_luts, lut_count, place
from sim.resources import RESOURCES, Estimate, Resources, capacities, estimate_resources
from tests.helpers.images import settings as legal_settings
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET
from tsn_hw.app.hardware.calibrate import SynthesisRun, coefficients_json, fitted, read_runs
from tsn_hw.app.hardware.trials import design
from tsn_hw.core.errors import FileError, FoldingError, SettingsError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.records import read_json
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.list_unit import ListUnit
from tsn_hw.hardware.memories import Memory
from tsn_hw.hardware.pipeline import accelerator

CASES = Path(__file__).parents[1] / "cases"
Z020, ZU7, ECP5, ICE40 = (device(name) for name in ("xc7z020", "zu7ev", "ecp5-25", "ice40-hx8k"))


def folded(net: PackedNetwork, pe=1, simd=1, mask="deep", ram_style="auto") -> Accelerator:
    """The same settings for every unit, as far as they divide what it has."""
    units = legal_settings(net, pe, simd, mask).units
    return accelerator(net, HardwareSettings({name: replace(own, ram_style=ram_style) for name, own in units.items()}))


# against measured syntheses -----------------------------------------------------------------------------------------


RUNS = read_runs(CASES / "synthesis.jsonl")


FURTHER_BLOCKS = {
    ("xc7", 13): -1, ("ecp5", 13): -1, ("ice40", 4): 1, ("ice40", 5): 1, ("ice40", 8): 1,
    ("xc7", 27): -21, ("ecp5", 27): -21,
}  # fmt: skip
"""Block RAMs that a synthesis takes beyond what is counted, or below it: of 27, a memory of two words has columns of
which half hold the same bit twice."""


def estimated(run: SynthesisRun) -> Resources:
    return estimate_resources(design(run.trial), run.part).resources


def test_block_rams_are_those_of_every_synthesis_and_dsps_too() -> None:
    for family in ("xc7", "ecp5"):
        lanes = {run.trial.pe * run.trial.simd for run in RUNS if run.target == family}
        assert lanes >= {2, 48, 256}
    assert {run.trial.layout for run in RUNS} == {"dense", "lists"}
    for run in RUNS:
        found = estimated(run)
        further = FURTHER_BLOCKS.get((run.target, run.trial.seed), 0)
        assert (run, found.bram + further, found.dsp) == (run, run.resources["bram"], run.resources["dsp"])


@pytest.mark.parametrize(("family", "lut_percent", "ff_percent"), [("xc7", 8, 10), ("ecp5", 12, 9), ("ice40", 3, 3)])
def test_luts_and_flip_flops_are_near_those_of_the_synthesis(family: str, lut_percent: int, ff_percent: int) -> None:
    for run in RUNS:
        if run.target == family:
            found = estimated(run)
            assert abs(found.lut - run.resources["lut"]) <= run.resources["lut"] * lut_percent / 100
            assert abs(found.ff - run.resources["ff"]) <= run.resources["ff"] * ff_percent / 100


@pytest.mark.parametrize("family", ["xc7", "ecp5", "ice40"])
def test_a_synthesis_that_the_fit_has_not_seen_is_off_by_less_than_10_percent(family: str) -> None:
    model = read_coefficients().families[family]
    assert model.ff_leave_one_out_percent < 10
    assert model.lut_leave_one_out_percent < 10


def test_our_coefficients_are_the_fit_of_the_points() -> None:
    assert OWN_FILE.read_text() == coefficients_json(fitted(RUNS))


@pytest.mark.parametrize(("family", "percent"), [("xc7", 0), ("ecp5", 21), ("ice40", 12)])
def test_luts_of_a_read_only_memory_are_near_those_of_the_synthesis(family: str, percent: int) -> None:
    """A memory of fewer words than a LUT has may need fewer; the deepest of ECP5 is 20 % off."""
    part = next(part for part in devices().values() if part.family_name == family)
    for rom in read_json(CASES / "roms.json")["roms"]:
        if rom["family"] == family and rom["depth"] >= 1 << part.family.lut_inputs:
            estimated = lut_count(Memory("", "codebook", rom["depth"], rom["width_bits"]), part.family)
            assert abs(estimated - rom["lut"]) <= rom["lut"] * percent / 100


# memories -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "width", "expected"),
    [
        (64, 192, (6, 0)), (256, 32, (1, 0)), (512, 36, (1, 0)), (513, 36, (2, 0)), (16384, 1, (1, 0)),
        (16385, 1, (1, 3)), (1, 1, (1, 0)), (1024, 19, (2, 0)),
        (9216, 2, (1, 6)),  # nine parts of 1024 words side by side in 18 bits, and 9:1 multiplexers
        (2304, 8, (2, 0)),
    ],
)  # fmt: skip
def test_blocks_hold_parts_of_deep_memories_side_by_side(depth: int, width: int, expected: tuple[int, int]) -> None:
    assert blocks(Memory("", "words", depth, width), Z020.family) == expected


def test_a_word_that_is_written_takes_whole_bytes_of_a_block() -> None:
    read, written = (Memory("", "fifo", 1024 * 9, 2, writable=writable) for writable in (False, True))
    assert blocks(read, ECP5.family)[0] == 1  # nine parts of two bits side by side
    assert blocks(written, ECP5.family)[0] == 2


def test_small_buffers_are_registers_where_luts_are_no_memory_and_a_block_is_worth_more() -> None:
    assert place(Memory("", "fifo", 4, 16, writable=True), ICE40).ff == 64
    assert place(Memory("", "fifo", 8, 16, writable=True), ICE40).bram == 1
    assert place(Memory("", "fifo", 4, 16, writable=True, style="block"), ICE40).bram == 1


@pytest.mark.parametrize(("tasks", "word_bits", "expected"), [(4, 6, 169), (16, 8, 389)])
def test_lenet_takes_about_the_block_rams_that_the_design_notes_worked_out(
    tasks: int, word_bits: int, expected: int
) -> None:
    """Words of 4-bit codes and masks of 784-300-100-10, folded as there; without joined blocks 170 and 388."""
    total = 0
    for columns, rows, pe, simd in ((784, 300, 10, 28), (300, 100, 5, 12), (100, 10, 2, 5)):
        lines, lanes = columns // simd * (rows // pe), pe * simd
        for memory in (Memory("", "words", lines, lanes * word_bits), Memory("", "mask", tasks * lines, lanes)):
            total += place(memory, Z020).bram
    assert total == expected


@pytest.mark.parametrize(
    ("leaves", "on_xc7", "on_ice40"), [(1, 0, 0), (4, 0, 2), (5, 1, 3), (16, 1, 10), (17, 2, 11), (64, 5, 42)]
)
def test_luts_that_join_luts(leaves: int, on_xc7: int, on_ice40: int) -> None:
    assert (joining_luts(leaves, Z020.family), joining_luts(leaves, ICE40.family)) == (on_xc7, on_ice40)


def test_small_memories_are_luts_and_large_ones_blocks_unless_told_otherwise() -> None:
    small, large = Memory("", "words", 64, 16), Memory("", "words", 64, 17)
    assert place(small, Z020).storage == "lut"
    assert place(large, Z020).storage == "block"
    assert place(replace(small, style="block"), Z020).storage == "block"
    assert place(replace(large, style="distributed"), Z020).lut == 17


def test_writable_luts_are_counted_as_such_and_every_reader_has_a_copy() -> None:
    book = Memory("", "codebook", 64, 8, copies=6, writable=True, style="distributed")
    placed = place(book, Z020)
    assert (placed.lut, placed.lut_ram) == (6 * 12, 6 * 12)  # three bits in four LUTs, 64 deep
    assert (place(replace(book, writable=False), Z020).lut, place(replace(book, writable=False), Z020).lut_ram) == (
        48,
        0,
    )
    assert place(book, ICE40).bram == 6  # whose LUTs are no memory


def test_a_memory_is_shallow_where_no_lut_joins_luts() -> None:
    assert [depth for depth in (256, 257) if is_shallow(Memory("", "words", depth, 1), Z020.family)] == [256]
    assert [depth for depth in (128, 129) if is_shallow(Memory("", "words", depth, 1), ECP5.family)] == [128]
    assert not is_shallow(Memory("", "words", 1, 1, writable=True), ICE40.family)


def test_the_memories_of_a_unit_are_its_images_and_its_buffers() -> None:
    design = folded(NET)
    images = {(i.unit, i.kind): (i.depth, i.width_bits) for i in design.images}
    found = [memory for unit in design.units for memory in design.memories_of(unit)]
    held = [m for m in found if m.kind not in ("window", "vector", "fifo")]
    assert {(m.unit, m.kind): (m.depth, m.width_bits) for m in held} == images
    buffers = {(m.unit, m.kind): (m.depth, m.width_bits) for m in found if m.kind in ("window", "vector")}
    assert buffers == {
        ("conv", "window"): (2 * 2, 8), ("conv", "vector"): (1, 8), ("mix", "window"): (2 * 2 * 2, 8),
        ("mix", "vector"): (2, 8), ("average", "window"): (4 * 2 * 2, 8), ("pool", "window"): (2 * 1 * 2, 8),
        ("head", "vector"): (2, 8),
    }  # fmt: skip


@pytest.mark.parametrize("net", [NET, random_network(Recipe("residual", tasks=2, seed=3)), random_mlp((12, 8, 2))])
@pytest.mark.parametrize("pe", [1, 2])
def test_every_fifo_that_holds_more_than_two_words_is_a_memory(net: PackedNetwork, pe: int) -> None:
    design = folded(net, pe)
    memories = [memory for unit in design.units for memory in design.memories_of(unit)]
    counted = sorted((memory.depth, memory.width_bits) for memory in memories if memory.kind == "fifo")
    deep = [channel for channel in design.dataflow.channels if channel.depth > 2]
    assert counted == sorted((channel.depth, channel.width_bits) for channel in deep)


def test_ultra_ram_is_for_parts_that_have_some() -> None:
    design = folded(random_mlp((64, 10)), ram_style="ultra")
    assert estimate_resources(design, ZU7).resources.uram == 2
    with pytest.raises(FoldingError) as error:
        estimate_resources(design, Z020)
    assert str(error.value) == "layer 'fc0': ram_style='ultra', but xc7z020 has no UltraRAM" or "head" in str(
        error.value
    )


def test_luts_that_are_no_memory_hold_nothing_that_is_written() -> None:
    design = folded(random_mlp((64, 10)), mask="runtime", ram_style="distributed")
    with pytest.raises(FoldingError, match="ram_style='distributed', but LUTs of ice40-hx8k are no memory"):
        estimate_resources(design, ICE40)


# logic --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(8, 8, 1), (25, 18, 1), (18, 25, 1), (26, 18, 2), (25, 19, 2), (40, 16, 2), (30, 30, 4)]
)
def test_dsps_of_a_product(a: int, b: int, expected: int) -> None:
    assert dsps_of(a, b, Z020.family) == expected


@pytest.mark.parametrize(("a", "b", "expected"), [(18, 18, 1), (19, 12, 2), (20, 12, 2), (12, 35, 2), (20, 20, 4)])
def test_wide_factors_are_split_on_ecp5_as_the_rtl_splits_them(a: int, b: int, expected: int) -> None:
    assert dsps_of(a, b, ECP5.family) == expected


def test_products_are_luts_where_there_are_no_dsps_or_they_are_narrow() -> None:
    wide, narrow = folded(random_mlp((64, 10))), folded(random_mlp((64, 10), 4, centroid_bits=4))
    model = model_of(Z020, read_coefficients())
    none = replace(Z020, capacities=replace(Z020.capacities, dsp=0))
    assert unit_logic(wide, wide.head, Z020, model).dsp == 1
    assert unit_logic(wide, wide.head, none, model).dsp == 0
    assert features(wide, wide.head, none).area == 9 * 8  # an activation without a sign is a factor with one bit more
    assert in_dsp(5, 4, Z020)
    assert not in_dsp(4, 4, Z020)
    with_dsps, without = (features(narrow, narrow.head, part) for part in (Z020, none))
    assert without == replace(with_dsps, area=5 * 4, fabric_bits=5 + 4)


def test_features_by_hand() -> None:
    """One row and one column: what each register is stands in hls_templates/rtl/tsn_matrix.sv."""
    net = random_network(Recipe("residual", tasks=2, seed=3, multipliers=True))
    design = folded(net)
    conv, add = design.units[0], next(unit for unit in design.units if unit.name == "add")
    assert isinstance(conv, MatrixUnit)
    found, widths = features(design, conv, Z020), conv.scales
    stages, least = shifter_stages(design, conv), min(shifts(design, conv))
    assert (found.heads, found.loops, found.sum_bits, found.lane_bits) == (0, 2, widths.accumulator_bits, 8)
    assert found.port_bits == 3 * 8 + 3 * 8 + 3 * 64  # FIFOs, two of them behind memories, converters, and the bus
    assert found.row_bits == 6 * widths.value_bits - 2 * least + 8
    assert found.shift_bits == stages * widths.value_bits
    tags = 2 * 8 + 6 * 2 + 2 + 9 * stages  # first and last; first row and task; region; shift
    assert found.delay_bits == tags + 2 * 14 + 2 * min(widths.accumulator_bits, 9 + 8)  # 14 bits of 4 offsets differ
    of_add = features(design, add, Z020)
    assert (of_add.loops, of_add.lane_bits, of_add.port_bits) == (1, 0, 9 * 8)
    assert features(design, design.head, Z020).heads == 1
    parallel = folded(random_mlp((12, 8, 4)), pe=2, simd=3)
    head, bits = features(parallel, parallel.head, Z020), parallel.head.scales.accumulator_bits
    assert head.sum_bits == 2 * (min(bits, 18) + bits)  # of two products, and of a row
    assert head.lane_bits == 2 * min(bits, 18) + 2 * 2 * 8
    assert head.row_bits == 2 * 2 * bits  # logits are not shifted: they wait


def test_lists_have_registers_of_their_own() -> None:
    net = random_mlp((64, 32, 10), density=0.2)
    units = {"fc0": UnitSettings(Folding(2, 4), layout="lists"), "head": UnitSettings(Folding(1))}
    design = accelerator(net, HardwareSettings(units))
    unit = design.units[0]
    assert isinstance(unit, ListUnit)
    found = features(design, unit, Z020)
    assert found.list_bits == 8 * (2 * 6 + unit.word_bits + 4 * 8)  # columns; the word; a part of the vector
    assert found.lane_bits == 8 * (unit.centroid_bits + unit.scales.accumulator_bits)
    assert found.sum_bits == 8 * unit.scales.accumulator_bits


@pytest.mark.parametrize(
    ("shifts", "stages"), [((5, 5), 0), ((4, 5), 1), ((8, 7), 2), ((7, 8, 9), 3), ((8, 9, 10, 11), 2), ((0, 63), 1)]
)
def test_a_shifter_has_a_stage_for_every_bit_of_the_shift_that_differs(shifts: tuple[int, ...], stages: int) -> None:
    design = folded(random_network(Recipe("mlp", tasks=len(shifts), seed=3)))
    net = SimpleNamespace(requantization=lambda task, layer: SimpleNamespace(shift=shifts[task]))
    some = SimpleNamespace(net=net, max_tasks=len(shifts))
    assert shifter_stages(some, design.units[0]) == stages  # type: ignore[arg-type]


def test_a_model_is_the_sum_of_its_terms() -> None:
    model = replace(
        model_of(Z020, read_coefficients()), lut=Features(loops=100.25, sum_bits=1), ff=Features(lane_bits=0.5)
    )
    design = folded(random_mlp((64, 10)))
    sum_bits = design.head.scales.accumulator_bits
    assert unit_logic(design, design.head, Z020, model) == Logic(lut=math.ceil(100.25 + sum_bits), ff=4, dsp=1)


def test_a_fit_finds_the_coefficients_that_made_the_points_and_leaves_negative_ones_out() -> None:
    rng = np.random.default_rng(1)
    points = []
    for _ in range(12):
        loops, rows, delays, area = rng.integers(1, 200, 4).tolist()
        given = Features(loops=loops, shift_bits=rows, delay_bits=delays, area=area)
        points.append(Measured(given, 5, 7, 5 + 80 * loops + rows + 2 * area, 7 + 3 * loops + delays))
    model = fit(points, 4, Features(compare_bits=2), "here")
    told = {"port_bits": 1, "row_bits": 0.5, "sum_bits": 1, "list_bits": 1, "codebooks": 1}  # no point tells them
    assert model.lut == Features(loops=80, shift_bits=1, area=2, compare_bits=2, **told)
    assert model.ff == Features(loops=3, delay_bits=1, register_bits=1, output_bits=1, lane_bits=1, fabric_bits=1)
    assert (model.points, model.lut_leave_one_out_percent, model.ff_leave_one_out_percent) == (12, 0, 0)
    fewer = [replace(point, ff=7 + 3 * int(point.features.loops)) for point in points]  # flip-flops that are in LUTs
    assert fit(fewer, 4, Features(), "here").ff.delay_bits < 0.05
    assert fit(fewer[:2], 4, Features(), "here").ff.delay_bits < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no 'format'"),
        ('{"format": "other", "families": {}}', "format = 'other': must be 'tsn-hw coefficients 3'"),
        ('{"format": "tsn-hw coefficients 3", "families": {"xc7": {}}}', "families.xc7: has no 'source'"),
        ("[]", "must be a table, found list"),
    ],
)
def test_a_wrong_coefficient_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        read_coefficients(file)
    assert str(error.value) == f"{file}: {message}"
    with pytest.raises(FileError):
        read_coefficients(tmp_path / "none.json")


def test_a_family_without_coefficients_is_refused() -> None:
    with pytest.raises(SettingsError) as error:
        model_of(replace(Z020, family_name="max10"), read_coefficients())
    assert str(error.value) == ("device 'xc7z020': no coefficients of family 'max10'; known are xc7, ecp5, ice40, xcu")


# whole accelerators -------------------------------------------------------------------------------------------------


def test_cycles_rate_and_latency_follow_from_the_units() -> None:
    design = folded(random_mlp((60, 30, 10)), pe=2, simd=3)
    estimate = estimate_resources(design, Z020, clock_mhz=200)
    assert [unit.cycles for unit in estimate.units] == [60 * 30 // 6, 30 * 10 // 6]
    assert estimate.cycles == {"s_axis": 8, "m_axis": 10, "fc0": 300, "head": 50}
    assert (estimate.interval_cycles, estimate.bottleneck) == (300, "fc0")
    assert estimate.inferences_per_second == pytest.approx(200e6 / 300)
    assert estimate.latency_cycles == 8 + 300 + 50 + 10
    assert estimate.latency_us == pytest.approx(368 / 200)


def test_the_longest_way_counts_once_where_ways_join() -> None:
    design = folded(random_network(Recipe("residual", tasks=1, seed=3)))
    estimate = estimate_resources(design, Z020)
    assert estimate.latency_cycles == sum(estimate.cycles.values())  # the skip connection is the shorter way


def test_a_part_that_is_too_small_is_told() -> None:
    design = folded(random_mlp((784, 300, 100, 10)))
    assert estimate_resources(design, Z020).fits
    tiny = replace(Z020, capacities=replace(Z020.capacities, bram=10))
    assert not estimate_resources(design, tiny).fits
    assert estimate_resources(design, tiny).binding == "bram"
    assert estimate_resources(design, tiny).utilization_percent["bram"] > 100


def test_what_a_part_lacks_altogether_is_used_infinitely() -> None:
    none = replace(Z020, capacities=replace(Z020.capacities, bram=0))
    estimate = estimate_resources(folded(random_mlp((784, 10))), none)
    assert estimate.utilization_percent["bram"] == math.inf
    assert estimate.utilization_percent["uram"] == 0


def test_an_estimate_is_the_sum_of_its_units() -> None:
    estimate: Estimate = estimate_resources(folded(NET), ECP5)
    total = sum((unit.resources for unit in estimate.units), Resources())
    assert estimate.resources == total
    assert len(capacities(ECP5).counts) == len(RESOURCES) == len(total.counts)
