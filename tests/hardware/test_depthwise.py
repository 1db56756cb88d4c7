"""Depthwise convolutions on chip: their own words and cycles, and no others."""

import pytest

from benchmarks.nets import random_ds_cnn
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, random_network
from tsn_hw.core.errors import FoldingError
from tsn_hw.hardware.depthwise import DepthwiseUnit
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.list_unit import ListUnit
from tsn_hw.hardware.pipeline import accelerator, refold_unit


@pytest.mark.parametrize("pe", [1, 4, 16])
def test_a_depthwise_unit_has_a_word_a_weight_and_a_cycle_for_every_pe_products(pe):
    net = random_ds_cnn(channels=16)
    design = accelerator(net, settings(net, pe=pe, simd=4))
    found = [unit for unit in design.units if isinstance(unit, DepthwiseUnit)]
    assert [unit.name for unit in found] == [f"depthwise{i}" for i in range(4)]
    for unit in found:
        layer = net.layers[unit.layers[0]]
        words = next(layout for layout in unit.layouts(1) if layout.kind == "words")
        assert words.depth * words.lanes == layer.weight_count
        assert unit.steps * pe == layer.macs(net.shape(layer.inputs[0])) == unit.rows * 9 * unit.positions
        assert "vector" not in {memory.kind for memory in unit.buffers}


def test_its_words_may_all_be_used():
    net = random_network(Recipe("depthwise", tasks=1, mask_kinds=("full",), seed=13))
    mask = {"strided": "none"}
    units = {
        unit.name: UnitSettings(Folding(1), mask.get(unit.name, "deep"))
        for unit in accelerator(net, settings(net)).units
    }
    assert accelerator(net, HardwareSettings(units)).units[3].settings.mask == "none"


def test_simd_divides_the_one_channel_of_a_row():
    net = random_network(Recipe("depthwise", tasks=1, seed=13))
    units = {unit.name: UnitSettings(Folding(1)) for unit in accelerator(net, settings(net)).units}
    units["strided"] = UnitSettings(Folding(1, 2))
    with pytest.raises(FoldingError) as error:
        accelerator(net, HardwareSettings(units))
    assert str(error.value) == "layer 'strided': simd=2 does not divide its 1 input channels a row; nearest: 1"


def test_lists_and_a_second_row_a_channel_take_the_words_of_all_channels():
    net = random_network(Recipe("depthwise", tasks=1, seed=13))
    design = accelerator(net, settings(net))
    twice, own = design.units[1], design.units[3]
    assert type(twice) is MatrixUnit
    assert twice.columns == 9 * net.layers[1].in_channels
    lists = refold_unit(own, UnitSettings(Folding(2, 2), layout="lists"))
    assert isinstance(lists, ListUnit)
    assert (lists.columns, lists.window.lanes) == (6 * own.rows, 2)
    assert refold_unit(lists, own.settings) == own
