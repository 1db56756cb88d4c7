"""KL routing: similar tasks share a bank, different ones open their own, and memories cost what they hold."""

import math
import struct
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.helpers.learning import commit_randomly, digits_data, model_of, residual
from tsn_hw.core.errors import ArtifactError
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.bodies import alexnet, mlp
from tsn_hw.learn.route import (
    HEADER,
    KINDS,
    Probe,
    Route,
    decode_memory,
    divergence,
    make_memory,
    route,
    thresholds,
)
from tsn_hw.learn.settings import RouteSettings, Settings, TrainSettings

MODES = [RouteSettings(memory="stats"), RouteSettings(memory="samples_act"), RouteSettings(memory="samples_input")]


@cache
def probe_of(kind: str = "mlp") -> Probe:
    architecture: Architecture = {
        "mlp": mlp((1, 8, 8), (11, 5)),
        "alexnet": alexnet((1, 8, 8), (4, 5), (6,), dropout=0.0),
    }[kind]
    model = model_of(architecture)
    commit_randomly(model, 0, seed=0)
    return Probe(model)


def noise(count: int, low: int, high: int, seed: int = 0) -> NDArray[np.uint8]:
    """Images whose pixels are uniform in low..high."""
    return np.random.default_rng(seed).integers(low, high + 1, (count, 1, 8, 8)).astype(np.uint8)


def stripes(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise on the left half, dark on the right."""
    images = noise(count, 100, 255, seed)
    images[..., 4:] = 0
    return images


def remembered(images: NDArray[np.uint8], settings: RouteSettings, seed: int = 0) -> bytes:
    return make_memory(images, probe_of(), settings, np.random.default_rng(seed))


def stats(mean: list[float], variance: list[float]) -> bytes:
    return HEADER.pack(0, 32, 2, len(mean), 0.0) + np.array([mean, variance], "<f4").tobytes()


def distance(a: bytes, b: bytes) -> float:
    return divergence(decode_memory(a), decode_memory(b), probe_of())


# --- the divergence ----------------------------------------------------------------------------------------------


def test_the_divergence_is_bounded_unit_by_unit_and_averaged_over_units() -> None:
    a, b = stats([0.0, 1.0], [1.0, 4.0]), stats([1.0, 1.0], [1.0, 1.0])
    # unit 0: both directions (1 + 1 - 1 + 0) / 2; unit 1: (4 - 1 - ln 4) / 2 and (1/4 - 1 + ln 4) / 2
    first = 0.5
    second = ((4 - 1 - math.log(4)) / 2 + (0.25 - 1 + math.log(4)) / 2) / 2
    assert distance(a, b) == pytest.approx((first / (1 + first) + second / (1 + second)) / 2, rel=1e-12)


def test_a_unit_that_never_varies_counts_with_the_smallest_variance() -> None:
    a, b = stats([0.5], [0.0]), stats([0.5], [1e-9])
    assert distance(a, b) == 0.0
    assert distance(stats([0.0], [0.0]), stats([0.001], [0.0])) == pytest.approx(0.5 / 1.5, rel=1e-3)


def test_a_unit_that_is_dead_in_one_task_counts_as_one_unit() -> None:
    dead, alive = stats([0.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]), stats([9.0, 1.0, 1.0, 1.0], [9.0, 1.0, 1.0, 1.0])
    assert distance(dead, alive) == pytest.approx(1 / 4, rel=1e-6)  # 58,696 nats in the mean without a bound


def test_inverted_and_permuted_images_are_farther_than_other_images_of_the_same_kind() -> None:
    same, turned = digits_data(0).x_train, digits_data(0).x_test
    order = np.random.default_rng(0).permutation(64)
    for settings in MODES:
        permuted = turned.reshape(-1, 64)[:, order].reshape(turned.shape)
        first, *others = (remembered(x, settings) for x in (same, turned, permuted, 16 - np.minimum(turned, 16)))
        near, *far = (distance(first, other) for other in others)
        assert near < min(far) / 3


@pytest.mark.parametrize("settings", MODES, ids=KINDS)
def test_both_directions_give_the_same_divergence(settings: RouteSettings) -> None:
    a, b = remembered(noise(200, 0, 255), settings), remembered(stripes(150), settings)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-12)
    assert distance(a, b) > 0


@pytest.mark.parametrize("settings", MODES, ids=KINDS)
def test_a_memory_has_no_divergence_from_itself(settings: RouteSettings) -> None:
    memory = remembered(stripes(120), settings)
    assert distance(memory, memory) == 0.0


@pytest.mark.parametrize("settings", MODES)
def test_samples_of_one_distribution_are_nearer_than_those_of_two(settings: RouteSettings) -> None:
    one, again, other = (remembered(x, settings) for x in (stripes(400, 1), stripes(400, 2), noise(400, 0, 60, 3)))
    assert distance(one, again) < distance(one, other) / 5


def test_images_without_any_contrast_are_compared_without_trouble() -> None:
    for settings in MODES:
        black, white = (remembered(np.full((50, 1, 8, 8), v, np.uint8), settings) for v in (0, 255))
        assert math.isfinite(distance(black, white))


# --- the decision ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", MODES, ids=KINDS)
def test_identical_data_share_a_bank_and_disjoint_distributions_open_one(settings: RouteSettings) -> None:
    probe = probe_of()
    earlier = [remembered(stripes(400), settings)]
    same = route(remembered(stripes(400), settings), earlier, [0], probe, settings, [0.2])
    assert (same.bank, same.nearest, same.divergence, same.limited) == (0, 0, 0.0, False)
    other = route(remembered(noise(400, 0, 60), settings), earlier, [0], probe, settings, [0.2])
    assert (other.bank, other.nearest, other.limited) == (1, 0, False)
    assert other.divergence is not None
    assert other.divergence > 0.2 == other.threshold


def routed(own: float, earlier: list[float], bank_of: list[int], room: float = 1 / 3, max_banks: int = 8) -> Route:
    """Route a task by memories of one unit of variance 1: at a distance of 1 half a nat, which is a third."""
    memories = [stats([mean], [1.0]) for mean in earlier]
    rooms = [room] * (max(bank_of, default=0) + 1)
    return route(stats([own], [1.0]), memories, bank_of, probe_of(), RouteSettings(max_banks=max_banks), rooms)


def test_the_first_task_opens_the_first_bank() -> None:
    assert routed(0.0, [], []) == Route(bank=0)


def test_a_task_lives_with_its_nearest_not_with_the_latest() -> None:
    assert routed(3.5, [0.0, 3.0, 9.0], [0, 1, 2]) == Route(1, 1, 0.125 / 1.125, 1 / 3)


def test_ties_go_to_the_oldest_task() -> None:
    assert routed(0.0, [1.0, -1.0, 1.0], [1, 0, 2]).nearest == 0
    assert routed(0.0, [1.0, -1.0, 1.0], [1, 0, 2]).bank == 1


def test_a_divergence_of_exactly_the_threshold_shares() -> None:
    assert routed(1.0, [0.0], [0]) == Route(0, 0, 1 / 3, 1 / 3)
    assert routed(1.0625, [0.0], [0]).bank == 1


def test_a_new_bank_gets_the_next_free_number() -> None:
    assert routed(50.0, [0.0, 5.0, 5.0], [0, 1, 1]).bank == 2


def test_when_no_bank_is_left_the_nearest_is_taken_and_the_limit_noted() -> None:
    far = 45.0**2 / 2
    assert routed(50.0, [0.0, 5.0], [0, 1], max_banks=2) == Route(1, 1, far / (1 + far), 1 / 3, limited=True)
    assert routed(50.0, [0.0, 5.0], [0, 1], max_banks=3) == Route(2, 1, far / (1 + far), 1 / 3, limited=False)
    assert routed(0.5, [0.0], [0], max_banks=1).limited is False


def test_a_bank_without_room_is_passed_over_for_the_next_that_has_it() -> None:
    memories = [stats([mean], [1.0]) for mean in (0.0, 3.0)]
    settings, own = (
        RouteSettings(),
        stats([1.0], [1.0]),
    )  # a third of a weight from the first, two thirds from the other
    found = [route(own, memories, [0, 1], probe_of(), settings, room) for room in ([0.4, 1.0], [0.3, 0.7], [0.3, 0.6])]
    assert [(route.bank, route.nearest) for route in found] == [(0, 0), (1, 1), (2, 0)]


# --- the threshold -----------------------------------------------------------------------------------------------


def test_the_threshold_of_a_bank_is_the_fourth_root_of_free_weights_over_kept_ones() -> None:
    model = model_of(mlp((1, 8, 8), (11, 5)), banks=(0, 1))
    commit_randomly(model, 0, seed=0)
    weights = 64 * 11 + 11 * 5
    free = sum(int((layer.subnet.owner < 0).sum()) for layer in model.body_layers(0).values())
    assert 0 < free < weights
    settings = Settings(train=TrainSettings(keep_ratio=1.0))
    assert thresholds(model, settings, 3) == [(free / weights) ** 0.25, 1.0]
    assert thresholds(model, Settings(train=TrainSettings(keep_ratio=free / weights)), 3) == [1.0, 1.0]


def test_a_threshold_that_is_given_is_taken_as_it_is() -> None:
    model = model_of(mlp((1, 8, 8), (11, 5)), banks=(0, 1))
    assert thresholds(model, Settings(route=RouteSettings(threshold=0.001)), 2) == [0.001, 0.001]


# --- the probe ---------------------------------------------------------------------------------------------------


def test_the_probe_gives_the_first_layer_of_task_0_one_number_a_unit() -> None:
    images = noise(300, 0, 255)
    assert probe_of("mlp")(images).shape == (300, 11)
    assert probe_of("alexnet")(images).shape == (300, 4)  # averaged over positions
    assert len(np.unique(probe_of("mlp")(images))) > 100


def test_the_probe_does_not_change_when_later_tasks_train() -> None:
    model = model_of(mlp((1, 8, 8), (11, 5)), banks=(0, 0))
    commit_randomly(model, 0, seed=0)
    images = noise(20, 0, 255)
    before = Probe(model)(images)
    commit_randomly(model, 1, seed=1)
    with torch.no_grad():
        model.body_layers(0)[1].weight.fill_(3.0)
    model.train()
    np.testing.assert_array_equal(Probe(model)(images), before)


def test_the_probe_looks_at_images_one_by_one() -> None:
    images = noise(257, 0, 255)  # one more than a chunk
    np.testing.assert_array_equal(probe_of()(images)[200:], probe_of()(images[200:]))


# --- memories ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("memory", KINDS)
def test_a_memory_holds_exactly_the_bits_it_is_charged_for(memory: str, bits: int) -> None:
    settings = RouteSettings(memory=memory, bits=bits, samples=13)  # type: ignore[arg-type]
    values = {"stats": 2 * 11 * 16, "samples_act": 13 * 11 * bits, "samples_input": 13 * 64 * bits}[memory]
    assert HEADER.size == 18
    assert len(remembered(noise(50, 0, 255), settings)) == 18 + math.ceil(values / 8)


@pytest.mark.parametrize("bits", [8, 16])
def test_stored_images_come_back_as_the_same_pixels(bits: int) -> None:
    for high in (255, 254, 130, 16, 1):
        images = noise(9, 0, high)
        settings = RouteSettings(memory="samples_input", bits=bits, samples=9)
        memory = decode_memory(remembered(images, settings))
        assert memory.kind == "samples_input"
        np.testing.assert_array_equal(np.rint(memory.values), images.reshape(9, 64))


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_stored_activations_come_back_to_half_a_step(bits: int) -> None:
    images = noise(9, 0, 255)
    memory = decode_memory(remembered(images, RouteSettings(memory="samples_act", bits=bits, samples=9)))
    features = probe_of()(images)
    assert np.abs(memory.values - features).max() <= features.max() / (2**bits - 1) / 2 * (1 + 1e-9)


def test_stored_statistics_are_mean_and_variance_of_the_features() -> None:
    images = noise(300, 0, 255)
    memory = decode_memory(remembered(images, RouteSettings()))
    features = probe_of()(images)
    np.testing.assert_allclose(memory.values, [features.mean(0), features.var(0)], rtol=1e-3, atol=1e-7)


def test_samples_are_distinct_images_and_all_of_them_where_there_are_few() -> None:
    images = noise(40, 0, 255)
    stored = decode_memory(remembered(images, RouteSettings(memory="samples_input", samples=30))).values
    rows = {tuple(np.rint(row).astype(int)) for row in stored}
    assert len(rows) == 30
    assert rows <= {tuple(int(v) for v in image) for image in images.reshape(40, 64)}
    assert len(decode_memory(remembered(images[:7], RouteSettings(memory="samples_input", samples=30))).values) == 7


def test_samples_follow_the_generator() -> None:
    settings, images = RouteSettings(memory="samples_input", samples=10), noise(40, 0, 255)
    assert remembered(images, settings, seed=1) == remembered(images, settings, seed=1)
    assert remembered(images, settings, seed=1) != remembered(images, settings, seed=2)


def test_statistics_of_data_sorted_by_class_see_every_class() -> None:
    """Image folders are read class by class: the first images are those of one class alone."""
    sorted_images = np.concatenate([np.zeros((2100, 1, 8, 8), np.uint8), stripes(2100)])
    mean = decode_memory(remembered(sorted_images, RouteSettings())).values[0]
    dark, bright = probe_of()(sorted_images[:1]).mean(0), probe_of()(sorted_images[2100:]).mean(0)
    seen = np.abs(mean - dark).sum() / np.abs(bright - dark).sum()
    assert seen == pytest.approx(0.5, abs=0.05)


def test_a_first_layer_without_relu_has_statistics_too() -> None:
    body = Architecture((1, 8, 8), mlp((1, 8, 8), (6,)).layers, signed=frozenset({"fc1"}))
    model = model_of(body)
    commit_randomly(model, 0, seed=0)
    probe, images = Probe(model), noise(30, 0, 255)
    assert probe(images).min() < 0
    decoded = decode_memory(make_memory(images, probe, RouteSettings(), np.random.default_rng(0)))
    np.testing.assert_allclose(decoded.values[0], probe(images).mean(0), rtol=1e-3, atol=1e-7)


# --- damage ------------------------------------------------------------------------------------------------------


def damaged() -> Iterator[tuple[str, bytes]]:
    good = stats([0.5, 1.0], [1.0, 2.0])
    samples = HEADER.pack(1, 8, 2, 3, 9.0) + bytes(6)
    yield "empty", b""
    yield "shorter than its header", good[: HEADER.size - 1]
    yield "cut", good[:-1]
    yield "too long", good + b"\0"
    yield "unknown kind", b"\x03" + good[1:]
    yield "no such width", HEADER.pack(1, 5, 2, 4, 9.0) + bytes(5)
    yield "statistics of 8 bits", HEADER.pack(0, 8, 8, 2, 0.0) + good[HEADER.size :]
    yield "statistics of three rows", HEADER.pack(0, 32, 3, 2, 0.0) + bytes(24)
    yield "statistics of no unit", HEADER.pack(0, 32, 2, 0, 0.0)
    yield "a mean that is no number", stats([math.nan, 1.0], [1.0, 2.0])
    yield "a variance that is infinite", stats([0.0, 1.0], [1.0, math.inf])
    yield "a negative variance", stats([0.0, 1.0], [1.0, -2.0])
    yield "no samples", HEADER.pack(1, 8, 0, 3, 9.0)
    yield "samples of nothing", HEADER.pack(1, 8, 3, 0, 9.0)
    yield "samples up to no number", samples[:10] + struct.pack("<d", math.nan) + samples[18:]
    yield "samples up to infinity", samples[:10] + struct.pack("<d", math.inf) + samples[18:]
    yield "samples cut", samples[:-1]


@pytest.mark.parametrize("data", [data for _, data in damaged()], ids=[name for name, _ in damaged()])
def test_a_damaged_memory_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="routing memory"):
        decode_memory(data)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda kind, bits, rows, width, top, payload: HEADER.pack(kind, bits, rows, width, top) + payload,
            st.integers(0, 3),
            st.sampled_from([4, 8, 16, 32, 5]),
            st.integers(0, 4),
            st.integers(0, 4),
            st.floats(),
            st.binary(max_size=40),
        ),
        st.tuples(st.integers(0, 1), st.integers(0, 33), st.integers(0, 255)).map(
            lambda change: with_byte([stats([0.5, 1.0], [1.0, 2.0]), HEADER.pack(2, 8, 4, 4, 9.0) + bytes(16)], *change)
        ),
    )
)
def test_whatever_the_bytes_are_a_memory_is_read_or_refused(data: bytes) -> None:
    try:
        memory = decode_memory(data)
    except ArtifactError:
        return
    assert memory.kind in KINDS
    assert np.isfinite(memory.values).all()
    assert memory.values.ndim == 2
    assert memory.values.size > 0


def with_byte(memories: list[bytes], which: int, place: int, value: int) -> bytes:
    """A good memory with one byte changed."""
    return memories[which][:place] + bytes([value]) + memories[which][place + 1 :]


def test_a_residual_body_can_be_probed() -> None:
    model = model_of(residual(), classes=3)
    commit_randomly(model, 0, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 7, 6)).astype(np.uint8)
    assert Probe(model)(images).shape == (5, 4)
