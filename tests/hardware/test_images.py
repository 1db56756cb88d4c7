"""Memory images, decoded again by the rules of their docstrings alone and compared with the network."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from tests.helpers.handmade import network, requantization
from tests.helpers.images import decoded, field, own_images, settings, word
from tests.helpers.networks import Recipe, random_network, recipes, with_equal_codebooks
from tests.helpers.small_network import NET, U8
from tsn_hw.core.errors import ExportError, FoldingError
from tsn_hw.core.layers import Add, Conv2d, Flatten, Linear
from tsn_hw.hardware.depthwise import DepthwiseUnit
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings, nearest_divisors
from tsn_hw.hardware.images import MemoryImage, pack_lanes
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.memories import Field, MemoryLayout
from tsn_hw.hardware.pipeline import accelerator, obstacles, refold, unit_names
from tsn_hw.hardware.window import Window


def expected(net, unit, task) -> np.ndarray:
    """The same from the network: transposed to (kernel row, kernel column, channel), groups spread, rows added.

    A depthwise unit has the one channel of each row alone.
    """
    weights = net.weights(task, unit.layers[task])
    layer = net.layers[unit.layers[task]]
    full = np.zeros((unit.rows, unit.columns), np.int64)
    for row, kernel in enumerate(weights):
        if not isinstance(layer, Conv2d):
            shape = unit.sources[0].shape
            full[row] = kernel.reshape(shape).transpose(1, 2, 0).ravel() if len(shape) == 3 else kernel
            continue
        channels, in_all = len(kernel), 1 if isinstance(unit, DepthwiseUnit) else layer.in_channels
        first = 0 if in_all == 1 else row // (layer.out_channels // layer.groups) * channels
        for (c, i, j), value in np.ndenumerate(kernel):
            full[row, (i * layer.kernel[1] + j) * in_all + first + c] = value
    return full


@given(recipes())
def test_memories_hold_the_weights_and_scales_of_every_task(recipe):
    net = random_network(recipe)
    small = recipe.seed % 3 + 1
    mask = ("deep", "runtime")[recipe.seed % 2]
    room = {"max_tasks": recipe.tasks + recipe.seed % 3, "max_banks": 3}
    design = accelerator(net, settings(net, pe=small, simd=2 * small, mask=mask, **room))
    task = recipe.seed % recipe.tasks
    for unit in design.units:
        own = own_images(design, unit, task)
        if isinstance(unit, MatrixUnit) and unit.rows * unit.columns < 2000:
            np.testing.assert_array_equal(decoded(design, unit, own, task), expected(net, unit, task))
        if getattr(unit, "scales", None) is None:
            continue
        step, widths = net.step(task, unit.layers[task]).requantization, unit.scales
        lanes = unit.settings.folding.pe if isinstance(unit, MatrixUnit) else 1
        folds = unit.row_folds if isinstance(unit, MatrixUnit) else 1
        for channel, (multiplier, offset) in enumerate(zip(step.multiplier, step.offset, strict=True)):
            line = word(own["scales"], channel // lanes + (0 if mask == "runtime" else task * folds))
            low = channel % lanes * widths.bits
            held = field(line, low, widths.multiplier_bits, signed=True) if widths.multiplier_bits else 1
            assert (held, field(line, low + widths.multiplier_bits, widths.offset_bits, signed=True)) == (
                multiplier,
                offset,
            )


@given(recipes())
def test_another_folding_of_an_accelerator_is_the_accelerator_of_that_folding(recipe):
    net = random_network(recipe)
    room = {"max_tasks": recipe.tasks + recipe.seed % 3, "max_banks": 3}
    small, large = settings(net, **room), settings(net, pe=4, simd=4, mask="runtime", **room)
    assert refold(accelerator(net, small), large) == accelerator(net, large)


def test_depths_and_widths_follow_from_the_folding():
    net = random_network(Recipe(kind="mlp", tasks=3, banks=2, seed=5))
    design = accelerator(net, settings(net, pe=2, simd=3, max_tasks=8, max_banks=4))
    found = {image.name: (image.depth, image.width_bits, image.limbs.shape) for image in design.images}
    for unit in design.units:
        lanes, head = unit.lanes, unit.is_head
        assert unit.prefix_bits == (0 if head else 3)
        assert found[f"{unit.name}.words"][:2] == ((8 if head else 4) * unit.lines, lanes * unit.word_bits)
        assert found[f"{unit.name}.codebook"][:2] == ((8 if head else 4) << unit.word_bits, unit.centroid_bits)
        assert found[f"{unit.name}.mask"][:2] == (8 * unit.lines, lanes)
        assert found[f"{unit.name}.scales"][0] == 8 * unit.row_folds
        of_head = 3 + unit.rows.bit_length()  # region, classes
        assert found[f"{unit.name}.task"][:2] == (8, 1 + (of_head if head else 2) + 6)


@given(recipes(extremes=False))
def test_words_have_no_prefix_where_all_owners_of_a_bank_have_the_same_codebook(recipe):
    net, mask = with_equal_codebooks(random_network(recipe)), ("deep", "runtime")[recipe.seed % 2]
    design, task = accelerator(net, settings(net, pe=2, simd=3, mask=mask)), recipe.seed % recipe.tasks
    for unit in design.matrices:
        assert (unit.prefix_bits, unit.word_bits) == (0, unit.code_bits)
        own = own_images(design, unit, task)
        if unit.rows * unit.columns < 2000:
            np.testing.assert_array_equal(decoded(design, unit, own, task), expected(net, unit, task))


def test_words_keep_their_prefix_where_later_tasks_may_bring_other_codebooks():
    net = with_equal_codebooks(random_network(Recipe(kind="mlp", tasks=3, seed=5)))
    assert accelerator(net, settings(net, max_tasks=3)).units[0].prefix_bits == 2


def test_a_memory_says_what_its_addresses_and_bits_mean():
    net = random_network(Recipe(kind="mlp", tasks=3, banks=2, multipliers=True, seed=33))  # fc0: 18 to 16
    design = accelerator(net, settings(net, pe=2, simd=3, max_tasks=8, max_banks=4))
    fc0 = design.units[0]
    assert (fc0.lanes, fc0.row_folds, fc0.column_folds, fc0.code_bits) == (6, 8, 6, 4)
    found = {image.kind: image.layout for image in design.images if image.unit == fc0.name}
    line = (("row_fold", 8), ("column_fold", 6))
    assert found["words"].axes == (("region", 4), *line)
    assert found["words"].fields == (Field("code", 4), Field("prefix", 3))
    assert found["words"].lanes == found["mask"].lanes == 6
    assert found["codebook"].axes == (("region", 4), ("prefix", 8), ("code", 16))
    assert found["codebook"].fields == (Field("centroid", 8, signed=True),)
    assert found["mask"].axes == (("task", 8), *line)
    assert found["scales"].axes == (("task", 8), ("row_fold", 8))
    assert found["scales"].fields == (
        Field("multiplier", 16, signed=True),
        Field("offset", 37, signed=True),
    )
    assert found["task"].fields == (Field("known", 1), Field("region", 2), Field("shift", 6))
    head = {image.kind: image.layout for image in design.images if image.unit == "head"}
    assert head["words"].fields == (Field("code", design.head.code_bits),)  # no prefix: a head has one owner
    assert head["scales"].fields == (Field("offset", design.head.scales.offset_bits, signed=True),)


def test_octets_are_the_words_in_whole_bytes_the_lowest_first():
    image = MemoryImage(
        MemoryLayout("fc", "words", (("line", 2),), 3, (Field("code", 4),)), np.array([[0x321], [0xFFF]], np.uint64)
    )
    assert image.octets.tolist() == [[0x21, 0x03], [0xFF, 0x0F]]
    assert (image.width_bits, image.depth, image.bits, image.layout.limbs) == (12, 2, 24, 1)


def test_a_head_has_the_codebook_of_its_own_task_though_its_words_list_others():
    net = random_network(Recipe(kind="mlp", tasks=2, seed=31))
    head = net.head(1)
    words = net.words(1, head)
    others = replace(words, codebooks=(words.codebooks[1][:1] + 1, words.codebooks[1]))  # nobody owns with the first
    layers = list(net.banks[0].layers)
    layers[head] = others
    other = replace(net, banks=(replace(net.banks[0], layers=tuple(layers)),))
    for mask in ("deep", "runtime"):
        same = [
            [image.limbs.tolist() for image in accelerator(some, settings(some, mask=mask)).images]
            for some in (net, other)
        ]
        assert same[0] == same[1]


def test_wide_words_go_on_in_the_next_limb():
    limbs = pack_lanes([(np.arange(1, 11).reshape(1, 10), 7)])
    assert limbs.shape == (1, 2)
    assert int(limbs[0, 0]) + (int(limbs[0, 1]) << 64) == sum((i + 1) << 7 * i for i in range(10))


def test_the_window_loads_while_it_sends():
    # 1 channel, 4 x 4, kernel 3, padding 1: two rows first, then four times 4 windows of 9 words, loading 4 words each
    window = Window((1, 4, 4), (3, 3), (1, 1), (1, 1), (4, 4), lanes=1)
    assert [window.rows_needed(row) for row in range(4)] == [2, 3, 4, 4]
    assert window.cycles == 2 * 4 + 4 * 36
    assert window.buffer_words == 16


def test_what_is_left_of_the_image_is_read_at_the_end():
    window = Window((2, 5, 5), (2, 2), (2, 2), (0, 0), (2, 2), lanes=2)
    assert window.cycles == 2 * 5 + max(8, 2 * 5) + max(8, 5)


def test_nearest_divisors_of_a_prime_are_one_and_itself():
    assert nearest_divisors(7, 3) == (1, 7)


@pytest.mark.parametrize(
    ("pe", "simd", "message"),
    [
        (3, 1, "layer 'fc0': pe=3 does not divide its 10 rows; nearest: 2 or 5"),
        (1, 4, "layer 'fc0': simd=4 does not divide its 14 columns; nearest: 2 or 7"),
    ],
)
def test_illegal_folding_is_refused_with_the_nearest_legal_choices(pe, simd, message):
    net = random_network(Recipe(seed=8))  # fc0: 14 to 10
    units = dict.fromkeys(unit_names(net), UnitSettings(Folding(1)))
    with pytest.raises(FoldingError) as caught:
        accelerator(net, HardwareSettings(units | {"fc0": UnitSettings(Folding(pe, simd))}))
    assert str(caught.value) == message


def test_a_unit_without_settings_and_an_unknown_one_are_refused():
    net = random_network(Recipe(kind="mlp", tasks=1, seed=5))
    names = unit_names(net)
    with pytest.raises(FoldingError, match=f"^layer '{names[0]}': has no folding; the layers are "):
        accelerator(net, HardwareSettings({}))
    units = dict.fromkeys((*names, "fc9"), UnitSettings(Folding(1)))
    with pytest.raises(FoldingError, match=r"^layer 'fc9': no such layer; the layers are fc0"):
        accelerator(net, HardwareSettings(units))


def test_masks_can_be_left_out_only_where_every_word_is_used():
    net = random_network(Recipe(kind="mlp", tasks=2, mask_kinds=("full",), seed=5))
    body = unit_names(net)[0]
    units = dict.fromkeys(unit_names(net), UnitSettings(Folding(1)))
    design = accelerator(net, HardwareSettings(units | {body: UnitSettings(Folding(1), "none")}))
    assert [image.kind for image in design.images if image.unit == body] == [
        "words",
        "codebook",
        "scales",
        "task",
    ]
    sparse = random_network(Recipe(kind="mlp", tasks=2, seed=5))
    with pytest.raises(FoldingError, match=r"mask='none', but task 'task0' does not use every word"):
        accelerator(sparse, HardwareSettings(units | {body: UnitSettings(Folding(1), "none")}))


def test_a_network_whose_tasks_run_other_layers_is_no_pipeline():
    assert obstacles(NET) == []
    narrow = replace(U8, bits=7)
    steps = list(NET.tasks[1].steps)
    steps[0] = replace(steps[0], requantization=replace(steps[0].requantization, output=narrow))
    other = replace(NET, tasks=(NET.tasks[0], replace(NET.tasks[1], steps=tuple(steps))))
    assert obstacles(other) == [
        "layer 'conv': its output has 7 bits unsigned, 8 bits unsigned by task; a stream has one width and sign"
    ]
    with pytest.raises(ExportError, match="a stream has one width and sign"):
        accelerator(other, settings(NET))


def test_behind_an_addition_of_flattened_streams_the_pixels_stay_in_order():
    layers = [
        (Conv2d("conv", 2, 3, (1, 1)), np.ones((3, 2, 1, 1)), requantization(U8, 2, channels=3)),
        (Flatten("flat", (0,)), None, None),
        (Add("add", (1, 1)), None, requantization(U8, 1)),
    ]
    net = network((2, 2, 2), U8, layers)
    design = accelerator(net, settings(net))
    assert [unit.output.shape for unit in design.units] == [(3, 2, 2), (3, 2, 2), (2,)]


def test_streams_of_different_orders_are_not_added_and_none_is_left_unread():
    layers = [
        (Conv2d("conv", 2, 3, (1, 1)), np.ones((3, 2, 1, 1)), requantization(U8, 2, channels=3)),
        (Flatten("flat", (0,)), None, None),
        (Linear("fc", 12, 12, (1,)), np.ones((12, 12)), requantization(U8, 4, channels=12)),
        (Linear("aside", 12, 5, (1,)), np.ones((5, 12)), requantization(U8, 4, channels=5)),
        (Add("add", (1, 2)), None, requantization(U8, 1)),
    ]
    assert obstacles(network((2, 2, 2), U8, layers)) == [
        "layer 'aside': no layer reads it",
        "layer 'add': adds streams of (3, 2, 2) and (12,), which come in different orders",
    ]
