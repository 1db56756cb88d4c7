"""Coded masks: exact bytes, every mask back, near the entropy, and no damage unnoticed or dangerous."""

import contextlib
import heapq
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsn_hw.core.errors import ArtifactError, NetworkError
from tsn_hw.core.huffman import MAX_LENGTH, code_lengths
from tsn_hw.core.huffman import huffman_bits as bits_of
from tsn_hw.core.masks import decode_masks, encode_masks, entropy_bits


def rng(seed=0):
    return np.random.default_rng(seed)


def planes_of(symbols, tasks):
    return (np.asarray(symbols) >> np.arange(tasks)[:, None] & 1).astype(bool)


def random_planes(kind, tasks, weights, density, seed):
    shared = rng(seed).random(weights) < density
    flips = rng(seed + 1).random((tasks, weights))
    return {
        "independent": flips < density,
        "equal": np.tile(shared, (tasks, 1)),
        "nearly equal": shared ^ (flips < 0.02),
        "nested": flips[:1] < density * np.arange(1, tasks + 1)[:, None] / tasks,
    }[kind]


# exact bytes --------------------------------------------------------------------------------------------------------


def test_a_constant_mask_takes_two_bytes_however_large():
    assert encode_masks(np.ones((1, 1_000_000), bool)).hex() == "0101"
    assert encode_masks(np.zeros((1, 1_000_000), bool)).hex() == "0100"


def test_ten_constant_masks_take_three_bytes():
    assert encode_masks(np.ones((10, 50), bool)).hex() == "01ff03"


def test_masks_that_nothing_can_compress_are_stored_plainly():
    planes = np.array([[1, 0, 1, 1, 0, 0, 0, 1, 1]], bool)
    assert encode_masks(planes).hex() == "00" + "b180"


def test_the_first_task_is_the_least_significant_bit_of_a_symbol():
    planes = np.array([[1, 0, 0], [0, 1, 1]], bool)
    assert encode_masks(planes).hex() == "00" + f"{0b01101000:02x}"


def test_a_few_ones_are_peeled_off_as_gaps():
    planes = np.zeros((1, 4096), bool)
    planes[0, [100, 2000]] = True
    # gaps of 100 = 0 << 10 | 100 and 1899 = 1 << 10 | 875: in unary 1 and 01, whose byte 10100000 has the code fe80
    low = f"{100 << 14 | 875 << 4:06x}"
    flags = f"{10 << 1:02x}" + f"{round(32 * 2 / 3):02x}" + "03" + "fe80" + low
    one_peeled_then_constant, value, rest = "11", "00", "01"
    assert encode_masks(planes).hex() == one_peeled_then_constant + value + flags + rest


def test_no_tasks_are_no_bytes():
    assert encode_masks(np.zeros((0, 7), bool)) == b""
    assert decode_masks(b"", 0, 7).shape == (0, 7)


def test_no_weights_take_a_byte_a_group():
    assert encode_masks(np.zeros((12, 0), bool)).hex() == "0000"
    assert decode_masks(b"\x00\x00", 12, 0).shape == (12, 0)


# round trips --------------------------------------------------------------------------------------------------------


@given(
    kind=st.sampled_from(["independent", "equal", "nearly equal", "nested"]),
    tasks=st.integers(1, 23),
    weights=st.integers(0, 700),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.38, 0.5, 0.9, 1.0]),
    group=st.integers(1, 16),
    seed=st.integers(0, 2**32),
)
def test_masks_come_back(kind, tasks, weights, density, group, seed):
    planes = random_planes(kind, tasks, weights, density, seed)
    data = encode_masks(planes, group)
    np.testing.assert_array_equal(decode_masks(data, tasks, weights, group), planes)
    assert encode_masks(planes, group) == data


@pytest.mark.parametrize("density", [0.02, 0.38, 0.5])
def test_masks_of_sixteen_tasks_and_a_hundred_thousand_weights_come_back(density):
    planes = random_planes("independent", 16, 100_000, density, 1)
    np.testing.assert_array_equal(decode_masks(encode_masks(planes, 16), 16, 100_000, 16), planes)


@pytest.mark.parametrize("tasks", [10, 11, 19, 20, 21])
def test_adding_a_task_changes_only_the_last_incomplete_group(tasks):
    planes = random_planes("nearly equal", 21, 500, 0.3, 2)
    complete = encode_masks(planes[: tasks // 10 * 10])
    assert encode_masks(planes[:tasks]).startswith(complete)
    assert encode_masks(planes).startswith(complete)


@pytest.mark.parametrize("group", [0, 17])
def test_groups_of_no_or_too_many_tasks_are_refused(group):
    with pytest.raises(NetworkError, match=rf"^masks: groups of {group} tasks, must be 1..16$"):
        encode_masks(np.zeros((1, 3), bool), group)
    with pytest.raises(NetworkError, match=rf"^masks: groups of {group} tasks, must be 1..16$"):
        decode_masks(b"", 1, 3, group)


# size ---------------------------------------------------------------------------------------------------------------

LARGE = 50_000
INDEPENDENT = [(1, d) for d in (0.02, 0.05, 0.1, 0.18, 0.25, 0.3, 0.33, 0.382, 0.42, 0.45, 0.5, 0.62, 0.9, 0.98)] + [
    (tasks, d) for tasks in (2, 3, 5, 10) for d in (0.02, 0.1, 0.22, 0.382, 0.5, 0.8)
]


def excess_percent(planes):
    data = encode_masks(planes)
    np.testing.assert_array_equal(decode_masks(data, *planes.shape), planes)
    return 100 * (8 * len(data) / entropy_bits(planes) - 1)


@pytest.mark.parametrize(("tasks", "density"), [*INDEPENDENT, (10, 0.01)])
def test_independent_masks_stay_within_three_percent_of_their_entropy(tasks, density):
    assert excess_percent(random_planes("independent", tasks, LARGE, density, tasks)) < 3


@pytest.mark.parametrize("flips", [0.0, 0.001, 0.01, 0.1])
@pytest.mark.parametrize("density", [0.1, 0.2, 0.382, 0.5])
def test_nearly_equal_masks_stay_within_three_percent_of_their_entropy(density, flips):
    planes = (rng(3).random(LARGE) < density) ^ (rng(4).random((10, LARGE)) < flips)
    assert excess_percent(planes) < 3


@pytest.mark.parametrize("used", range(2, 28))
def test_equally_frequent_symbols_stay_within_three_percent_of_their_entropy(used):
    assert excess_percent(planes_of(rng(5).integers(0, used, LARGE), 10)) < 3


@pytest.mark.parametrize("period", [3, 16, 51, 64])
def test_periodic_masks_are_no_larger_than_three_percent_over_their_entropy(period):
    assert excess_percent((np.arange(LARGE) % period == 0)[None]) < 3


def test_layers_of_any_size_grow_by_a_byte_a_group_at_most():
    for weights in (1, 2, 7, 64, 500):
        planes = random_planes("independent", 20, weights, 0.5, 6)
        assert len(encode_masks(planes)) <= 2 * (1 + (10 * weights + 7) // 8)


# the code -----------------------------------------------------------------------------------------------------------


def huffman_bits(counts):
    """Size of an unlimited Huffman text, from the textbook."""
    heap, total = sorted(int(count) for count in counts if count), 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        heapq.heappush(heap, merged)
        total += merged
    return total


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=200))
def test_code_lengths_are_optimal_and_fill_the_tree(counts):
    lengths = code_lengths(np.array(counts))
    assert [length > 0 for length in lengths] == [count > 0 for count in counts]
    if np.count_nonzero(counts) > 1:
        assert int((lengths * np.array(counts)).sum()) == huffman_bits(counts)
        assert bits_of(np.array(counts)) == huffman_bits(counts)
        assert sum(2.0 ** -int(length) for length in lengths if length) == 1


def test_code_lengths_are_limited_to_fifteen_bits():
    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(sum(fibonacci[-2:]))
    lengths = code_lengths(np.array(fibonacci))
    assert lengths.max() == MAX_LENGTH
    assert sum(2.0 ** -int(length) for length in lengths) == 1
    assert bits_of(np.array(fibonacci)) == int((lengths * np.array(fibonacci)).sum()) > huffman_bits(fibonacci)


def test_entropy_is_that_of_the_symbols_of_each_group():
    planes = planes_of([0, 1, 2, 3], 2)
    assert entropy_bits(planes) == 8
    assert entropy_bits(planes, group=1) == 4 + 4
    assert entropy_bits(np.ones((3, 9), bool)) == 0


# damage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "masks: 1 bytes expected at byte 0, the text has 0"),
        ("03", "masks: 3 is no kind of text"),
        ("0104", "masks: symbol 4 is wider than 2 bits"),
        ("010100", "masks: 1 bytes left over at the end"),
        ("00", "masks: 25 bytes expected at byte 1, the text has 1"),
        ("02" + "1111" + "00" * 20, "masks: code lengths fill 65536 of 32768 leaves of the code tree"),
        ("02" + "1200" + "00" * 20, "masks: code lengths fill 24576 of 32768 leaves of the code tree"),
        ("02" + "0000" + "00" * 20, "masks: code lengths fill 0 of 32768 leaves of the code tree"),
        ("02" + "1100", "masks: 100 symbols in 0 bytes"),
        ("02" + "1100" + "00" * 12 + "01", "masks: a Huffman text is not padded with zeros"),
        ("1100" + "2010" + "01", "masks: 0x20, 0x10 is no plan of flags"),
        ("1100" + "0020" + "01", "masks: 0x00, 0x20 is no plan of flags"),
        ("1100" + "0010" + "65" + "00", "masks: count 101 exceeds 100"),
        ("1100" + "0010" + "808080808000", "masks: count 0 exceeds 100"),
        ("1100" + "0010" + "04" + "e0", "masks: 4 unary bits do not end with a one and zeros to the byte"),
        ("1100" + "0010" + "04" + "11", "masks: 4 unary bits do not end with a one and zeros to the byte"),
        ("1100" + "1010" + "01" + "80" + "ff", "masks: a flag at 255, there are 100"),
    ],
)
def test_an_impossible_text_is_refused(data, message):
    with pytest.raises(ArtifactError) as error:
        decode_masks(bytes.fromhex(data), 2, 100)
    assert str(error.value) == message


@pytest.mark.parametrize("kind", ["independent", "equal", "nearly equal"])
@pytest.mark.parametrize(("tasks", "density"), [(1, 0.05), (3, 0.3), (10, 0.02), (12, 0.2)])
def test_a_cut_or_longer_text_is_refused(kind, tasks, density):
    planes = random_planes(kind, tasks, 400, density, 7)
    data = encode_masks(planes)
    for damaged in [data[:end] for end in range(len(data))] + [data + b"\0", data + data]:
        with pytest.raises(ArtifactError):
            decode_masks(damaged, *planes.shape)


def test_an_altered_text_is_refused_or_gives_other_masks_and_never_fails_otherwise():
    refused = 0
    for seed, (tasks, density) in itertools.product(range(60), [(1, 0.05), (2, 0.5), (10, 0.1), (12, 0.02)]):
        generator = rng(seed)
        planes = random_planes("nearly equal", tasks, 300, density, seed)
        data = bytearray(encode_masks(planes))
        for place in generator.integers(0, len(data), 3):
            data[place] = generator.integers(0, 256)
        try:
            assert decode_masks(bytes(data), *planes.shape).shape == planes.shape
        except ArtifactError:
            refused += 1
    assert refused > 100


@given(st.binary(max_size=60), st.integers(1, 20), st.integers(0, 1000))
def test_arbitrary_bytes_are_refused_or_are_masks(data, tasks, weights):
    with contextlib.suppress(ArtifactError):
        assert decode_masks(data, tasks, weights).shape == (tasks, weights)
