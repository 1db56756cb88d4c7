import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from tsn_hw.core.errors import NetworkError
from tsn_hw.learn import codebook as codebook_module
from tsn_hw.learn.codebook import fit_codebook, nearest_code, squared_error

INT8 = (-128, 127)
eighths = st.integers(-70, 70).map(lambda n: n / 8)  # sums of these are exact in float64, ties are frequent


def error_of(values, entries):
    """The squared error by definition: every value against every entry."""
    return float(np.square(np.subtract.outer(np.asarray(values), np.asarray(entries))).min(axis=1).sum())


def weights(kind, count, seed):
    rng = np.random.default_rng(seed)
    if kind == "normal":
        return rng.normal(0, 30, count)
    if kind == "two clouds":
        return np.concatenate([rng.normal(-60, 4, count // 2), rng.normal(50, 9, count // 2)])
    if kind == "far outliers":
        return np.concatenate([rng.normal(0, 2, count - 2), [-1e5, 1e6]])
    return rng.uniform(-100, 100, count)


KINDS = ["normal", "two clouds", "far outliers", "uniform"]


# --- the fit -----------------------------------------------------------------------------------------------------


def test_two_groups_get_their_rounded_means():
    assert fit_codebook([-5.0, -4.5, 9.0, 9.0, 9.6], bits=1, bounds=INT8).tolist() == [-5, 9]


@settings(deadline=None, max_examples=150)
@given(st.lists(eighths, min_size=1, max_size=12), st.integers(1, 2), st.integers(-6, 0), st.integers(1, 6))
def test_no_integer_codebook_within_the_bounds_is_better(values, bits, low, high):
    saturated = np.clip(values, low, high)
    entries = fit_codebook(values, bits, (low, high))
    levels = range(low, high + 1)
    rivals = itertools.combinations(levels, min(2**bits, len(levels)))
    assert error_of(saturated, entries) == min(error_of(saturated, rival) for rival in rivals)


@settings(deadline=None, max_examples=150)
@given(st.lists(eighths, max_size=60), st.integers(1, 8))
def test_entries_are_ascending_within_the_bounds_and_each_is_used(values, bits):
    entries = fit_codebook(values, bits, (-5, 6))
    assert entries.dtype == np.int64
    assert len(entries) <= 2**bits
    assert (np.diff(entries) > 0).all()
    assert ((entries >= -5) & (entries <= 6)).all()
    if values:
        assert set(nearest_code(np.clip(values, -5, 6), entries).tolist()) == set(range(len(entries)))
    else:
        assert entries.size == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(eighths, min_size=1, max_size=60), st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_order_of_the_weights_does_not_matter(values, bits, random):
    shuffled = random.sample(values, len(values))
    assert fit_codebook(values, bits, INT8).tolist() == fit_codebook(shuffled, bits, INT8).tolist()


@pytest.mark.parametrize(
    ("values", "bits", "expected"),
    [
        ([], 4, []),
        ([3.0], 4, [3]),
        ([3.2] * 1000, 4, [3]),
        ([-0.0, 0.0], 4, [0]),
        ([3.5], 4, [4]),  # a half goes up
        ([-3.5], 4, [-3]),
        ([3.4999999999999996], 4, [3]),
        ([2.0, 3.0, 4.0, 5.0], 2, [2, 3, 4, 5]),
        ([4.5, 5.0, 7.0, 7.5, 10.0, 10.5], 2, [5, 7, 10]),  # a fourth entry would not lower the error
        ([-500.0, 500.0, 1e300], 8, [-128, 127]),
        ([-129.0, 126.0, 126.0, 999.0], 1, [-128, 126]),
        (np.arange(-128, 128.0), 8, list(range(-128, 128))),
        (np.zeros((3, 0, 2)), 2, []),
        (np.array([[1, 9], [1, 9]], np.float32), 3, [1, 9]),
    ],
)
def test_edge_cases(values, bits, expected):
    assert fit_codebook(values, bits, INT8).tolist() == expected


def test_bounds_of_one_level_leave_one_entry():
    assert fit_codebook([-3.0, 0.2, 8.0], bits=4, bounds=(5, 5)).tolist() == [5]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("bits", "bounds"), [(2, INT8), (4, INT8), (6, INT8), (4, (-2048, 2047)), (4, (-32768, 32767))]
)
def test_never_worse_than_rounded_scikit_learn_centroids(kind, bits, bounds):
    values = np.clip(weights(kind, 6000, seed=bits) * (bounds[1] / 127), *bounds)
    values = np.rint(values * 64) / 64
    kmeans = KMeans(2**bits, n_init=2, random_state=0).fit(values[:, None])
    rounded = np.unique(np.rint(kmeans.cluster_centers_.ravel()).astype(np.int64))
    assert squared_error(values, fit_codebook(values, bits, bounds)) <= squared_error(values, rounded)


@pytest.mark.parametrize("kind", KINDS)
def test_refinement_reaches_the_optimum_of_all_cuts(kind, monkeypatch):
    values = weights(kind, 5000, seed=3)
    values = np.clip(values, -32768, 32767)
    optimum = squared_error(values, fit_codebook(values, 3, (-32768, 32767)))
    for name in ("MAX_CUTS", "COARSE_CUTS"):
        monkeypatch.setattr(codebook_module, name, 40)
    assert squared_error(values, fit_codebook(values, 3, (-32768, 32767))) == pytest.approx(optimum, rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    values = [1.0, bad, 2.0]
    book = np.array([1, 2])
    for call in (
        lambda: fit_codebook(values, 2, INT8),
        lambda: nearest_code(values, book),
        lambda: squared_error(values, book),
    ):
        with pytest.raises(NetworkError, match=r"^codebook: 1 of 3 values are not finite$"):
            call()


@pytest.mark.parametrize("bits", [-1, 0, 9])
def test_code_bits_out_of_range_are_refused(bits):
    with pytest.raises(NetworkError, match=rf"^codebook: {bits} code bits, must be 1\.\.8$"):
        fit_codebook([1.0], bits, INT8)


# --- codes -------------------------------------------------------------------------------------------------------


def test_a_value_halfway_takes_the_larger_entry():
    book = np.array([-3, 0, 1, 6])
    assert nearest_code([-1.5, np.nextafter(-1.5, -2), 0.5, 3.5, np.nextafter(3.5, 0)], book).tolist() == [
        1,
        0,
        2,
        3,
        2,
    ]


def test_a_codebook_of_one_entry_has_one_code():
    assert nearest_code([[-1e300, 7.0], [8.0, 1e300]], np.array([7])).tolist() == [[0, 0], [0, 0]]


def test_codes_are_bytes_shaped_as_the_values():
    codes = nearest_code(np.zeros((2, 3, 4), np.float32), np.arange(-128, 128))
    assert codes.dtype == np.uint8
    assert codes.shape == (2, 3, 4)
    assert (codes == 128).all()


book_entries = st.lists(st.integers(-9, 9), min_size=1, max_size=12, unique=True).map(sorted)


@settings(deadline=None, max_examples=300)
@given(
    book_entries,
    st.lists(st.one_of(eighths, st.floats(-12, 12), st.floats(width=32, allow_nan=False, allow_infinity=False))),
)
def test_codes_are_the_nearest_entries(entries, values):
    distance = np.abs(np.subtract.outer(np.array(values), np.array(entries)))
    expected = len(entries) - 1 - distance[:, ::-1].argmin(axis=1)  # the last of equal distances
    # Distances of other values are rounded, which makes ties: judge those values by their distance alone.
    exact = (np.array(values) * 8 % 1 == 0) & (np.abs(values) < 2**32)
    codes = nearest_code(values, np.array(entries))
    assert (codes == expected)[exact].all()
    assert (distance[np.arange(len(values)), codes] == distance.min(axis=1, initial=np.inf)).all()


@settings(deadline=None, max_examples=200)
@given(book_entries, st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_codes_equal_the_thresholds_on_every_float(entries, values):
    edges = np.arange(2 * entries[0] - 3, 2 * entries[-1] + 4) / 2
    attack = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf), values])
    thresholds = (np.array(entries)[:-1] + np.array(entries)[1:]) / 2
    expected = (attack[:, None] >= thresholds).sum(axis=1)
    assert nearest_code(attack, np.array(entries)).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], r"codebook: 0 entries, must be 1\.\.256"),
        (list(range(257)), r"codebook: 257 entries, must be 1\.\.256"),
        ([3, 1], r"codebook: entries \[3, 1\] are not ascending"),
        ([3, 3], r"codebook: entries \[3, 3\] are not ascending"),
    ],
)
def test_codebooks_that_contradict_themselves_are_refused(entries, message):
    with pytest.raises(NetworkError, match=f"^{message}$"):
        nearest_code([1.0], np.array(entries, np.int64))


def test_squared_error_counts_values_as_they_are():
    assert squared_error([-3.0, 0.5, 200.0], np.array([-1, 0, 100])) == 4 + 0.25 + 10_000
    assert squared_error([], np.array([1])) == 0.0
