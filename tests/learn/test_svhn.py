"""SVHN as it is published: MATLAB 5 files, written here by SciPy."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from tsn_hw.core.errors import DataError
from tsn_hw.learn.data.files import mat_arrays
from tsn_hw.learn.data.images import load_data

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
Y = np.array([[1], [10], [9], [2]], np.uint8)


def write_svhn(folder, train=(X, Y), test=(X[..., :2], Y[:2]), compressed=False):
    for part, (images, labels) in (("train", train), ("test", test)):
        savemat(folder / f"{part}_32x32.mat", {"X": images, "y": labels}, do_compression=compressed)
    return folder


def refusal(folder):
    with pytest.raises(DataError) as error:
        load_data("svhn", folder, name="mine")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8"])
def test_svhn_as_it_is_published(tmp_path, compressed, dtype):
    data = load_data("svhn", write_svhn(tmp_path, train=(X, Y.astype(dtype)), compressed=compressed))
    assert data.classes == tuple("0123456789")
    assert data.shape == (3, 32, 32)
    assert data.y_train.tolist() == [1, 0, 9, 2]
    assert data.y_test.tolist() == [1, 0]
    assert (data.x_train == X.transpose(3, 2, 0, 1)).all()
    assert (data.x_test == X[..., :2].transpose(3, 2, 0, 1)).all()


def test_doubles_that_matlab_stores_as_bytes_are_integers(tmp_path):
    file = write_svhn(tmp_path) / "train_32x32.mat"
    as_uint8, as_double = struct.pack("<4I", 6, 8, 9, 0), struct.pack("<4I", 6, 8, 6, 0)
    data = file.read_bytes()
    assert data.count(as_uint8) == 2
    file.write_bytes(data.replace(as_uint8, as_double))
    assert load_data("svhn", tmp_path).y_train.tolist() == [1, 0, 9, 2]


def test_what_is_no_array_of_integers_is_passed_over(tmp_path):
    others = {"text": "word", "real": 1.5, "complex": np.array([1j]), "cell": np.array([1, "a"], object)}
    others |= {"structure": {"y": Y}, "long_name_of_integers": np.arange(6, dtype=np.int32).reshape(2, 3)}
    savemat(tmp_path / "all.mat", others)
    arrays = mat_arrays(tmp_path / "all.mat")
    assert list(arrays) == ["long_name_of_integers"]
    assert arrays["long_name_of_integers"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_missing_svhn_file_says_what_to_put_where(tmp_path):
    write_svhn(tmp_path)
    (tmp_path / "test_32x32.mat").unlink()
    assert refusal(tmp_path) == (
        f"data 'mine': {tmp_path}/test_32x32.mat is missing; "
        "put train_32x32.mat and test_32x32.mat (SVHN, cropped digits) there"
    )


@pytest.mark.parametrize(
    ("train", "rule"),
    [
        ((X[:16], Y), "X is uint8 (16, 32, 3, 4) and y uint8 (4, 1), must be uint8 (32, 32, 3, N) and integers (N, 1)"),
        ((X, Y[:3]), "X is uint8 (32, 32, 3, 4) and y uint8 (3, 1), must be uint8 (32, 32, 3, N) and integers (N, 1)"),
        (
            (X / 255, Y),
            "X is float64 (0,) and y uint8 (4, 1), must be uint8 (32, 32, 3, N) and integers (N, 1)",
        ),
        ((X, Y - 1), "labels are 0..9, must be 1..10"),
    ],
)
def test_arrays_that_are_not_svhn_are_refused(tmp_path, train, rule):
    assert refusal(write_svhn(tmp_path, train)) == f"data 'mine': {tmp_path}/train_32x32.mat: {rule}"


def test_truncated_and_foreign_files_are_refused(tmp_path):
    file = write_svhn(tmp_path) / "train_32x32.mat"
    whole = file.read_bytes()
    where = f"data 'mine': {file}: "
    no_mat = where + "is no MATLAB 5 file (bytes 124 to 127 must be 0001494d)"
    assert len(whole) == 128 + (8 + 12344) + (8 + 48)
    for damaged, message in (
        (b"", no_mat),
        (b"x" * 500, no_mat),
        (whole[:9000], where + "ends after 8864 of 12344 promised bytes"),
        (whole[:-1], where + "ends after 47 of 48 promised bytes"),
    ):
        file.write_bytes(damaged)
        assert refusal(tmp_path) == message


def test_altered_compressed_files_are_refused(tmp_path):
    file = write_svhn(tmp_path, compressed=True) / "train_32x32.mat"
    whole = file.read_bytes()
    file.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert refusal(tmp_path).startswith(f"data 'mine': {file}: cannot be read: Error -3 while decompressing data: ")
    packed = zlib.compress(struct.pack("<II", 14, 2**31) + bytes(24))
    file.write_bytes(whole[:128] + struct.pack("<II", 15, len(packed)) + packed)
    assert refusal(tmp_path) == (
        f"data 'mine': {file}: holds 24 of 2147483648 compressed bytes of an element of type 14, or more"
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.data())
def test_random_damage_is_read_or_refused_but_nothing_else(tmp_path, compressed, data):
    file = write_svhn(tmp_path, (X[..., :1], Y[:1]), compressed=compressed) / "train_32x32.mat"
    damaged = bytearray(file.read_bytes())
    places = st.one_of(st.integers(128, 192), st.integers(len(damaged) - 80, len(damaged) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(places)] = data.draw(st.integers(0, 255))
    file.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
    found, message = None, "data 'mine': "
    try:
        found = load_data("svhn", tmp_path, name="mine")
    except DataError as error:
        message = str(error)
    assert message.startswith("data 'mine': ")
    assert "\n" not in message
    assert found is None or set(found.y_train.tolist()) <= set(range(len(found.classes)))
