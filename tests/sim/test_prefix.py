"""Networks that begin alike share results of layers, and nobody can tell from the logits."""

import numpy as np
import pytest
from hypothesis import given

from sim.integer import Simulator
from sim.prefix import PrefixCache
from tests.helpers.handmade import U8, network, requantization
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, recipes
from tsn_hw.core.layers import Add, Linear, MaxPool
from tsn_hw.core.network import PackedNetwork

OF_ALL = PrefixCache(limit_bytes=2**20)
"""Of all random networks together: a result under a wrong name would be found by another of them."""


def body(*, second: list[list[int]], shift: int = 0, offset: int = 0) -> PackedNetwork:
    """Two inputs, layer "first" of two rows with shift and offset, layer "second", and a head of two classes."""
    first = requantization(U8, shift=shift, offset=offset, channels=2)
    return network(
        (2,),
        U8,
        [
            (Linear("first", 2, 2), [[1, 2], [3, 0]], first),
            (Linear("second", 2, len(second), (0,)), second, requantization(U8, channels=len(second))),
        ],
    )


def logits(cache: PrefixCache, net: PackedNetwork, x: list[list[int]]) -> list[list[int]]:
    return cache.logits([(Simulator(net, 0), np.array(x))])[0].tolist()


@given(recipes())
def test_logits_are_those_of_the_simulator_whatever_is_remembered(recipe: Recipe) -> None:
    net = random_network(recipe)
    x = adversarial_inputs(net, 9, seed=recipe.seed % 7)
    for task in range(len(net.tasks)):
        simulator = Simulator(net, task)
        expected = simulator(x)
        for cache in (OF_ALL, OF_ALL, PrefixCache(limit_bytes=0)):
            (found,) = cache.logits([(simulator, x)])
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
    assert OF_ALL.size_bytes <= OF_ALL.limit_bytes


def test_the_random_networks_do_share_results() -> None:
    assert OF_ALL.found > 0


def test_only_what_follows_a_change_is_computed_again() -> None:
    cache, x = PrefixCache(), [[1, 2], [3, 4]]
    assert logits(cache, body(second=[[1, 1]]), x) == [[8, 0], [20, 0]]
    assert (cache.found, cache.computed) == (0, 3)
    assert logits(cache, body(second=[[1, 2]]), x) == [[11, 0], [29, 0]]
    assert (cache.found, cache.computed) == (1, 5)  # the first layer was found, two were computed
    assert logits(cache, body(second=[[1, 1]]), x) == [[8, 0], [20, 0]]
    assert (cache.found, cache.computed) == (2, 5)  # all of it was found at the head


@pytest.mark.parametrize(
    ("net", "x", "expected"),
    [
        (body(second=[[1, 1]]), [[1, 3]], [[10, 0]]),  # another input
        (body(second=[[1, 1]]), [[1, 2], [1, 2]], [[8, 0], [8, 0]]),  # another batch
        (body(second=[[1, 1]], shift=1), [[1, 2]], [[4, 0]]),  # (5, 3) / 2, half to even
        (body(second=[[1, 1]], offset=-4), [[1, 2]], [[1, 0]]),  # (1, -1), saturated at 0
    ],
)
def test_whatever_a_result_depends_on_is_in_its_name(net: PackedNetwork, x: list[list[int]], expected: object) -> None:
    cache = PrefixCache()
    assert logits(cache, body(second=[[1, 1]]), [[1, 2]]) == [[8, 0]]
    assert logits(cache, net, x) == expected


def test_geometry_and_the_order_of_inputs_are_in_the_name() -> None:
    one = requantization(U8, shift=0)

    def pooled(kernel: tuple[int, int]) -> PackedNetwork:
        return network((1, 4, 4), U8, [(MaxPool("pool", kernel, (1, 1)), None, None)])

    def added(sources: tuple[int, int]) -> PackedNetwork:
        layers = [(MaxPool("a", (1, 1), (2, 2)), None, None), (MaxPool("b", (2, 2), (2, 2)), None, None)]
        return network((1, 4, 4), U8, [*layers, (Add("add", sources), None, one)])

    x, cache = np.arange(16).reshape(1, 1, 4, 4), PrefixCache()
    for net in (pooled((2, 2)), pooled((3, 2)), pooled((2, 3)), added((0, 1)), added((0, 0)), added((1, 1))):
        (found,) = cache.logits([(Simulator(net, 0), x)])
        np.testing.assert_array_equal(found, Simulator(net, 0)(x))


def test_several_networks_see_one_batch_before_any_sees_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.integer.CHUNK_BYTES", 64)  # two images at a time
    nets = [body(second=[[1, 1]]), body(second=[[1, 2]])]
    x = np.arange(14).reshape(7, 2)
    simulators = [Simulator(net, 0) for net in nets]
    assert len(list(simulators[0].chunks(x))) > 2
    cache = PrefixCache(limit_bytes=64)  # less than one network leaves behind
    found = cache.logits([(simulator, x) for simulator in simulators])
    for logits, simulator in zip(found, simulators, strict=True):
        np.testing.assert_array_equal(logits, simulator(x))
    assert cache.found == len(list(simulators[0].chunks(x)))  # the first layer, for the second network
    assert 0 < cache.size_bytes <= 64
