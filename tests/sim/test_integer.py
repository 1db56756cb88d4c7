"""The fast simulator: equal to the int64 reference everywhere, never on a carrier that is not proven."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import sim.integer
import sim.plan
from sim import Simulator, int8, simulate
from sim.plan import LayerPlans
from sim.proof import int8_product_limit
from tests.helpers.handmade import S8, S16, U8, U16, linear, network, requantization
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, recipes
from tests.helpers.simulators import assert_equals_reference
from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Linear, MaxPool, Pad
from tsn_hw.core.network import PackedNetwork

CASES = json.loads((Path(__file__).parents[1] / "cases" / "requantize.json").read_text())["rules"]
S9 = ActFormat(9, signed=True, exponent=0)


@contextmanager
def limits(float32: int, float64: int) -> Iterator[None]:
    """Pretend that the carriers hold less than they do: small networks then need all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "FLOAT32_EXACT", float32)
        patch.setattr(arithmetic, "FLOAT64_EXACT", float64)
        yield


def kernels(net: PackedNetwork, task: int = 0) -> dict[str, str]:
    return {plan.facts.name: plan.kernel for plan in Simulator(net, task, int8=False).plan}


# --- every network, every layer ---------------------------------------------------------------------------------------


@given(recipes())
def test_simulator_equals_the_reference(recipe: Recipe) -> None:
    net = random_network(recipe)
    assert_equals_reference(net, adversarial_inputs(net, 7))


@given(recipes())
def test_simulator_equals_the_reference_on_int8_kernels(recipe: Recipe) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sim.plan, "INT8_MIN_MACS", 0)
        net = random_network(recipe)
        assert_equals_reference(net, adversarial_inputs(net, 7))


@settings(max_examples=60)
@given(recipes())
def test_simulator_equals_the_reference_when_float_carriers_hold_little(recipe: Recipe) -> None:
    net = random_network(recipe)
    with limits(float32=2**11, float64=2**15):
        assert_equals_reference(net, adversarial_inputs(net, 7))


def test_the_random_networks_meet_every_kernel() -> None:
    met = set()
    for seed in range(12):
        for kind in ("mlp", "conv", "residual"):
            net = random_network(Recipe(kind, act_bits=16 if seed % 3 else 4, multipliers=bool(seed % 2), seed=seed))
            with pytest.MonkeyPatch.context() as patch, limits(2**11, 2**15) if seed % 4 == 0 else limits(2**24, 2**53):
                patch.setattr(sim.plan, "INT8_MIN_MACS", 0)
                met |= {
                    (plan.kernel, plan.summary()["requantization"])
                    for plan in LayerPlans(net, 0, int8_limit=255 * 128).values()
                }
    assert {kernel for kernel, _ in met} == {"int8", "float32", "float32 in parts", "float64", "int64"}
    assert {how for _, how in met} == {"folded", "float32", "float64", "int64"}


@pytest.mark.parametrize("rule", CASES)
def test_rounding_follows_the_case_table(rule: str) -> None:
    for value, multiplier, offset, shift, bits, signed, expected in CASES[rule]:
        if bits > 16 or (abs(value) > 2**15 - 1 and multiplier != 1):
            continue  # no activation format; no small network reaches the accumulator
        if abs(value) < 2**15:
            net = linear([[1]], requantization(ActFormat(bits, signed, 0), shift, offset, multiplier), S16)
        else:  # the offset stands for an accumulator that no small network reaches
            net = linear([[0]], requantization(ActFormat(bits, signed, 0), shift, value + offset), S16)
        assert Simulator(net, 0).taps([[value if abs(value) < 2**15 else 0]])["fc"].tolist() == [[expected]]


# --- the carrier is the proven one ------------------------------------------------------------------------------------


@given(recipes())
def test_float32_is_never_chosen_beyond_its_bound(recipe: Recipe) -> None:
    net = random_network(recipe)
    for task in range(len(net.tasks)):
        for index, plan in LayerPlans(net, task, int8_limit=255 * 128).items():
            layer, requant = net.layers[index], net.step(task, index).requantization
            if not isinstance(layer, Linear | Conv2d) or requant is None:
                continue
            rows = net.weights(task, index).reshape(layer.channels, -1).astype(object)  # Python's integers
            low, high = net.format(task, layer.inputs[0]).range
            reach = [max(np.maximum(w * low, w * high).sum(), -np.minimum(w * low, w * high).sum()) for w in rows]
            after = [
                int(r) * abs(int(m)) + abs(int(o))
                for r, m, o in zip(reach, requant.multiplier, requant.offset, strict=True)
            ]
            assert plan.facts.accumulator >= max(reach)
            if plan.kernel in ("int8", "float32"):
                assert max(reach) <= 2**24
                assert plan.requantization != "folded" or max(after) <= 2**24
            if plan.kernel == "float64":
                assert 2**24 < plan.facts.accumulator <= 2**53


@given(recipes())
def test_the_parts_of_a_split_sum_are_the_weights_and_fit_float32(recipe: Recipe) -> None:
    net, float32 = random_network(recipe), 2**12
    with limits(float32, float64=2**53):
        plans = dict(LayerPlans(net, 0, int8_limit=0))
    for index, plan in plans.items():
        if plan.parts:
            weights = net.weights(0, index)
            assert {part.byte for part in plan.parts} in ({None}, {0, 1})
            for byte in {part.byte for part in plan.parts}:  # each byte of the activations meets all weights
                whole = np.zeros_like(weights)
                for part in plan.parts:
                    if part.byte == byte:
                        whole[:, part.channels] += part.weights * part.factor
                        low, high = net.format(0, net.layers[index].inputs[0]).range
                        low, high = {None: (low, high), 0: (0, 255), 1: (low // 256, high // 256)}[byte]
                        rows = part.weights.reshape(len(weights), -1)
                        assert np.maximum(rows * low, rows * high).sum(axis=1).max() <= float32
                        assert np.minimum(rows * low, rows * high).sum(axis=1).min() >= -float32
                np.testing.assert_array_equal(whole, weights * (256 if byte == 1 else 1))


def test_float32_holds_a_sum_of_exactly_2_to_24() -> None:
    net = linear([[-(2**15), -(2**15)]], requantization(None), S9, head=False)  # 2 * 2**15 * 256
    assert [(p.kernel, p.facts.accumulator, p.requantization == "folded") for p in Simulator(net, 0).plan] == [
        ("float32", 2**24, True)
    ]
    assert simulate(net, 0, [[-256, -256], [-256, 255]]).tolist() == [[2**24], [2**15]]


def test_one_more_is_beyond_float32() -> None:
    net = linear([[-(2**15), -(2**15), -1]], requantization(None), S9, head=False)
    naive = np.float32([-256, -256, -1]) @ np.float32([-(2**15), -(2**15), -1])
    assert naive == 2**24  # wrong by one, without a word
    assert kernels(net) == {"fc": "float32 in parts"}
    assert simulate(net, 0, [[-256, -256, -1]]).tolist() == [[2**24 + 1]]


def test_an_offset_beyond_float32_is_added_in_float64() -> None:
    net = linear([[1, 1]], requantization(None, offset=2**24), U8, head=False)
    assert [(p.kernel, p.facts.carrier, p.requantization == "folded") for p in Simulator(net, 0).plan] == [
        ("float32", "float64", False)
    ]
    assert simulate(net, 0, [[1, 0], [1, 2]]).tolist() == [[2**24 + 1], [2**24 + 3]]


def test_a_single_wide_product_takes_float64() -> None:
    net = linear([[32767]], requantization(None), U16, head=False)
    assert kernels(net) == {"fc": "float64"}
    assert simulate(net, 0, [[65535], [65533]]).tolist() == [[2147385345], [2147319811]]


def test_an_offset_beyond_float64_is_added_in_int64() -> None:
    offset = 2**60 + 2**44  # half a step above an even quotient; float64 drops the last bit of offset + 1
    net = linear([[0], [0]], requantization(U16, shift=45, offset=[offset, offset + 1], channels=2), U8)
    assert float(offset) == float(offset + 1)
    assert [(p.facts.carrier, p.requantization == "folded") for p in Simulator(net, 0).plan][:1] == [("int64", False)]
    assert Simulator(net, 0).taps([[0]])["fc"].tolist() == [[32768, 32769]]


def test_an_addition_beyond_float64_takes_int64() -> None:
    fine, coarse = ActFormat(16, False, -40), ActFormat(16, False, 0)
    net = network(
        (2,),
        U16,
        [
            (Linear("fine", 2, 1), [[1, 0]], requantization(fine)),
            (Linear("coarse", 2, 1), [[0, 1]], requantization(coarse)),
            (Add("add", (0, 1)), None, requantization(U16, shift=40, offset=2**39)),
        ],
    )
    assert kernels(net)["add"] == "int64"
    assert Simulator(net, 0).taps([[0, 65534], [1, 65534], [0, 65533]])["add"].tolist() == [[65534], [65535], [65534]]


def test_wide_convolutions_are_split_and_linear_layers_only_along_their_inputs() -> None:
    conv = Conv2d("conv", 1, 1, (4, 4))
    rng = np.random.default_rng(0)
    weights = rng.choice([-127, 127, 80], (1, 1, 4, 4))
    net = network((1, 4, 4), U16, [(conv, weights, requantization(U16, shift=10))])
    assert [len(plan.parts) for plan in Simulator(net, 0).plan] == [2, 0]  # two bytes of the activations
    flat = linear(weights.reshape(1, 16), requantization(U16, shift=10), U16)
    assert kernels(flat)["fc"] == "float32 in parts"
    assert_equals_reference(net, adversarial_inputs(net, 9))
    assert_equals_reference(flat, adversarial_inputs(flat, 9))


def test_the_plan_is_plain_data() -> None:
    net = linear([[3, -2]], requantization(U8, shift=2, offset=5), U8)
    assert json.loads(json.dumps([plan.summary() for plan in Simulator(net, 0).plan]))[0] == {
        "layer": "fc",
        "kernel": "float32",
        "parts": 1,
        "sum_bound": 765,
        "requantization": "folded",
        "requantization_bound": 770,
        "refused": [],
    }


# --- int8 kernels -----------------------------------------------------------------------------------------------------

needs_int8 = pytest.mark.skipif(not int8.available(), reason="no int8 kernels on this processor")


def wide_linear(weight: int, act_bits: int, output: ActFormat = U8) -> PackedNetwork:
    weights = np.full((64, 256), weight)
    weights[1::2] = -weight
    weights[2, ::2] = 0
    shift = max(0, (abs(weight) * 256).bit_length() + act_bits - output.bits - 1)
    return linear(weights, requantization(output, shift, channels=64), ActFormat(act_bits, False, 0))


@needs_int8
@pytest.mark.parametrize(("weight", "act_bits"), [(64, 8), (128 - 1, 4), (127, 7)])
@pytest.mark.parametrize("output", [U8, ActFormat(4, False, 0), ActFormat(8, True, 0), U16], ids=str)
def test_int8_kernels_run_where_pairs_of_products_fit_16_bits(
    weight: int, act_bits: int, output: ActFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim.plan, "INT8_MIN_MACS", 0)
    net = wide_linear(weight, act_bits, output)
    (simulator,) = assert_equals_reference(net, adversarial_inputs(net, 9))
    assert simulator.plan[0].kernel == "int8"
    assert Simulator(net, 0, int8=False).plan[0].kernel == "float32"


def test_int8_kernels_run_full_products_only_where_the_test_allows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.plan, "INT8_MIN_MACS", 0)
    net = wide_linear(127, act_bits=8)
    (simulator,) = assert_equals_reference(net, adversarial_inputs(net, 9))
    assert (simulator.plan[0].kernel == "int8") == (int8_product_limit() >= 255 * 127)


@needs_int8
def test_int8_convolutions_pool_and_hand_over_to_other_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.plan, "INT8_MIN_MACS", 0)
    rng = np.random.default_rng(1)
    first, second = Conv2d("first", 3, 8, (3, 3), (1, 2), (1, 0)), Conv2d("second", 8, 8, (2, 2), inputs=(1,))
    net = network(
        (3, 12, 14),
        U8,
        [
            (first, rng.integers(-64, 65, first.weight_shape), requantization(ActFormat(7, False, 0), 8, channels=8)),
            (MaxPool("pool", (3, 2), (2, 1), (0,)), None, None),
            (second, rng.integers(-64, 65, second.weight_shape), requantization(U8, 7, 3, -3, channels=8)),
            (Add("add", (2, 2)), None, requantization(U8, 1)),
        ],
    )
    (simulator,) = assert_equals_reference(net, adversarial_inputs(net, 9).astype(np.uint8))
    assert [plan.kernel for plan in simulator.plan][:3] == ["int8", "int8", "float32"]


def test_int8_is_not_chosen_where_its_requantization_could_round() -> None:
    bound = 255 * 64 * 1024  # just below 2**24
    for offset, kernel, folded in ((2**24 - bound, "int8", True), (2**24 - bound + 1, "int8", False)):
        net = linear(np.full((1, 1024), 64), requantization(U8, 16, offset), U8)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sim.plan, "INT8_MIN_MACS", 0)
            plan = LayerPlans(net, 0, int8_limit=255 * 64)[0]
        assert (plan.kernel, plan.requantization == "folded") == (kernel, folded)
    wider = linear(np.full((1, 1032), 64), requantization(U8, 16), U8)
    assert LayerPlans(wider, 0, int8_limit=255 * 64)[0].kernel == "float32 in parts"


# --- the order of operations ------------------------------------------------------------------------------------------


def test_a_layer_that_is_pooled_and_read_elsewhere_keeps_its_own_integers() -> None:
    pool = MaxPool("pool", (2, 1), (1, 1), (0,))
    net = network(
        (1, 2, 1),
        U8,
        [
            (Conv2d("conv", 1, 1, (1, 1)), [[[[3]]]], requantization(S8, shift=1)),
            (pool, None, None),
            (AvgPool("sum", (2, 1), (1, 1), (0,)), None, requantization(S16)),
            (Add("add", (1, 2)), None, requantization(S16)),
        ],
    )
    x = np.array([1, 4]).reshape(1, 1, 2, 1)  # conv: 1.5 and 6; pool: 6; sum: 2 + 6
    assert simulate(net, 0, x).tolist() == [[14, 0]]
    assert_equals_reference(net, x)


def test_maxima_of_maxima_and_of_padded_maps_need_no_plan() -> None:
    layers = [
        (Pad("pad", (1, 0, 0, 2)), None, None),
        (MaxPool("once", (2, 1), (1, 1), (0,)), None, None),
        (MaxPool("twice", (1, 2), (1, 1), (1,)), None, None),
    ]
    net = network((1, 2, 2), S8, layers)
    x = np.array([-1, -2, -3, 4]).reshape(1, 1, 2, 2)
    values = {index: value.tolist() for index, value in enumerate(Simulator(net, 0).taps(x).values())}
    assert values[0] == [[[[0, 0, 0, 0], [-1, -2, 0, 0], [-3, 4, 0, 0]]]]
    assert values[1] == [[[[0, 0, 0, 0], [-1, 4, 0, 0]]]]
    assert values[2] == [[[[0, 0, 0], [4, 4, 0]]]]
    assert_equals_reference(net, x)


def test_pooling_before_the_requantization_sees_negative_multipliers() -> None:
    for offset in (0, 2**30):  # folded; then apart, in float64
        conv = Conv2d("conv", 1, 1, (1, 1))
        requant = requantization(S16, offset=-offset, multiplier=-3, shift=0 if offset == 0 else 20)
        net = network((1, 1, 2), U8, [(conv, [[[[1]]]], requant), (MaxPool("pool", (1, 2), (1, 1), (0,)), None, None)])
        assert simulate(net, 0, [[[[1, 9]]]]).tolist() == [[-3 if offset == 0 else -1024, 0]]
        assert_equals_reference(net, adversarial_inputs(net, 9))


# --- the public door --------------------------------------------------------------------------------------------------


def test_batches_are_split_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    net = random_network(Recipe("conv", seed=3))
    x = adversarial_inputs(net, 23)
    whole = Simulator(net, 0)(x)
    monkeypatch.setattr(sim.integer, "CHUNK_BYTES", 1)
    np.testing.assert_array_equal(Simulator(net, 0)(x), whole)
    assert_equals_reference(net, x[:5])


def test_an_empty_batch_gives_no_logits() -> None:
    for kind in ("mlp", "conv", "residual"):
        net = random_network(Recipe(kind, seed=5))
        x = np.zeros((0, *net.input_shape), np.int64)
        assert simulate(net, 0, x).shape == (0, len(net.tasks[0].classes))


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i4", "uint64"])
def test_any_integer_dtype_will_do_and_the_input_stays_as_it_was(dtype: str) -> None:
    net = linear([[1, 2]], requantization(None), U8, head=False)
    x = np.array([[255, 255], [3, 4]], dtype)
    x.setflags(write=False)
    logits = simulate(net, 0, x[::-1])
    assert logits.tolist() == [[11], [765]]
    assert logits.dtype == np.int32
    assert x.tolist() == [[255, 255], [3, 4]]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[0.0, 1.0]], "the input has dtype float64, must be an integer type"),
        ([[True, False]], "the input has dtype bool, must be an integer type"),
        ([0, 1], r"the input has shape \(2,\), must be \(batch, 2\)"),
        ([[0, 1, 2]], r"the input has shape \(1, 3\), must be \(batch, 2\)"),
        ([[0, 256]], r"the input holds 0\.\.256, must be within 0\.\.255"),
        ([[-1, 7]], r"the input holds -1\.\.7, must be within 0\.\.255"),
        (np.array([[-1, 7]], np.int8), r"the input holds -1\.\.7, must be within 0\.\.255"),
    ],
)
def test_wrong_inputs_are_refused_with_rule_and_value(x: object, message: str) -> None:
    net = linear([[1, 2]], requantization(None), U8, head=False)
    with pytest.raises(SettingsError, match=f"^simulator: {message}$"):
        simulate(net, 0, x)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", [-1, 1])
def test_unknown_tasks_are_refused(task: int) -> None:
    net = linear([[1, 2]], requantization(None), U8, head=False)
    with pytest.raises(SettingsError, match=rf"^task {task}: must be 0\.\.0 or a name, such as 'task0'$"):
        Simulator(net, task)


def test_importing_the_simulator_does_not_load_torch() -> None:
    code = "import sys, sim, sim.plan, tsn_hw.core.reference; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
