"""Convolutions and pools of every geometry: the reference's integers in HLS and RTL, in the cycles that are predicted.

Paddings reach past the kernel, so that whole rows and columns of windows hold no pixel; strides reach past it, so that
whole pixels are in no window.
"""

from collections.abc import Sequence

import numpy as np
import pytest

from export.rtl.simulation import RtlCall, RtlSimulation
from sim.devices import device
from sim.resources import estimate_resources
from tests.helpers.dataflow import loops, runs_to_the_end
from tests.helpers.handmade import S8, U8, network, requantization
from tests.helpers.hls import assert_equal_integers, needs_compiler
from tests.helpers.networks import adversarial_inputs
from tests.helpers.rtl_designs import different_integers, folded, icarus, needs_iverilog, predicted_steps
from tsn_hw.core.errors import NetworkError
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Layer
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator

MOST_PIXELS = 24
"""Of a map, so that a chain of them stays small."""


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))


def fitting_layer(rng: np.random.Generator, index: int, shape: tuple[int, ...]) -> tuple[Layer, tuple[int, ...]]:
    """A convolution, or now and then a pool, that fits behind a map, and the shape that it gives."""
    while True:
        kernel, stride = pair(rng, 1, 4), pair(rng, 1, 5)
        layer: Layer = Conv2d(f"l{index}", 2, 2, kernel, stride, pair(rng, 0, 2 * max(kernel)), inputs=(index - 1,))
        if index % 4 == 3:
            layer = AvgPool(f"l{index}", kernel, stride, (index - 1,))
        try:
            output = layer.output_shape(shape)
        except NetworkError:
            continue
        if np.prod(output[1:]) <= MOST_PIXELS:
            return layer, output


def chain(seed: int, length: int = 6) -> PackedNetwork:
    """Windows of random geometries, one behind the other."""
    rng, layers = np.random.default_rng(seed), []
    shape = source = (2, *pair(rng, 1, 5))
    for index in range(length):
        layer, shape = fitting_layer(rng, index, shape)
        is_pool = isinstance(layer, AvgPool)
        weights = None if is_pool else rng.integers(-20, 21, layer.weight_shape)
        shift = int(np.prod(layer.kernel)).bit_length() - 1 if is_pool else 5
        offset = rng.integers(0, 1 << shift + 7, 1 if is_pool else 2)
        layers.append((layer, weights, requantization(U8, shift, offset, channels=len(offset))))
    return network(source, U8, layers)


def assert_equal_rtl(compiled: RtlSimulation) -> None:
    """Integers, steps and interval of a design, at full speed and with stalls."""
    design = compiled.accelerator
    calls = [RtlCall(0, adversarial_inputs(design.net, count, seed=count)) for count in (1, 2)]
    one, two = compiled.run(calls)
    (stalled,) = compiled.run(calls[:1], stall_percent=40)
    assert different_integers(design.net, [*calls, calls[0]], [one, two, stalled]) == 0
    assert [r.steps for r in (one, two, stalled)] == [predicted_steps(design, inferences) for inferences in (1, 2, 1)]
    assert two.cycles - one.cycles == interval(design)


def interval(design: Accelerator) -> int:
    return estimate_resources(design, device("xc7z020")).interval_cycles


@needs_iverilog
@pytest.mark.parametrize("seed", range(4))
def test_rtl_of_24_geometries_gives_the_integers_of_the_reference_in_the_cycles_predicted(seed, tmp_path):
    assert_equal_rtl(icarus(tmp_path, folded(chain(seed), np.random.default_rng(seed))))


@needs_compiler
def test_hls_of_6_geometries_gives_the_integers_of_the_reference_in_the_cycles_predicted():
    assert_equal_integers(folded(chain(4), np.random.default_rng(4)), 5)


def single(kernel, padding, stride=(1, 1), source=(1, 3, 3)) -> PackedNetwork:
    conv = Conv2d("conv", source[0], 2, kernel, stride, padding)
    weights = np.arange(1, 1 + np.prod(conv.weight_shape)).reshape(conv.weight_shape)
    return network(source, U8, [(conv, weights, requantization(U8, 1, offset=9, channels=2))])


@needs_iverilog
@pytest.mark.parametrize(
    ("kernel", "padding"),
    [((1, 1), (1, 0)), ((1, 1), (2, 0)), ((1, 1), (0, 2)), ((2, 1), (5, 3)), ((1, 3), (4, 0)), ((3, 3), (3, 3))],
)
def test_rtl_ends_where_whole_rows_of_windows_are_padding(kernel, padding, tmp_path):
    assert_equal_rtl(icarus(tmp_path, folded(single(kernel, padding), np.random.default_rng(0))))


def joined(first: Sequence[Conv2d], second: Sequence[Conv2d]) -> PackedNetwork:
    """The sum of two ways from the input, each of some convolutions."""
    layers, ends, rng = [], [], np.random.default_rng(0)
    for way in (first, second):
        source = INPUT
        for conv in way:
            placed = Conv2d(f"l{len(layers)}", 2, 2, conv.kernel, conv.stride, conv.padding, inputs=(source,))
            source = len(layers)
            weights = rng.integers(-9, 10, placed.weight_shape)
            layers.append((placed, weights, requantization(S8, 4, rng.integers(0, 99, 2), channels=2)))
        ends.append(source)
    return network((2, 4, 3), U8, [*layers, (Add("add", tuple(ends)), None, requantization(U8, 1))])


def conv(kernel, padding, stride=(1, 1)) -> Conv2d:
    return Conv2d("", 2, 2, kernel, stride, padding)


JOINS = {
    "both ways begin with padding": ([conv((1, 1), (2, 0))], [conv((3, 1), (3, 0))]),
    "one way begins with padding": ([conv((1, 1), (1, 0))], [conv((3, 3), (1, 1)), conv((3, 3), (2, 1))]),
}


@needs_iverilog
@pytest.mark.parametrize("ways", JOINS.values(), ids=JOINS)
def test_ways_that_begin_with_padding_meet_again(ways, tmp_path):
    design = folded(joined(*ways), np.random.default_rng(0))
    made = loops(design.dataflow, (0, 0))
    assert all(runs_to_the_end(made, seed) for seed in range(20))
    assert_equal_rtl(icarus(tmp_path, design))
