import gzip
import io
import re
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.data_files import ARRAYS, COLOUR, X_TEST, X_TRAIN, Y_TEST, Y_TRAIN, refusal, save, write_folder
from tsn_hw.core.errors import DataError, SettingsError
from tsn_hw.learn.data.dataset import DataSet, limited
from tsn_hw.learn.data.images import IDX_FILES, digits, load_data

# --- the data set ------------------------------------------------------------------------------------------------


def test_data_sets_are_read_only_and_leave_their_source_writable():
    pixels, labels = np.zeros((1, 1, 2, 2), np.uint8), np.zeros(1, np.int64)
    data = DataSet("one", pixels, labels, pixels, labels, ("a",))
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
    pixels[...] = 1
    assert data.shape == (1, 2, 2)


GOOD = {
    "name": "one",
    "x_train": np.zeros((2, 1, 2, 2), np.uint8),
    "y_train": np.zeros(2, np.int64),
    "x_test": np.zeros((1, 1, 2, 2), np.uint8),
    "y_test": np.zeros(1, np.int64),
    "classes": ("a", "b"),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a b"}, "data name 'a b': must be 1..40 of letters, digits, '_', '.', '-'"),
        ({"name": "n" * 41}, f"data name '{'n' * 41}': must be 1..40 of letters, digits, '_', '.', '-'"),
        (
            {"x_train": np.zeros((2, 1, 2, 2))},
            "data 'one', train part: images are float64 (2, 1, 2, 2), must be uint8 or float32 (N, features) "
            "or (N, C, H, W), none of them 0",
        ),
        (
            {"x_test": np.zeros((1, 2, 2), np.uint8)},
            "data 'one', test part: images are uint8 (1, 2, 2), must be uint8 or float32 (N, features) "
            "or (N, C, H, W), none of them 0",
        ),
        (
            {"x_test": np.zeros((0, 1, 2, 2), np.uint8), "y_test": np.zeros(0, np.int64)},
            "data 'one', test part: images are uint8 (0, 1, 2, 2), must be uint8 or float32 (N, features) "
            "or (N, C, H, W), none of them 0",
        ),
        ({"y_train": np.zeros(3, np.int64)}, "data 'one', train part: labels are int64 (3,), must be int64 (2,)"),
        ({"y_test": np.zeros(1, np.uint8)}, "data 'one', test part: labels are uint8 (1,), must be int64 (1,)"),
        ({"y_train": np.array([0, 2])}, "data 'one', train part: labels 0..2, must be 0..1"),
        ({"y_test": np.array([-1])}, "data 'one', test part: labels -1..-1, must be 0..1"),
        (
            {"x_test": np.zeros((1, 1, 2, 3), np.uint8)},
            "data 'one': training images are (1, 2, 2), test images (1, 2, 3)",
        ),
        ({"classes": ("a", "a")}, "data 'one': class names repeat: a, a"),
    ],
)
def test_a_data_set_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        DataSet(**(GOOD | change))


def test_limited_takes_evenly_spaced_images_of_every_class():
    labels = np.array([0, 1, 0, 0, 0, 1, 0])  # class 0: images 0, 2, 3, 4, 6; class 1: images 1, 5
    pixels = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1)
    data = limited(DataSet("seven", pixels, labels, pixels[:2], labels[:2], ("a", "b")), 3)
    assert data.x_train.ravel().tolist() == [0, 1, 2, 4, 5]  # of five: the 0th, 1st and 3rd
    assert data.y_train.tolist() == [0, 1, 0, 0, 1]
    assert data.x_test.ravel().tolist() == [0, 1]


# --- digits ------------------------------------------------------------------------------------------------------


def test_digits_fill_the_byte_range_and_split_one_fifth_off():
    data = digits()
    assert data.x_train.shape == (1442, 1, 8, 8)
    assert data.x_test.shape == (355, 1, 8, 8)
    assert np.unique(data.x_train).tolist() == [v * 255 // 16 for v in range(17)]
    assert data.x_train[0, 0, 0].tolist() == [0, 0, 79, 207, 143, 15, 0, 0]  # values 0 0 5 13 9 1 0 0
    assert np.bincount(data.y_test).tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
    assert data.classes == tuple("0123456789")


# --- IDX ---------------------------------------------------------------------------------------------------------


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, packed=False, **changes):
    for name, array in zip(IDX_FILES, (X_TRAIN, Y_TRAIN, X_TEST, Y_TEST), strict=True):
        data = changes.get(name.split("-")[0] + "_" + name.split("-")[1], idx(array))
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_plain_or_packed(tmp_path, packed):
    data = load_data("idx", write_idx(tmp_path, packed))
    assert (data.x_train == X_TRAIN[:, None]).all()
    assert (data.x_test == X_TEST[:, None]).all()
    assert data.y_train.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.y_test.tolist() == [2, 1, 0]
    assert data.classes == ("0", "1", "2")
    assert data.name == "idx"


def test_idx_labels_may_count_from_one(tmp_path):
    data = load_data("idx", write_idx(tmp_path, train_labels=idx(Y_TRAIN + 1), t10k_labels=idx(Y_TEST + 1)))
    assert data.y_test.tolist() == [2, 1, 0]
    assert data.classes == ("1", "2", "3")


def test_a_missing_idx_file_says_what_to_put_where(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert refusal("idx", tmp_path) == (
        f"data 'mine': {tmp_path}/t10k-labels-idx1-ubyte(.gz) is missing; put the four MNIST IDX files "
        "(train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte; "
        "plain or .gz) there"
    )


IMAGES = idx(X_TRAIN)


@pytest.mark.parametrize(
    ("damaged", "rule"),
    [
        (b"", "ends after 0 of 16 promised bytes"),
        (IMAGES[:11], "ends after 11 of 16 promised bytes"),
        (IMAGES[:-1], "ends after 119 of 120 promised bytes"),
        (IMAGES + b"x", "goes on after the 120 bytes that its header promises"),
        (b"\0\0\x0d\3" + IMAGES[4:], "begins with 00000d03, must begin with 00000803 (bytes, 3 axes)"),
        (idx(Y_TRAIN) + bytes(99), "begins with 00000801, must begin with 00000803 (bytes, 3 axes)"),
        (b"\0\0\x08\3" + b"\xff" * 12 + b"abc", f"ends after 3 of {(2**32 - 1) ** 3} promised bytes"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_idx_files_are_refused(tmp_path, damaged, rule, packed):
    file = tmp_path / ("train-images-idx3-ubyte" + (".gz" if packed else ""))
    assert refusal("idx", write_idx(tmp_path, packed, train_images=damaged)) == f"data 'mine': {file}: {rule}"


def test_idx_counts_that_disagree_are_refused(tmp_path):
    assert refusal("idx", write_idx(tmp_path, train_labels=idx(Y_TRAIN[:5]))) == (
        "data 'mine', train part: labels are int64 (5,), must be int64 (6,)"
    )


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0, 1, 2, 0, 1, 9], [2, 1, 0], "training labels 0..9 are only 4 different ones, must be consecutive"),
        ([0, 1, 2, 0, 1, 2], [2, 1, 3], "test part: labels 1..3, must be 0..2"),
        ([1, 2, 3, 1, 2, 3], [2, 1, 0], "test part: labels -1..1, must be 0..2"),
    ],
)
def test_idx_labels_out_of_range_are_refused(tmp_path, train, test, message):
    labels = {"train_labels": idx(np.array(train, np.uint8)), "t10k_labels": idx(np.array(test, np.uint8))}
    assert refusal("idx", write_idx(tmp_path, **labels)).endswith(message)


def test_corrupt_gzip_is_refused(tmp_path):
    file = write_idx(tmp_path, packed=True) / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    for damaged in (b"no gzip", whole[:-9], whole[:40] + b"\xff\xff" + whole[42:], whole[:-6] + b"\0\0" + whole[-4:]):
        file.write_bytes(damaged)
        assert refusal("idx", tmp_path).startswith(f"data 'mine': {file}: cannot be read: ")


# --- npz ---------------------------------------------------------------------------------------------------------


def write_npz(folder, compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(folder / "data.npz", **arrays)
    return folder / "data.npz"


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_grey_images_with_named_classes(tmp_path, compressed):
    data = load_data(
        "npz", write_npz(tmp_path, compressed, **ARRAYS, classes=np.array([b"ant", b"bee", "cät".encode()]))
    )
    assert (data.x_train == X_TRAIN[:, None]).all()
    assert data.y_test.tolist() == [2, 1, 0]
    assert data.classes == ("ant", "bee", "cät")


@pytest.mark.parametrize("images", [COLOUR, COLOUR.transpose(0, 3, 1, 2), np.asfortranarray(COLOUR)])
def test_npz_channels_last_or_first(tmp_path, images):
    data = load_data("npz", write_npz(tmp_path, x_train=images, y_train=Y_TRAIN, x_test=images, y_test=Y_TRAIN))
    assert data.shape == (3, 5, 4)
    assert (data.x_train == COLOUR.transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, ">i4", np.int64, np.uint64])
def test_npz_labels_of_any_integer_type(tmp_path, dtype):
    arrays = ARRAYS | {"y_train": Y_TRAIN.astype(dtype) + 7, "y_test": Y_TEST.astype(dtype) + 7}
    data = load_data("npz", write_npz(tmp_path, **arrays))
    assert data.y_train.dtype == np.int64
    assert data.y_train.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.classes == ("7", "8", "9")


def test_a_missing_npz_file_says_what_to_put_where(tmp_path):
    assert refusal("npz", tmp_path / "data.npz") == (
        f"data 'mine': {tmp_path}/data.npz is missing; put an .npz file with x_train, y_train, x_test, y_test "
        "(and classes, if they have names) there"
    )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"x_train": np.array([None])}, "x_train is of type object, must be numbers or strings"),
        ({"x_train": X_TRAIN.astype(np.complex64)}, "x_train is of type complex64, must be numbers or strings"),
        ({"classes": np.arange(3)}, "classes is int64 (3,), must be strings (classes,)"),
        ({"classes": np.array([b"\xff\xfe", b"b", b"c"])}, "cannot be read: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_npz_arrays_of_the_wrong_kind_are_refused(tmp_path, change, rule):
    file = write_npz(tmp_path, **(ARRAYS | change))
    assert refusal("npz", file).startswith(f"data 'mine': {file}: {rule}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": Y_TRAIN[:4]}, "data 'mine', train part: 6 inputs and 4 labels"),
        ({"classes": np.array(["a", "b"])}, "data 'mine', train part: labels 0..2 need 3 class names, got 2"),
        ({"x_test": X_TEST[:, 1:]}, "data 'mine': training images are (1, 5, 4), test images (1, 4, 4)"),
    ],
)
def test_npz_arrays_that_disagree_are_refused(tmp_path, change, message):
    assert refusal("npz", write_npz(tmp_path, **(ARRAYS | change))) == message


def test_an_npz_file_without_an_array_is_refused(tmp_path):
    file = write_npz(tmp_path, x_train=X_TRAIN, y_train=Y_TRAIN)
    assert refusal("npz", file) == f"data 'mine': {file}: holds no x_test, only x_train.npy, y_train.npy"


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def zip_with(folder, member):
    """An .npz file whose x_train.npy has these bytes; all checksums are right."""
    file = folder / "data.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x_train.npy", member)
        for key in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", npy(ARRAYS[key]))
    return file


@pytest.mark.parametrize(
    ("member", "rule"),
    [
        (b"", "ends after 0 of 8 promised bytes"),
        (npy(X_TRAIN)[:50], "ends after 40 of 118 promised bytes"),
        (npy(X_TRAIN)[:-1], "ends after 119 of 120 promised bytes"),
        (npy(X_TRAIN) + b"x", "goes on after the 120 bytes that its header promises"),
        (
            b"PK" + npy(X_TRAIN),
            "x_train begins with 504b934e554d5059, must begin with 934e554d505901 or 934e554d505902",
        ),
        (npy(X_TRAIN).replace(b"(6, 5, 4)", b"(6, 5,-4)"), "x_train has a header that describes no plain array"),
        (npy(X_TRAIN).replace(b"(6, 5, 4)", b"(6, 5 4 )"), "cannot be read: invalid literal for int()"),
        (npy(X_TRAIN).replace(b"'|u1'", b"'?!!'"), "cannot be read: data type '?!!' not understood"),
        (npy(X_TRAIN).replace(b"'shape'", b"'shapu'"), "x_train has a header that describes no plain array"),
        (
            npy(X_TRAIN).replace(b"(6, 5, 4), }          ", b"(99999999999, 9), }   "),
            "ends after 120 of 899999999991 promised bytes",
        ),
    ],
)
def test_damaged_arrays_in_npz_files_are_refused(tmp_path, member, rule):
    file = zip_with(tmp_path, member)
    assert refusal("npz", file).startswith(f"data 'mine': {file}: {rule}")


def test_damaged_zip_files_are_refused(tmp_path):
    file = write_npz(tmp_path, **ARRAYS)
    whole = file.read_bytes()
    pixel = whole.index(X_TRAIN.tobytes())
    for damaged in (b"", b"no zip", whole[:-30], whole[:pixel] + bytes([whole[pixel] ^ 1]) + whole[pixel + 1 :]):
        file.write_bytes(damaged)
        assert refusal("npz", file).startswith(f"data 'mine': {file}: cannot be read: ")


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings_", "message"),
    [
        (
            "mnist",
            {},
            "data 'mnist': kind 'mnist' is unknown, must be one of "
            "digits, idx, npz, cifar, svhn, tinyimagenet, folder, tiles",
        ),
        ("idx", {}, "data 'idx': kind idx needs a path"),
        ("digits", {"path": "here"}, "data 'digits': the bundled digits take no path, not here"),
        ("digits", {"side": 8}, "data 'digits': side belongs to the kinds folder and tiles, not to 'digits'"),
        ("digits", {"limit": 0}, "data 'digits': limit is 0, must be at least 1"),
        ("folder", {"path": "here", "side": 0}, "data 'folder': side is 0, must be at least 1"),
        ("tiles", {"path": "here"}, "data 'tiles': kind tiles needs side, the side of one tile in pixels"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, settings_, message, tmp_path):
    if "path" in settings_:
        settings_ = settings_ | {"path": tmp_path}
        message = message.replace("here", str(tmp_path))
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        load_data(kind, **settings_)


# --- fuzzing -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["gz", "npz", "png", "bmp", "jpg", "webp"]), st.data())
def test_files_with_random_damage_are_read_or_refused_but_nothing_else(tmp_path, kind, data):
    if kind == "gz":
        file = write_idx(tmp_path, packed=True) / "train-images-idx3-ubyte.gz"
        source = ("idx", tmp_path)
    elif kind == "npz":
        file = write_npz(tmp_path, **ARRAYS, classes=np.array(["a", "b", "c"]))
        source = ("npz", file)
    else:
        folder = tmp_path / kind
        write_folder(folder, COLOUR[:2], COLOUR[2:4])
        file = folder / "train" / "a" / f"1.{kind}"
        save(file, COLOUR[4])
        source = ("folder", folder)
    damaged = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
    try:
        load_data(*source, name="mine")
    except DataError as error:
        assert str(error).startswith("data 'mine'")  # noqa: PT017
