"""Kernels of libraries are tried before they are used, and one that is wrong is never used."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import sim.plan
from sim import Simulator, int8, kernels, proof
from sim.borrowed import exact_floats
from tests.helpers.convolutions import CARRIERS, LAYOUTS, Case, differing, laid_out, random_cases, soil
from tests.helpers.handmade import S16, U8, U16, linear, network, requantization
from tsn_hw.core.layers import AvgPool, Conv2d, MaxPool
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.reference import run

needs_int8 = pytest.mark.skipif(not int8.available(), reason="torch has no int8 kernels here")
Fault = Callable[[Tensor], Tensor]


def narrow(first: Conv2d | None = None) -> PackedNetwork:
    """A convolution over one channel with an output one pixel wide and stride 2 along it; perhaps another one first."""
    rng = np.random.default_rng(0)
    layers = [] if first is None else [first]
    layers.append(Conv2d("narrow", 1, 24, (2, 4), (1, 2), inputs=(len(layers) - 1,)))
    steps = [
        (layer, rng.integers(-60, 61, layer.weight_shape), requantization(U8, 6, 9, channels=layer.channels))
        for layer in layers
    ]
    return network((1 if first is None else first.in_channels, 9, 5), U8, steps)


BEFORE = Conv2d("before", 3, 1, (3, 3), padding=(1, 1))


def assert_right(net: PackedNetwork, batch: int) -> Simulator:
    simulator = Simulator(net, 0)
    x = np.random.default_rng(batch).integers(0, 256, (batch, *net.input_shape))
    taps = simulator.taps(x)
    for name, integers in run(net, 0, x).items():
        np.testing.assert_array_equal(taps[name], integers, err_msg=name)
    np.testing.assert_array_equal(simulator(x), integers)
    return simulator


def summary(simulator: Simulator, layer: str) -> tuple[object, object]:
    (plan,) = (plan.summary() for plan in simulator.plan if plan.facts.name == layer)
    return plan["kernel"], plan["refused"]


@pytest.fixture(autouse=True)
def nothing_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_ANSWERS", {})
    monkeypatch.setattr(sim.plan, "INT8_MIN_MACS", 0)


def is_narrow(x: Tensor, result: Tensor) -> bool:
    return x.ndim == 4 and x.shape[1] == 1 and result.shape[3] == 1


def break_convolutions(patch: pytest.MonkeyPatch, fault: Fault, *dtypes: torch.dtype) -> None:
    """The fault of AVX-512 processors, wherever the test runs: other integers in narrow outputs of these types."""
    right, right_int8 = functional.conv2d, proof.int8_kernel

    def conv2d(x: Tensor, *rest: object, **settings: object) -> Tensor:
        result = right(x, *rest, **settings)
        return fault(result) if x.dtype in dtypes and is_narrow(x, result) else result

    def int8_kernel(*parameters: object) -> Callable[[Tensor], Tensor]:
        kernel = right_int8(*parameters)  # type: ignore[arg-type]
        return lambda x: fault(kernel(x)) if is_narrow(x, kernel(x)) else kernel(x)

    patch.setattr(functional, "conv2d", conv2d)
    if torch.uint8 in dtypes:
        patch.setattr(proof, "int8_kernel", int8_kernel)


def last_pixel(change: Callable[[Tensor], Tensor]) -> Fault:
    def fault(result: Tensor) -> Tensor:
        broken = result.clone()
        broken[-1, -1, -1, -1] = change(broken[-1, -1, -1, -1])
        return broken

    return fault


FAULTS: dict[str, Fault] = {
    "nothing is a number": lambda result: result * float("nan") if result.is_floating_point() else result * 0 + 255,
    "one too much in one pixel": last_pixel(lambda value: value + 1),
    "two channels swapped": lambda result: result[:, [1, 0, *range(2, result.shape[1])]],
    "rows upside down": lambda result: result.flip(2),
    "inputs of a batch swapped": lambda result: result.roll(1, 0),
}


# --- kernels that are wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, BEFORE], ids=["first layer", "behind one channel"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_kernel_is_refused_and_the_next_one_is_right(
    fault: str, before: Conv2d | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_convolutions(monkeypatch, FAULTS[fault], torch.float32, torch.uint8)
    for batch in (2, 7, 40):
        simulator = assert_right(narrow(before), batch)
    refused = ["int8", "float32"] if int8.available() else ["float32"]
    if fault != "inputs of a batch swapped":  # the plan is told for one input, too
        assert summary(simulator, "narrow") == ("float64", refused)
    assert before is None or summary(simulator, "before")[1] == []


def test_where_no_library_is_right_the_int64_loops_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    break_convolutions(monkeypatch, FAULTS["rows upside down"], torch.uint8, torch.float32, torch.float64)
    simulator = assert_right(narrow(BEFORE), 5)
    assert summary(simulator, "narrow")[0] == "int64"
    assert summary(simulator, "before")[1] == []


def test_fractions_are_no_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    _, refused = summary(assert_right(narrow(), 5), "narrow")
    is_int8 = int8.available() and not refused  # on AVX-512 int8 is wrong without a fault of ours
    monkeypatch.setattr(proof, "_ANSWERS", {})
    break_convolutions(monkeypatch, last_pixel(lambda value: value + 0.25), torch.float32)
    assert summary(assert_right(narrow(), 5), "narrow")[0] == ("int8" if is_int8 else "float64")
    monkeypatch.setattr(proof, "int8_product_limit", lambda: 0)
    assert summary(assert_right(narrow(), 5), "narrow") == ("float64", ["float32"])


def test_every_size_of_a_batch_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = FAULTS["rows upside down"]
    break_convolutions(monkeypatch, lambda result: wrong(result) if len(result) >= 16 else result, torch.float32)
    monkeypatch.setattr(proof, "int8_product_limit", lambda: 0)
    net = narrow()
    simulator = Simulator(net, 0)
    x = np.random.default_rng(0).integers(0, 256, (16, 1, 9, 5))
    for batch, kernel in ((3, "float32"), (15, "float32"), (16, "float64"), (3, "float64")):
        np.testing.assert_array_equal(simulator(x[:batch]), list(run(net, 0, x[:batch]).values())[-1])
        assert summary(simulator, "narrow")[0] == kernel


def test_a_kernel_is_tried_once_a_process_in_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, ...]] = []
    answers = proof._answers

    def counted(kernel: proof.Kernel, x: Tensor, biased: bool) -> bool:
        tried.append((*x.shape, torch.get_num_threads()))
        return answers(kernel, x, biased)

    monkeypatch.setattr(proof, "_answers", counted)
    monkeypatch.setattr(proof, "int8_product_limit", lambda: 0)
    x = np.zeros((8, 1, 9, 5), np.uint8)
    for _ in range(2):
        for batch in (1, 8, 1):
            Simulator(narrow(), 0)(x[:batch])
    assert tried == [(1, 1, 9, 5, 1), (1, 192, 1), (8, 1, 9, 5, 1), (8, 192, 1)]


def test_a_wrong_linear_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = functional.linear

    def broken(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return right(x, weight, bias) + (x.dtype == torch.float32 and len(weight) == 3)

    monkeypatch.setattr(functional, "linear", broken)
    net = linear([[1, 2], [3, -4], [5, 6]], requantization(U8, channels=3), U8)
    monkeypatch.setattr(proof, "int8_product_limit", lambda: 0)
    assert summary(assert_right(net, 4), "fc") == ("float64", ["float32"])


def test_parts_are_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = Conv2d("narrow", 1, 4, (4, 4), (1, 2))
    weights = np.random.default_rng(0).choice([-127, 127, 80], conv.weight_shape)
    net = network((1, 6, 4), U16, [(conv, weights, requantization(U16, 10, channels=4))])
    assert summary(assert_right(net, 3), "narrow") == ("float32 in parts", [])
    monkeypatch.setattr(proof, "_ANSWERS", {})
    break_convolutions(monkeypatch, FAULTS["rows upside down"], torch.float32)
    assert summary(assert_right(net, 3), "narrow") == ("float64", ["float32 in parts"])


@needs_int8
def test_where_products_saturate_in_pairs_the_kernel_for_wide_ones_is_refused() -> None:
    kernel = proof.Kernel(Conv2d("", 16, 8, (3, 3)), "int8", torch.uint8, wide=True)
    x = torch.zeros((4, 16, 5, 6), dtype=torch.uint8)
    assert proof._answers(kernel, x, True) == (proof.int8_product_limit() >= 255 * 127)


@needs_int8
def test_saturating_pairs_set_the_limit_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without VNNI, in slow motion: pairs of products saturate at 16 bits."""

    def saturating(layer, weights, factor, bias, dtype):  # type: ignore[no-untyped-def]
        def kernel(x: Tensor) -> Tensor:
            products = x.to(torch.int64)[:, None, :] * torch.from_numpy(weights)
            products = functional.pad(products, (0, products.shape[-1] % 2))
            pairs = products.unflatten(-1, (-1, 2)).sum(-1).clamp(-(2**15), 2**15 - 1)
            result = pairs.sum(-1).double() * torch.from_numpy(factor) + torch.from_numpy(bias)
            return result.float() if dtype == torch.float32 else result.round().clamp(0, 255).to(torch.uint8)

        return kernel

    monkeypatch.setattr(proof, "int8_kernel", saturating)
    assert proof.int8_product_limit.__wrapped__() == 16383


@needs_int8
def test_int8_kernels_that_round_half_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounding_half_up(layer, weights, factor, bias, dtype):  # type: ignore[no-untyped-def]
        def kernel(x: Tensor) -> Tensor:
            sums = x.double() @ torch.from_numpy(weights).double().T
            result = sums * torch.from_numpy(factor) + torch.from_numpy(bias)
            return result.float() if dtype == torch.float32 else (result + 0.5).floor().clamp(0, 255).to(torch.uint8)

        return kernel

    monkeypatch.setattr(proof, "int8_kernel", rounding_half_up)
    weights = np.random.default_rng(0).integers(-64, 65, (7, 31))
    net = linear(weights, requantization(U8, shift=4, channels=7), U8)
    assert summary(assert_right(net, 9), "fc") == ("float32", ["int8"])
    signed = linear(weights, requantization(S16, shift=4, channels=7), U8)  # rounded by the simulator itself
    assert summary(assert_right(signed, 9), "fc") == ("int8", [])


# --- every geometry ---------------------------------------------------------------------------------------------------


def test_random_convolutions_equal_int64() -> None:
    used, met = Counter[str](), set()
    for case in random_cases(seed=0, count=1000):
        assert differing(case, used) == 0, case
        met.add((case.carrier, case.layout))
    assert met >= {(carrier, layout) for carrier in CARRIERS[not int8.available() : 3] for layout in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("carrier", CARRIERS[:3])
def test_one_channel_to_outputs_one_pixel_wide(carrier: str, layout: str) -> None:
    if carrier == "int8" and not int8.available():
        pytest.skip("torch has no int8 kernels here")
    for seed, (width, kernel, stride) in enumerate([(3, 4, 4), (1, 3, 3), (7, 4, 4), (8, 8, 2), (5, 4, 2)]):
        for filters in (1, 8, 29):
            layer = Conv2d("", 1, filters, (2, kernel), (1, stride), (0, kernel > width))
            case = Case(layer, (1 + 15 * (seed % 2), 1, 9, width), layout, carrier, seed % 3 == 0, filters == 8, seed)
            assert differing(case, Counter()) == 0, case


def windows(x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """(batch, channels, rows, columns, kernel height, kernel width)."""
    return np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]]


def test_pooling_equals_numpy_in_every_layout_and_type() -> None:
    rng = np.random.default_rng(0)
    for layout in LAYOUTS:
        for dtype in (torch.uint8, torch.float32, torch.float64, torch.int64) * 15:
            kernel, stride = (tuple(int(size) for size in rng.integers(1, 5, 2)) for _ in range(2))
            height, width = (int(size + rng.integers(0, 6)) for size in kernel)
            x = rng.integers(0, 256, (int(rng.integers(1, 20)), int(rng.choice([1, 3, 8, 17])), height, width))
            values = laid_out(torch.from_numpy(x).to(dtype), layout)
            soil()
            with exact_floats():
                largest = kernels._max_pool(values, kernel, stride)
                one = np.ones(1)
                wide = torch.float32 if dtype == torch.uint8 else dtype
                total = kernels._average(AvgPool("", kernel, stride, (0,)), one, 0 * one, wide)(values)
            expected = windows(x, kernel, stride)
            np.testing.assert_array_equal(largest.numpy(), expected.max(axis=(4, 5)))
            np.testing.assert_array_equal(total.numpy(), expected.sum(axis=(4, 5)))


def test_pools_between_narrow_layers_change_nothing() -> None:
    rng = np.random.default_rng(0)
    first = Conv2d("first", 2, 1, (3, 3), padding=(1, 1))
    last = Conv2d("last", 1, 9, (2, 2), (1, 3), inputs=(1,))
    net = network(
        (2, 12, 5),
        U8,
        [
            (first, rng.integers(-60, 61, first.weight_shape), requantization(U8, 7)),
            (MaxPool("pool", (2, 2), (1, 2), (0,)), None, None),
            (last, rng.integers(-60, 61, last.weight_shape), requantization(U8, 6, channels=9)),
        ],
    )
    for batch in (1, 16, 33):
        assert_right(net, batch)
