"""Operations, memory and energy of networks, beside counts by hand, the published figures, and the written files."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from benchmarks.nets import random_alexnet, random_mlp, random_resnet18
from export.memories.files import memory_files
from sim.cost import EnergyTable, Rules, bit_operations, estimate_cost, low_bit_flops, read_energy
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, random_network, recipes
from tests.helpers.small_network import NET
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.pipeline import accelerator, unit_names


def unfolded(net: PackedNetwork, mask="deep", **room: int) -> Accelerator:
    return accelerator(net, HardwareSettings(dict.fromkeys(unit_names(net), UnitSettings(Folding(1), mask)), **room))


def macs(net: PackedNetwork) -> dict[str, int]:
    (task,) = estimate_cost(unfolded(net)).tasks
    return {layer.layer: layer.integer.macs for layer in task.layers if layer.integer.macs}


# operations ---------------------------------------------------------------------------------------------------------


def test_the_macs_of_lenet_300_100() -> None:
    assert macs(random_mlp((784, 300, 100, 10))) == {"fc0": 235_200, "fc1": 30_000, "fc2": 1_000}


def test_the_macs_of_the_reduced_alexnet() -> None:
    """method.md counts 22,768,640 without a head."""
    counted = macs(random_alexnet())
    assert counted == {
        "conv0": 29 * 29 * 64 * (3 * 4 * 4),
        "conv1": 12 * 12 * 128 * (64 * 3 * 3),
        "conv2": 5 * 5 * 256 * (128 * 2 * 2),
        "fc0": 1024 * 2048,
        "fc1": 2048 * 2048,
        "fc2": 2048 * 10,
    }
    assert sum(counted.values()) - counted["fc2"] == 22_768_640


def test_the_macs_of_resnet_18() -> None:
    """64 channels on 32 x 32 pixels; every second stage halves the side and doubles the channels."""
    counted = macs(random_resnet18(width=8))
    eighth = 8 * 8  # an eighth of the channels on both sides of a convolution
    first, same = 32 * 32 * 64 * 27 // 8, 32 * 32 * 64 * 64 * 9 // eighth
    half, shortcut = same // 2, same // 18
    assert sum(counted.values()) == first + 4 * same + 3 * (half + 3 * same + shortcut) + 512 // 8 * 10
    assert len(counted) == 1 + 16 + 3 + 1


def test_used_macs_are_those_of_the_mask() -> None:
    net = random_network(Recipe("conv", tasks=2, seed=3))
    for task, costs in enumerate(estimate_cost(unfolded(net)).tasks):
        for unit, layer in zip(unfolded(net).units, costs.layers, strict=True):
            mask = net.step(task, unit.layers[task]).mask
            used = 0 if mask is None else int(mask.sum()) * math.prod(net.shapes[unit.layers[task]][1:])
            assert layer.integer.used_macs == used


PUBLISHED = {  # TinySubNets, Table 6: million FLOPs in float32; at 4, 8, 16 bits; the same after pruning
    "p-MNIST": (61.7, (1.62, 6.5, 26), (0.97, 3.89, 15.6), 9.5, 0.40),
    "CIFAR100": (8770, (243.6, 974.4, 3897), (214.37, 857.5, 3430), 9.0, 0.12),
    "TinyImagenet": (4775, (132.62, 530.5, 2122), (112.72, 450.9, 1803), 9.0, 0.15),
}


@pytest.mark.parametrize("scenario", PUBLISHED)
def test_low_bit_flops_give_the_published_table(scenario: str) -> None:
    baseline, dense, pruned, factor, sparsity = PUBLISHED[scenario]
    for bits, wanted, wanted_pruned in zip((4, 8, 16), dense, pruned, strict=True):
        assert low_bit_flops(baseline, bits, bits, factor) == pytest.approx(wanted, rel=5e-3)
        assert low_bit_flops(baseline, bits, bits, factor) * (1 - sparsity) == pytest.approx(wanted_pruned, rel=5e-3)


def test_bit_operations_by_hand() -> None:
    # 10 macs of 3 x 5 bits with a fan-in of 8; then half of the weights pruned
    assert bit_operations(10, 3, 5, 8) == 10 * (15 + 8 + 3)
    assert bit_operations(10, 3, 5, 8, density=0.5) == 10 * (7.5 + 8 + 3)


def test_one_layer_by_hand() -> None:
    net = random_mlp((6, 4), density=0.5)
    (task,) = estimate_cost(unfolded(net)).tasks
    (layer,) = task.layers
    (unit,) = unfolded(net).units
    assert isinstance(unit, MatrixUnit)
    words, books, scales = 24 * (4 + 1), 16 * 8, 4 * unit.scales.bits
    assert (layer.weight_bits, layer.act_bits, layer.integer.macs) == (8, 8, 24)
    assert layer.integer.flops == pytest.approx(2 * 24 / 9)
    assert layer.integer.parameter_bits == words + books + scales + (
        1 + 1 + 6 + 3
    )  # the task: used, region, shift, classes
    assert layer.integer.activation_bits == 6 * 8 + 4 * 32
    assert layer.integer.on_chip_bits == words + scales + 24 * 8
    assert layer.integer.arithmetic_pj == pytest.approx(24 * (0.2 + 0.03 * unit.scales.accumulator_bits / 8))
    assert layer.integer.on_chip_pj == pytest.approx(layer.integer.on_chip_bits * 20 / 64)
    assert layer.integer.off_chip_pj == pytest.approx(layer.integer.parameter_bits * 1300 / 64)
    assert layer.float32.flops == 48
    assert layer.float32.bops == pytest.approx(24 * (1024 + 64 + math.log2(6)))
    assert layer.float32.parameter_bits == 32 * (24 + 4)  # weights and a bias a channel
    assert layer.float32.on_chip_bits == 32 * (24 + 24)
    assert layer.float32.arithmetic_pj == pytest.approx(24 * 4.6)


def test_zeros_that_are_skipped_are_not_counted() -> None:
    net = random_mlp((20, 10), density=0.5)
    (used,) = {layer.used for layer in estimate_cost(unfolded(net)).tasks[0].layers}
    all_, skipped = (estimate_cost(unfolded(net), rules=Rules(skips_zeros=skips)).integer for skips in (False, True))
    assert skipped.macs == all_.macs == 200
    assert skipped.flops == pytest.approx(all_.flops * used / 200)
    assert skipped.arithmetic_pj == pytest.approx(all_.arithmetic_pj * used / 200)
    assert all_.bops - skipped.bops == pytest.approx((200 - used) * 64)
    assert (skipped.parameter_bits, skipped.on_chip_bits) == (all_.parameter_bits, all_.on_chip_bits)


def test_another_factor_divides_the_flops() -> None:
    net = random_mlp((20, 10))
    nine, ten = (estimate_cost(unfolded(net), rules=Rules(float_factor=factor)).integer.flops for factor in (9, 10))
    assert nine * 9 == pytest.approx(ten * 10)


def test_the_stream_is_the_sum_of_its_tasks_and_a_task_of_its_layers() -> None:
    costs = estimate_cost(unfolded(random_network(Recipe("residual", tasks=3, seed=1))))
    assert costs.integer.bops == pytest.approx(sum(layer.integer.bops for t in costs.tasks for layer in t.layers))
    assert costs.float32.macs == sum(task.float32.macs for task in costs.tasks)
    assert costs.separate_float32_bits == sum(task.float32.parameter_bits for task in costs.tasks)


def test_a_factor_of_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^float factor 0: must be above 0$"):
        Rules(float_factor=0)


# memory -------------------------------------------------------------------------------------------------------------


@given(recipes())
def test_memory_equals_the_sections_of_the_file_and_the_images(recipe: Recipe) -> None:
    net = random_network(recipe)
    mask = ("deep", "runtime")[recipe.seed % 2]
    design = unfolded(net, mask, max_tasks=recipe.tasks + recipe.seed % 3)
    if recipe.seed % 3:
        design = accelerator(
            net, settings(net, simd=2, mask=mask, layout=lambda number: ("lists", "dense")[number % 2])
        )
    costs = estimate_cost(design)
    data = artifact.to_bytes(net)
    sizes = {name: 8 * len(part) for name, part in artifact.sections(data).items()}
    for kind in ("codes", "codebooks", "masks"):
        counted = sum(getattr(unit, f"stored_{kind}_bits") for unit in costs.units)
        assert counted == sum(bits for name, bits in sizes.items() if name.endswith(f"/{kind}"))
    stored = costs.stored
    rest = stored.header_bits + stored.requantization_bits + stored.routing_bits
    assert sum(unit.stored_bits for unit in costs.units) + rest == 8 * len(data)
    images = design.images
    for unit in costs.units:
        own = {image.kind: image.depth * image.width_bits for image in images if image.unit == unit.unit}
        assert unit.codes_bits + unit.prefixes_bits + unit.gaps_bits == own.get("words", 0)
        assert unit.codebooks_bits == own.get("codebook", 0)
        assert unit.masks_bits == own.get("mask", 0)
        assert (unit.scales_bits, unit.task_words_bits) == (own.get("scales", 0), own.get("task", 0))
    assert costs.images_bits == sum(image.depth * image.width_bits for image in images)
    assert costs.float32_bits == 32 * capacity(net).dense_parameters


def test_lists_multiply_what_tasks_use_and_read_their_lines_alone() -> None:
    net = random_mlp((64, 32, 10), density=0.25)
    dense, lists = (
        estimate_cost(accelerator(net, settings(net, pe=2, simd=2, layout=lambda _, layout=layout: layout)))
        for layout in ("dense", "lists")
    )
    for of_dense, of_lists in zip(dense.tasks[0].layers, lists.tasks[0].layers, strict=True):
        share = of_lists.used / of_lists.weights
        assert of_lists.integer.macs == of_dense.integer.macs
        assert of_lists.integer.flops == pytest.approx(of_dense.integer.flops * share)
        assert of_lists.integer.parameter_bits < of_dense.integer.parameter_bits
    skipping = estimate_cost(unfolded(net), rules=Rules(skips_zeros=True))
    assert [t.integer.flops for t in skipping.tasks] == pytest.approx([t.integer.flops for t in lists.tasks])


def test_memory_equals_the_files_of_the_images() -> None:
    """A .dat file has a line a word, in as many hexadecimal digits as its bits take."""
    net = random_network(Recipe("residual", tasks=3, banks=2, seed=4))
    design = unfolded(net)
    files, bits = memory_files(design, ["dat"]), 0
    for image in design.images:
        lines = files[f"{image.name}.dat"].decode().splitlines()
        assert {len(line) for line in lines} == {-(-image.width_bits // 4)}
        bits += len(lines) * image.width_bits
    assert bits == estimate_cost(design).images_bits


def test_a_known_capacity_is_taken_as_it_is() -> None:
    stored = capacity(NET, artifact.to_bytes(NET))
    assert estimate_cost(unfolded(NET), stored=stored).stored is stored
    assert stored == capacity(NET)


def test_buffers_and_accumulators_follow_the_folding() -> None:
    net = random_network(Recipe("conv", tasks=1, seed=2))
    one = estimate_cost(unfolded(net))
    unit = unfolded(net).units[0]
    assert isinstance(unit, MatrixUnit)
    assert unit.window is not None
    settings = dict.fromkeys(unit_names(net), UnitSettings(Folding(1))) | {unit.name: UnitSettings(Folding(unit.rows))}
    wide = estimate_cost(accelerator(net, HardwareSettings(settings)))
    window, bits = unit.window, unit.sources[0].bits
    rows = 2 * window.kernel[0] + window.stride[0]  # the ring, and in front of it what it loads at once
    first, vector = window.rows_needed(0) * window.words_per_row, unit.columns * bits
    waiting = (
        vector * (1 + math.ceil(first / (unit.rows * unit.columns))),
        vector * (1 + math.ceil(first / unit.columns)),
    )
    assert one.units[0].buffers_bits == rows * window.words_per_row * bits + waiting[0] + vector  # for every row again
    assert wide.units[0].buffers_bits == rows * window.words_per_row * bits + waiting[1]
    assert one.units[0].accumulators_bits * unit.rows == wide.units[0].accumulators_bits


# energy -------------------------------------------------------------------------------------------------------------


def test_the_figures_are_horowitz_s() -> None:
    table = read_energy()
    assert (table.integer_multiply.pj, table.integer_add.pj) == (0.2, 0.03)
    assert (table.float_multiply.pj, table.float_add.pj) == (3.7, 0.9)
    assert (table.on_chip.pj_per_bit, table.off_chip.pj_per_bit) == (20 / 64, 1300 / 64)
    assert all("Horowitz" in getattr(table, name).source for name in EnergyTable.__dataclass_fields__)


def test_a_file_of_the_user_s_replaces_figures(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[on_chip]\npj = 1\nsource = "measured here"\n')
    table = read_energy(file)
    assert (table.on_chip.pj, table.on_chip.bits, table.on_chip.source) == (1.0, 64, "measured here")
    assert replace(table, on_chip=read_energy().on_chip) == read_energy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[onchip]\npj = 1", "unknown key 'onchip'; known are integer_multiply, integer_add, float_multiply, "
         "float_add, on_chip, off_chip"),
        ("[on_chip]\npJ = 1", "on_chip: unknown key 'pJ'; known are pj, bits, source, meaning"),
        ("[on_chip]\npj = -1", "on_chip: pj = -1.0, bits = 64: must be at least 0 and at least 1"),
        ("on_chip = 3", "on_chip: must be a table, found int"),
    ],
)  # fmt: skip
def test_a_wrong_energy_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        read_energy(tmp_path / "mine.toml")
    assert str(error.value) == f"{tmp_path / 'mine.toml'}: {message}"


def test_energy_follows_the_table() -> None:
    net, table = random_mlp((8, 4)), read_energy()
    free = replace(table, integer_multiply=replace(table.integer_multiply, pj=0.0))
    ours, cheaper = (estimate_cost(unfolded(net), energy=energy).integer for energy in (table, free))
    assert ours.arithmetic_pj - cheaper.arithmetic_pj == pytest.approx(32 * 0.2)
    assert np.isclose(ours.on_chip_pj, cheaper.on_chip_pj)
