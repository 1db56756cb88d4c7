"""Folding files: what is written is read again, and everything that is wrong is one line with place, rule and value."""

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from export.project.folding_json import final_config_json, folding_json, read_folding
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, random_network, recipes
from tests.helpers.small_network import NET
from tsn_hw.core.errors import ExportError, FoldingError
from tsn_hw.core.layers import Linear
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.pipeline import accelerator

MLP = random_network(Recipe(seed=31))  # fc0: 37 to 20, fc1: 20 to 3, two heads
RESIDUAL = random_network(Recipe(kind="residual", seed=3))


def test_a_file_names_every_unit_and_its_parallelism() -> None:
    chosen = HardwareSettings(
        {
            "fc0": UnitSettings(Folding(4, 37), "runtime", "block"),
            "fc1": UnitSettings(Folding(3, 10)),
            "head": UnitSettings(Folding(1, 3), ram_style="ultra"),
        },
        max_tasks=8,
    )
    assert folding_json(chosen, MLP) == (
        "{\n"
        ' "fc0": {"PE": 4, "SIMD": 37, "ram_style": "block", "mask_mode": "runtime"},\n'
        ' "fc1": {"PE": 3, "SIMD": 10, "ram_style": "auto", "mask_mode": "deep"},\n'
        ' "head": {"PE": 1, "SIMD": 3, "ram_style": "ultra", "mask_mode": "deep"},\n'
        ' "max_tasks": 8,\n'
        ' "max_banks": 0,\n'
        ' "code_bits": 0,\n'
        ' "max_classes": 0\n'
        "}\n"
    )


@hypothesis.settings(max_examples=20)
@hypothesis.given(recipes(), st.data())
def test_reading_gives_the_settings_that_were_written(recipe: Recipe, data: st.DataObject) -> None:
    net = random_network(recipe)
    mask = data.draw(st.sampled_from(["deep", "runtime"]))
    chosen = settings(net, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)), mask, max_tasks=recipe.tasks + 1)
    assert read_folding(folding_json(chosen, net), "folding.json", net) == chosen


def test_what_a_unit_does_not_say_comes_from_the_defaults() -> None:
    text = '{"Defaults": {"PE": 1, "SIMD": 1, "mask_mode": "runtime"}, "fc1": {"SIMD": 5, "ram_style": "block"}}'
    assert read_folding(text, "f.json", MLP) == HardwareSettings(
        {
            "fc0": UnitSettings(Folding(1, 1), "runtime", "auto"),
            "fc1": UnitSettings(Folding(1, 5), "runtime", "block"),
            "head": UnitSettings(Folding(1, 1), "runtime", "auto"),
        }
    )


def test_units_without_weights_have_pe_alone() -> None:
    text = '{"Defaults": {"PE": 1, "SIMD": 1}, "average": {"PE": 2}}'
    read = read_folding(text, "f.json", RESIDUAL)
    assert read.units["average"] == UnitSettings(Folding(2, 1))
    assert json.loads(folding_json(read, RESIDUAL))["add"] == {"PE": 1, "ram_style": "auto", "mask_mode": "deep"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.json: not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[]", "f.json: must be an object, found []"),
        ('{"fc9": {}}', "f.json: 'fc9': no such layer; the layers are fc0, fc1, head"),
        ('{"Defaults": 3}', "f.json: 'Defaults': must be a table, found int"),
        (
            '{"Defaults": {"pe": 1}}',
            "f.json: 'Defaults': unknown key 'pe'; known are PE, SIMD, ram_style, mask_mode, layout, lines, "
            "multiplier, computed",
        ),
        ('{"fc0": {"PE": "4"}}', "f.json: layer 'fc0': PE = '4': must be a whole number"),
        ('{"fc0": {"PE": true}}', "f.json: layer 'fc0': PE = True: must be a whole number"),
        ('{"fc0": {"PE": 2.0}}', "f.json: layer 'fc0': PE = 2.0: must be a whole number"),
        ('{"fc0": {"SIMD": 0}}', "f.json: layer 'fc0': SIMD = 0: must be 1..2147483647"),
        (
            '{"fc0": {"ram_style": "bram"}}',
            "f.json: layer 'fc0': ram_style = 'bram': must be one of 'auto', 'block', 'distributed', 'ultra'",
        ),
        (
            '{"fc0": {"mask_mode": ["deep"]}}',
            "f.json: layer 'fc0': mask_mode = ['deep']: must be one of 'deep', 'runtime', 'none'",
        ),
        ('{"max_tasks": -1}', "f.json: max_tasks = -1: must be 0..4096"),
        ('{"max_banks": null}', "f.json: max_banks = None: must be a whole number"),
        ('{"max_classes": 4611686018427387904}', "f.json: max_classes = 4611686018427387904: must be 0..1048576"),
        ('{"fc0": {"PE": 1, "PE": 2}}', "f.json: not JSON ('PE' stands there twice)"),
        ("{}", "f.json: layer 'fc0': has no PE, and 'Defaults' gives none"),
        ('{"Defaults": {"PE": 1}}', "f.json: layer 'fc0': has no SIMD, and 'Defaults' gives none"),
        (
            f'{{"fc0": {{"PE": "{"4" * 5000}"}}}}',
            f"f.json: layer 'fc0': PE = '{'4' * 76}...: must be a whole number",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text: str, message: str) -> None:
    with pytest.raises(FoldingError) as caught:
        read_folding(text, "f.json", MLP)
    assert str(caught.value) == message


def test_a_pool_that_is_given_simd_is_refused() -> None:
    with pytest.raises(FoldingError) as caught:
        read_folding('{"Defaults": {"PE": 1, "SIMD": 1}, "add": {"SIMD": 2}}', "f.json", RESIDUAL)
    assert str(caught.value) == "f.json: layer 'add': SIMD is for layers with weights; this one has PE alone"


@pytest.mark.parametrize("name", ["Defaults", "max_tasks"])
def test_a_layer_that_has_the_name_of_a_key_is_refused(name: str) -> None:
    layers = tuple(
        Linear(name, layer.in_features, layer.out_features, layer.inputs) if layer.name == "fc0" else layer
        for layer in MLP.layers
    )
    renamed = PackedNetwork(MLP.input_shape, MLP.input, layers, MLP.banks, MLP.tasks)
    with pytest.raises(ExportError) as caught:
        read_folding("{}", "f.json", renamed)
    assert str(caught.value) == f"layer {name!r}: has the name of a key of folding files; rename the layer"


def test_an_illegal_folding_is_left_to_the_pipeline_which_names_the_nearest_legal_ones() -> None:
    read = read_folding('{"Defaults": {"PE": 1, "SIMD": 1}, "fc0": {"PE": 3}}', "f.json", MLP)
    with pytest.raises(FoldingError) as caught:
        accelerator(MLP, read)
    assert str(caught.value) == "layer 'fc0': pe=3 does not divide its 20 rows; nearest: 2 or 4"


def test_the_final_config_is_the_folding_with_the_figures_that_follow_and_can_be_read_again() -> None:
    for net in (MLP, RESIDUAL, NET):
        chosen = settings(net, pe=2, simd=2, max_tasks=8, max_banks=2)
        design = accelerator(net, chosen)
        text = final_config_json(design)
        assert read_folding(text, "final_hw_config.json", net) == chosen
        values = json.loads(text)
        for unit in design.units:
            entry, figures = values[unit.name], values[unit.name]["computed"]
            assert entry["PE"] == unit.settings.folding.pe
            assert figures["cycles"] == unit.cycles
            assert unit.input_lanes * unit.sources[0].bits in [fifo["width_bits"] for fifo in figures["fifos"]]
            assert min(fifo["depth"] for fifo in figures["fifos"]) >= 2
            assert figures["output_shape"] == list(unit.output.shape)
            assert figures["input_bits"] == unit.sources[0].bits
            if isinstance(unit, MatrixUnit):
                assert (figures["rows"], figures["columns"], figures["lines"]) == (unit.rows, unit.columns, unit.lines)
                assert figures["accumulator_bits"] == unit.scales.accumulator_bits
