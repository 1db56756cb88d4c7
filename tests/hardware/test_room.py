"""Room for later tasks: an accelerator is the same before and after they have come."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples

from tests.helpers.images import settings
from tests.helpers.networks import Recipe, random_network, recipes
from tests.helpers.small_network import ADD, MIX, NET, put
from tsn_hw.core.errors import FoldingError
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, unit_names
from tsn_hw.hardware.units import RequantizationWidths


def widths(design):
    """Every number of a unit that its hardware is made of."""
    names = ("rows", "columns", "regions", "prefix_bits", "code_bits", "centroid_bits", "scales")
    return [(unit.name, *(getattr(unit, name, None) for name in names)) for unit in design.units]


@examples(max_examples=15)
@given(recipes(extremes=False))  # offsets beyond what a unit reserves need a new accelerator
def test_no_width_changes_while_tasks_come(recipe):
    net = random_network(recipe)
    first = net.first_tasks(1 + recipe.seed % recipe.tasks)
    room = settings(net, pe=2, max_tasks=recipe.tasks + recipe.seed % 2, max_banks=3, code_bits=8, max_classes=5)
    assert widths(accelerator(first, room)) == widths(accelerator(net, room))


@examples(max_examples=15)
@given(recipes(extremes=False))  # offsets beyond what a unit reserves need a new accelerator
def test_what_is_loaded_for_a_task_does_not_change_while_others_come(recipe):
    net = random_network(recipe)
    count = 1 + recipe.seed % recipe.tasks
    room = settings(net, pe=2, mask="runtime", max_tasks=recipe.tasks, max_banks=3, code_bits=8, max_classes=5)
    before, after = accelerator(net.first_tasks(count), room), accelerator(net, room)
    assert before.task_images(count - 1)
    for a, b in zip(before.task_images(count - 1), after.task_images(count - 1), strict=True):
        assert a.layout == b.layout
        np.testing.assert_array_equal(a.limbs, b.limbs)


def test_reserves_follow_from_the_formats():
    # 8-bit activations: mix has 2 inputs of 8-bit centroids, add one operand shifted by 8, average 6 pixels
    design = accelerator(NET, settings(NET, max_tasks=2, max_banks=2, code_bits=3, max_classes=7))
    conv, mix, add, average, _, head = design.units
    assert mix.scales == RequantizationWidths(accumulator_bits=17, multiplier_bits=0, offset_bits=17, value_bits=19)
    assert add.scales == RequantizationWidths(accumulator_bits=17, multiplier_bits=0, offset_bits=17, value_bits=19)
    assert average.scales == RequantizationWidths(accumulator_bits=12, multiplier_bits=0, offset_bits=12, value_bits=14)
    assert (conv.prefix_bits, conv.code_bits, conv.regions) == (1, 3, 2)
    assert (head.rows, head.code_bits, head.regions) == (7, 3, 2)


def test_a_unit_with_multipliers_has_room_for_any():
    net = put(NET, ("tasks", 0, "steps", MIX, "requantization", "multiplier"), np.array([3, 1]))
    mix = accelerator(net, settings(net, max_tasks=2)).units[1]
    assert mix.scales == RequantizationWidths(accumulator_bits=17, multiplier_bits=16, offset_bits=33, value_bits=35)
    assert accelerator(net, settings(net)).units[1].scales.multiplier_bits == 3


def test_a_number_beyond_the_reserve_widens_its_field():
    net = put(NET, ("tasks", 0, "steps", ADD, "requantization", "offset"), np.array([1 << 30]))
    scales = accelerator(net, settings(net, max_tasks=2)).units[2].scales
    assert scales == RequantizationWidths(accumulator_bits=17, multiplier_bits=0, offset_bits=32, value_bits=34)


@pytest.mark.parametrize(
    ("room", "message"),
    [
        ({"max_tasks": 1}, "max_tasks=1: the network has 2 already"),
        ({"max_classes": 2}, "max_classes=2: the network has 3 already"),
        ({"code_bits": 9}, "code_bits=9: must be 0..8"),
        ({"code_bits": 1}, "layer 'mix': code_bits=1, but it has codes of 2 bits"),
    ],
)
def test_less_room_than_there_is_need_is_refused(room, message):
    with pytest.raises(FoldingError) as caught:
        settings(NET, **room)
    assert str(caught.value) == message


def test_the_heads_are_one_unit_of_one_name_whatever_their_number():
    net = random_network(Recipe(kind="mlp", tasks=2, seed=5))
    assert unit_names(net.first_tasks(1)) == unit_names(net)
    assert unit_names(net)[-1] == "head"
    named = replace(net, layers=(replace(net.layers[0], name="head"), *net.layers[1:]))
    assert unit_names(named)[-1] == "head_"


def test_without_masks_there_is_no_room_even_when_it_is_used_up():
    net = random_network(Recipe(kind="mlp", tasks=2, mask_kinds=("full",), seed=5))
    units = dict.fromkeys(unit_names(net), UnitSettings(Folding(1)))
    body = unit_names(net)[0]
    message = rf"^layer '{body}': mask='none' leaves later tasks nothing; drop max_tasks, or choose 'deep'$"
    with pytest.raises(FoldingError, match=message):
        accelerator(net, HardwareSettings(units | {body: UnitSettings(Folding(1), "none")}, max_tasks=2))
