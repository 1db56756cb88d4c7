"""The ONNX graphs against the int64 loops of tsn_hw.core.reference, on onnxruntime and ONNX's reference evaluator."""

import itertools
from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

from export import onnx_graph
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, recipes
from tests.helpers.onnx_engines import (
    BEYOND_FLOAT32,
    ENGINES,
    EXAMPLES,
    S8,
    S16,
    U8,
    U16,
    assert_equal_integers,
    forms,
    linear_network,
    on_onnxruntime,
    scale,
    session,
)
from tests.helpers.small_network import NET, put, step, words
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import ExportError
from tsn_hw.core.layers import Add, Linear
from tsn_hw.core.network import UNUSED, Bank, PackedNetwork, Task

# the same integers everywhere ---------------------------------------------------------------------------------------


@settings(max_examples=EXAMPLES)
@given(recipes())
def test_random_networks_compute_the_integers_of_the_int64_loops(recipe):
    net = random_network(recipe)
    task = recipe.seed % len(net.tasks)
    assert_equal_integers(net, task, seed=recipe.seed)
    assert_equal_integers(net, task, form="integer", engines=[on_onnxruntime], seed=recipe.seed)
    with suppress(ExportError):  # which sums exceed float32 is tested below
        assert_equal_integers(net, task, form="float32", engines=[on_onnxruntime], seed=recipe.seed)


CORNERS = {
    "all masks empty": Recipe(mask_kinds=("empty",)),
    "all masks full": Recipe(kind="conv", mask_kinds=("full",)),
    "one weight a layer": Recipe(mask_kinds=("one weight",)),
    "16 by 16 bits": Recipe(kind="conv", act_bits=16, centroid_bits=16, density=0.9),
    "16 by 16 bits with multipliers": Recipe(act_bits=16, centroid_bits=16, multipliers=True, density=0.9),
    "8 bits with multipliers": Recipe(kind="residual", multipliers=True),
    "signed input, padding": Recipe(kind="conv", signed_input=True, seed=3),
    "signed 16-bit activations, padding": Recipe(kind="residual", signed_input=True, act_bits=16),
    "4-bit activations": Recipe(kind="conv", act_bits=4),
    "12 tasks in 3 banks, widths 1..8": Recipe(tasks=12, banks=3, code_bits=(1, 8)),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_corner_cases_in_every_form(corner):
    net = random_network(CORNERS[corner])
    task = len(net.tasks) - 1
    assert_equal_integers(net, task)
    assert_equal_integers(net, task, form="integer")
    if "16" not in corner:
        assert_equal_integers(net, task, form="float32")


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_go_to_the_even_neighbour_and_sums_saturate(engine):
    net = linear_network([[1], [-1], [127]], scale([1, 1, 1], [0, 10, 0], 1))
    outputs = engine(onnx_graph(net, 0, taps=True))(x=np.array([[0], [1], [3], [5], [7], [255]], np.uint8))
    assert outputs["fc"].tolist() == [[0, 5, 0], [0, 4, 64], [2, 4, 190], [2, 2, 255], [4, 2, 255], [128, 0, 255]]
    assert outputs["logits"].tolist() == [[0], [0], [2], [2], [4], [128]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", [None, "float32", "integer"])
def test_a_signed_output_keeps_its_sign_in_every_form(engine, form):
    net = linear_network([[1], [-1]], scale([1, 1], [0, 0], 0, S8))
    outputs = engine(onnx_graph(net, 0, taps=True, form=form))(x=np.array([[3], [255]], np.uint8))
    assert outputs["fc"].tolist() == [[3, -3], [127, -128]]
    assert outputs["logits"].tolist() == [[3], [127]]


def test_uint8_by_uint8_saturates_nowhere():
    """255 * (127 + 127) exceeds the 16 bits in which uint8 by int8 adds pairs on processors without VNNI."""
    net = linear_network(np.full((2, 64), [[127], [-128]]), scale([1, 1], [0, 0], 6, S16))
    for form in (None, "integer"):
        outputs = on_onnxruntime(onnx_graph(net, 0, taps=True, form=form))(x=np.full((1, 64), 255, np.uint8))
        assert outputs["fc"].tolist() == [[255 * 127, -255 * 128]]


def pair_network(first, second, shift, output):
    """Two inputs of 8 bits, brought to the formats of both operands of an Add without a loss, added, and passed on."""
    layers = (
        Linear("first", 2, 1),
        Linear("second", 2, 1),
        Add("add", (0, 1)),
        Linear("head", 1, 1, (2,)),
    )
    low = [128 * form.signed for form in (first, second)]
    bank = Bank(
        (words([[0, UNUSED]], [[0, 0]], [1]), words([[UNUSED, 0]], [[0, 0]], [1]), None, words([[0]], [[0]], [1]))
    )
    steps = (
        step([[1, 0]], scale([1], [-low[0]], 0, first)),
        step([[0, 1]], scale([1], [-low[1]], 0, second)),
        step(None, scale([1], [0], shift, output)),
        step([[1]], scale([1], [0], 0, None)),
    )
    return PackedNetwork((2,), U8, layers, (bank,), (Task("only", 0, ("yes",), steps),))


@pytest.mark.parametrize("apart", [0, 1, 7])
@pytest.mark.parametrize("shift", [0, 1, 6])
def test_every_pair_of_bytes_is_added_exactly(apart, shift):
    x = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).reshape(-1, 2)
    for first, second, output in itertools.product((U8, S8), (U8, S8), (U8, S8, ActFormat(4, True, 0))):
        net = pair_network(first, replace(second, exponent=apart), shift, replace(output, exponent=shift))
        model = onnx_graph(net, 0, taps=True)
        assert forms(model)["add"] == "quantized"
        expected = reference.run(net, 0, x)["add"]
        for engine in ENGINES:
            np.testing.assert_array_equal(engine(model)(x=x.astype(np.uint8))["add"], expected)


@pytest.mark.parametrize(
    ("requantization", "kinds"),
    [
        (scale([1, 1], [5, -5], 2), ["QGemm", "QGemm", "Cast"]),
        (scale([3, 3], [6, -9], 4), ["QGemm", "QGemm", "Cast"]),
        (scale([3, 7], [6, -7], 4), ["Unsqueeze", "QLinearConv", "Squeeze", "QGemm", "Cast"]),
        (BEYOND_FLOAT32, ["Unsqueeze", "QLinearConv", "Squeeze", "QGemm", "Cast"]),
    ],
    ids=["gemm", "scale", "scales", "large"],
)
def test_onnxruntime_makes_one_operator_of_a_linear_layer(tmp_path, requantization, kinds):
    path = tmp_path / "optimized.onnx"
    session(onnx_graph(linear_network([[1, -2], [3, 4]], requantization), 0), optimized_model_filepath=str(path))
    assert [node.op_type for node in onnx.load(path).graph.node] == kinds


def test_onnxruntime_adds_bytes_in_one_operator(tmp_path):
    path = tmp_path / "optimized.onnx"
    net = pair_network(U8, S8, 1, U8)
    session(onnx_graph(net, 0), optimized_model_filepath=str(path))
    assert "QLinearAdd" in [node.op_type for node in onnx.load(path).graph.node]


def test_sums_beyond_float64_are_requantized_in_int64():
    requantization = scale([32767], [1], 40, S16)
    net = linear_network(np.full((1, 1024), 32767), requantization, U16, centroid_bits=16)
    model = onnx_graph(net, 0, taps=True)
    assert "RequantizeInteger" in {node.op_type for node in model.graph.node}
    assert_equal_integers(net, 0)
    x = np.full((1, 1024), 65535, np.uint16)
    assert on_onnxruntime(model)(x=x)["fc"].tolist() == [[32767]]  # 2**56.0 / 2**40 saturates
    assert on_onnxruntime(model)(x=x // 4)["fc"].tolist() == [[round((16383 * 32767 * 1024 * 32767 + 1) / 2**40)]]


def test_sums_of_more_than_32_bits_saturate():
    """3 * 2**30 after the shift, which a clip of its low 32 bits takes for a negative number."""
    net = linear_network([[1], [1]], scale([1, 1], [3 << 53, -(3 << 53)], 23))
    for form in (None, "float32", "integer"):
        for engine in ENGINES:
            assert engine(onnx_graph(net, 0, taps=True, form=form))(x=np.array([[9]], np.uint8))["fc"].tolist() == [
                [255, 0]
            ]


@pytest.mark.parametrize(("offset", "shift", "logit"), [(7, 0, 7), (-1, 0, -1), (0, 0, 0), (3 << 20, 21, 2)])
def test_a_head_of_multiplier_zero_gives_its_offset_alone(offset, shift, logit):
    net = random_network(Recipe(kind="mlp", tasks=1, widths=(3, 2), classes=1))
    head = net.head(0)
    net = put(net, ("tasks", 0, "steps", head, "requantization"), scale([0], [offset], shift, None))
    for form in (None, "float32", "integer"):
        for engine in ENGINES:
            outputs = engine(onnx_graph(net, 0, form=form))(x=np.array([[0, 1, 2], [255, 9, 0]], np.uint8))
            assert outputs["logits"].tolist() == [[logit], [logit]]
    with pytest.raises(ExportError) as error:
        onnx_graph(net, 0, form={"head0": "quantized"})
    assert str(error.value) == (
        "layer 'head0': the form 'quantized' is not exact: "
        "channel 0 has multiplier 0, which is no scale and hides every offset"
    )


def test_int64_without_a_shift_rounds_nothing():
    full = 1024 * 32767 * 65535 * 32767  # about 2**56
    net = linear_network(np.full((1, 1024), 32767), scale([32767], [3 - full], 0, S16), U16, centroid_bits=16)
    model = onnx_graph(net, 0, taps=True)
    assert "RequantizeInteger" in {node.op_type for node in model.graph.node}
    assert on_onnxruntime(model)(x=np.full((1, 1024), 65535, np.uint16))["fc"].tolist() == [[3]]


def test_sums_of_bytes_are_exact_where_they_exceed_their_total():
    """-1 is the bytes -1 and 255: the low ones sum up to 401 * 255 * 255, an odd number beyond 2**24."""
    net = linear_network([[*[-1] * 401, 200]], scale([1], [401 * 255], 0, S16), centroid_bits=16)
    x = np.array([[*[255] * 401, 0]], np.uint8)
    for engine in ENGINES:
        assert engine(onnx_graph(net, 0, taps=True, form="integer"))(x=x)["fc"].tolist() == [[0]]


# the rule -----------------------------------------------------------------------------------------------------------


def test_every_form_has_its_place():
    ones = [[1, 1]]
    assert forms(onnx_graph(linear_network(ones, scale([1], [0], 1)), 0)) == {
        "fc": "quantized",
        "head": "quantized",
    }
    assert forms(onnx_graph(linear_network(ones, scale([3], [6], 1)), 0))["fc"] == "quantized"
    assert forms(onnx_graph(linear_network(ones, scale([3], [7], 1)), 0))["fc"] == "integer"
    assert forms(onnx_graph(linear_network(ones, scale([1], [2**24 + 1], 1)), 0))["fc"] == "quantized"  # saturates
    assert forms(onnx_graph(linear_network(ones, scale([1], [0], 1), U16), 0))["fc"] == "float32"
    wide = linear_network([[32767, 32767]], scale([1], [0], 20), U16, centroid_bits=16)
    assert forms(onnx_graph(wide, 0))["fc"] == "integer"


OBSTACLES = {
    "its accumulator reaches 19660500, at most 16777216": ("float32", [[300]], scale([1], [0], 20), U16),
    "activations or centroids have more than 8 bits": ("quantized", [[300]], scale([1], [0], 20), U16),
    "channel 1 has offset 7, no multiple of its multiplier 3": ("quantized", [[1], [1]], scale([3, 3], [6, 7], 1), U8),
    "float32 rounds sums up to 1040400 otherwise in channel 1, whose scale is 1505 / 2**22": (
        "quantized",
        [[127] * 32, [127] * 32 + [1] * 16],
        scale([1506, 1505], [0, 0], 22),
        U8,
    ),
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_a_form_that_is_not_exact_is_refused(reason):
    form, weights, requantization, source = OBSTACLES[reason]
    width = max(map(len, weights))
    rows = [[*row, *[0] * (width - len(row))] for row in weights]
    net = linear_network(rows, requantization, source, centroid_bits=16 if source == U16 else 8)
    for forced in (form, {"fc": form}):
        with pytest.raises(ExportError) as error:
            onnx_graph(net, 0, form=forced)
        assert str(error.value) == f"layer 'fc': the form '{form}' is not exact: {reason}"


def test_a_head_is_quantized_only_as_a_gemm_within_float32():
    net = linear_network([[1]], scale([1], [0], 0), head_offset=2**24)
    assert forms(onnx_graph(net, 0))["head"] == "integer"
    with pytest.raises(ExportError) as error:
        onnx_graph(net, 0, form="quantized")
    reason = "its logits are no bytes, and it is no Gemm of one scale within float32"
    assert str(error.value) == f"layer 'head': the form 'quantized' is not exact: {reason}"


def test_layers_are_forced_one_by_one():
    free = forms(onnx_graph(NET, 1))
    assert free["mix"] == free["add"] == "quantized"
    for form in ("float32", "integer"):
        forced = {"mix": form, "add": form}
        assert forms(onnx_graph(NET, 1, form=forced)) == free | forced
        assert_equal_integers(NET, 1, form=forced)


def test_forms_of_layers_that_have_none_are_refused():
    with pytest.raises(ExportError, match=r"^form of layer 'fc9': the network has no such layer$"):
        onnx_graph(NET, 1, form={"fc9": "integer"})
    with pytest.raises(ExportError, match=r"^form of layer 'pool': it computes nothing$"):
        onnx_graph(NET, 1, form={"pool": "integer"})


def test_a_layer_too_wide_for_int32_sums_of_bytes_is_refused():
    weights = np.full((1, 33_026), 127)
    net = linear_network(weights, scale([1], [0], 20))
    with pytest.raises(ExportError) as error:
        onnx_graph(net, 0)
    assert str(error.value) == (
        "layer 'fc': the form 'integer' is not exact: sums of uint8 products reach 2147515650, must fit int32"
    )


def test_layers_may_have_the_names_of_tensors():
    names = ["x", "logits", "flat", "mix.escaped", "x.codes", "128_u8", "head"]
    layers = tuple(replace(layer, name=name) for layer, name in zip(NET.layers, names, strict=False))
    net = replace(NET, layers=(*layers, *NET.layers[len(names) :]))
    integers, x = reference.run(net, 1, adversarial_inputs(net, 6)), adversarial_inputs(net, 6)
    for form in (None, "float32", "integer"):
        model = onnx_graph(net, 1, taps=True, form=form)
        onnx.checker.check_model(model, full_check=True)
        running = session(model)
        outputs = dict(
            zip([o.name for o in running.get_outputs()], running.run(None, {"x": x.astype(np.uint8)}), strict=True)
        )
        assert outputs.keys() == {"logits", *(f"{name}:tap" for name in integers)}
        for name, values in integers.items():
            np.testing.assert_array_equal(outputs[f"{name}:tap"], values)
        np.testing.assert_array_equal(outputs["logits"], list(integers.values())[-1])
