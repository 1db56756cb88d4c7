"""Data of one's own: arrays, torch data sets, iterators; what cannot be learned is refused in one line."""

import re

import numpy as np
import pytest
import torch

from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import DataError, SettingsError
from tsn_hw.learn.data.images import load_data
from tsn_hw.learn.data.inputs import check_format, integers, nearest_format, prepared, real
from tsn_hw.learn.data.own import Preparation, normalized, own_data, own_stream
from tsn_hw.learn.data.tasks import mixed, permuted, split
from tsn_hw.learn.settings import Formats, Settings

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(8, 3)), np.tile([0, 1], 4)
X_TEST, Y_TEST = RNG.normal(size=(4, 3)), np.array([0, 1, 0, 1])


def table(name="table", **change):
    return own_data(**({"name": name, "train": (X, Y), "test": (X_TEST, Y_TEST)} | change))


# --- shapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "given", "found"),
    [
        (np.float64, (8, 3), (3,)),
        (np.float32, (8, 6, 50), (6, 1, 50)),
        (np.float16, (8, 2, 4, 5), (2, 4, 5)),
        (np.int16, (8, 6, 50), (6, 1, 50)),
        (np.bool_, (8, 3), (3,)),
        (np.uint8, (8, 3), (3,)),
        (np.uint8, (8, 4, 5), (1, 4, 5)),
        (np.uint8, (8, 4, 5, 3), (3, 4, 5)),
        (np.uint8, (8, 12, 4, 5), (12, 4, 5)),
    ],
)
def test_inputs_of_any_type_and_shape_become_those_of_a_network(dtype, given, found):
    x = (RNG.random(given) * 9).astype(dtype)
    data = own_data("any", (x, Y), (x[:4], Y_TEST))
    assert data.shape == found
    assert data.pixels == (dtype == np.uint8)
    assert data.x_train.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    flat = np.moveaxis(x, -1, 1) if given[-1:] == (3,) and len(given) == 4 else x
    np.testing.assert_array_equal(data.x_train.reshape(8, -1), flat.reshape(8, -1).astype(data.x_train.dtype))


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return torch.from_numpy(X[index]), int(Y[index])


@pytest.mark.parametrize(
    "train",
    [
        (torch.from_numpy(X), torch.from_numpy(Y)),
        (X.tolist(), Y.tolist()),
        Pairs(),
        torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
        zip(X, Y, strict=True),
    ],
    ids=["tensors", "lists", "data set", "tensor data set", "iterator"],
)
def test_arrays_data_sets_and_iterators_give_the_same(train):
    data = own_data("same", train, (X_TEST, Y_TEST))
    np.testing.assert_array_equal(data.x_train, X.astype(np.float32))
    np.testing.assert_array_equal(data.y_train, Y)


# --- labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "y_test", "classes", "names"),
    [
        (Y, Y_TEST, None, ("0", "1")),
        (Y * 4 + 3, Y_TEST * 4 + 3, None, ("3", "7")),
        (Y - 1, Y_TEST - 1, None, ("-1", "0")),
        (Y, Y_TEST, ("no", "yes"), ("no", "yes")),
        (Y, Y_TEST, ("7", "3"), ("7", "3")),
        (Y.astype(bool), Y_TEST.astype(np.uint8), None, ("0", "1")),
        (np.array(["a", "b"])[Y], np.array([b"a", b"b"])[Y_TEST], None, ("a", "b")),
        (np.array(["b", "a"])[Y], np.array(["b", "a"])[Y_TEST], ("b", "a"), ("b", "a")),
        (np.array(["a", "b"], object)[Y], np.array(["a", "b"])[Y_TEST], None, ("a", "b")),
        (np.eye(2)[Y], np.eye(2, dtype=int)[Y_TEST], None, ("0", "1")),
        (np.eye(2)[Y], np.eye(2)[Y_TEST], ("no", "yes"), ("no", "yes")),
    ],
)
def test_labels_may_be_any_integers_strings_or_one_hot_rows(y, y_test, classes, names):
    data = table(train=(X, y), test=(X_TEST, y_test), classes=classes)
    assert data.classes == names
    assert (data.y_train.tolist(), data.y_test.tolist()) == (Y.tolist(), Y_TEST.tolist())


# --- what cannot be learned --------------------------------------------------------------------------------------

HOLES = X.copy()
HOLES[2, 1] = HOLES[5, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train": (HOLES, Y)},
            "data 'table', train part: 2 of 8 inputs hold NaN or infinity; give fill, such as 0, for NaN",
        ),
        (
            {"test": (X_TEST * np.inf, Y_TEST), "preparation": Preparation(fill=0)},
            "data 'table', test part: 4 of 4 inputs hold NaN or infinity; give fill, such as 0, for NaN",
        ),
        (
            {"test": None},
            "data 'table': has no test part; give one, or test_share, such as 0.2, to take it from training",
        ),
        (
            {"train": (X, Y * 0), "test": (X_TEST, Y_TEST * 0)},
            "data 'table': has one class, '0'; a task needs at least two",
        ),
        (
            {"classes": "abc"},
            "data 'table': class 'c' has 0 training and 0 test examples, must have at least 2 and 1; leave the class "
            "out, or bring more",
        ),
        (
            {"train": (X, np.arange(8)), "classes": "ab"},
            "data 'table', train part: labels 0..7 need 8 class names, got 2",
        ),
        (
            {"test": (X_TEST, Y_TEST + 1)},
            "data 'table', test part: label 2 is none of the classes 0, 1 of the training part",
        ),
        (
            {"train": (X, np.array(["a", "b"])[Y]), "classes": ("a", "c")},
            "data 'table', train part: label 'b' is none of the classes a, c of the training part",
        ),
        ({"train": (X, Y[:5])}, "data 'table', train part: 8 inputs and 5 labels"),
        (
            {"train": (X[:0], Y[:0])},
            "data 'table', train part: inputs are float64 (0, 3), must be numbers (N, features), (N, channels, steps) "
            "or (N, channels, height, width), or uint8 images (N, H, W) or (N, H, W, C), none of them 0",
        ),
        ({"train": []}, "data 'table', train part: holds no input"),
        (
            {"train": [X[0]]},
            "data 'table', train part: must be two arrays (inputs, labels), or give pairs (input, label)",
        ),
        (
            {"train": [(X[0], 0), (X[1, :2], 1)]},
            "data 'table', train part: inputs have different shapes, such as (2,) and (3,)",
        ),
        (
            {"train": (X, Y / 3)},
            "data 'table', train part: labels are float64 (8,), must be integers or strings (N,), or one-hot rows",
        ),
        (
            {"train": (X, np.ones((8, 2)))},
            "data 'table', train part: labels of two axes must be one-hot, one 1 and else 0 in every row",
        ),
        (
            {"train": ((X * 1e8).astype(np.int64), Y)},
            "data 'table', train part: holds integers beyond 2**24; scale them and give floats",
        ),
        ({"test": (X_TEST[:, :2], Y_TEST)}, "data 'table': training images are (3,), test images (2,)"),
        (
            {"test": (np.zeros((4, 3), np.uint8), Y_TEST)},
            "data 'table': training images are float32 (3,), test images uint8 (3,)",
        ),
        ({"name": "a b"}, "data name 'a b': must be 1..40 of letters, digits, '_', '.', '-'"),
        (
            {"train": (X * [1, np.nan, 1], Y), "preparation": Preparation(normalize=True)},
            "data 'table': channel 1 has no value at all in training; leave it out",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_one_line_that_says_what_to_do(change, message):
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        table(**change)


@pytest.mark.parametrize(("share", "fill"), [(1.0, None), (-0.1, None), (0.0, np.nan)])
def test_preparations_that_make_no_sense_are_refused(share, fill):
    with pytest.raises(SettingsError, match=r"^(test_share|fill) "):
        Preparation(test_share=share, fill=fill)


# --- preparation -------------------------------------------------------------------------------------------------


def test_normalization_follows_the_training_part_and_is_kept():
    data = table(preparation=Preparation(normalize=True))
    np.testing.assert_allclose(data.offset, X.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.scale, X.std(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(data.x_test, normalized(X_TEST.astype(np.float32), data.offset, data.scale))
    task = own_stream([data]).task(0)
    assert (task.offset, task.scale) == (data.offset, data.scale)


def test_signals_are_normalized_channel_by_channel_and_holes_become_the_fill():
    x = RNG.normal(size=(8, 2, 5)) * 7 + 3
    x[0, 1, 3:] = np.nan
    data = own_data("signal", (x, Y), (x, Y), preparation=Preparation(normalize=True, fill=0.0))
    assert len(data.offset) == 2
    assert data.x_train[0, 1, 0, 3:].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(data.offset[1], np.nanmean(x[:, 1]), rtol=1e-6)


def test_a_constant_channel_becomes_zero_and_is_told(capsys):
    x = X.copy()
    x[:, 2] = 0.1
    data = table(train=(x, Y), test=(x[:4], Y_TEST), preparation=Preparation(normalize=True))
    assert not data.x_train[:, 2].any()
    assert "data 'table': channels 2 never change in training, and become 0" in capsys.readouterr().err


def test_a_test_share_takes_its_part_of_every_class():
    data = table(test=None, preparation=Preparation(test_share=0.25))
    assert (len(data.y_train), data.y_test.tolist()) == (6, [0, 1])
    assert sorted(map(tuple, [*data.x_train, *data.x_test])) == sorted(map(tuple, X.astype(np.float32)))


# --- streams -----------------------------------------------------------------------------------------------------


def test_a_stream_has_a_task_a_data_set_whose_validation_part_depends_on_its_name_alone():
    a, b = table("a"), table("b")
    both, alone = own_stream(iter([a, b])), own_stream([b])
    assert (both.names, both.input_shape, both.pixels, both.images) == (("a", "b"), (3,), False, ((6, 2),) * 2)
    np.testing.assert_array_equal(both.task(1).x_valid, alone.task(0).x_valid)
    ready = both.task(0)
    assert own_stream([ready]).task(0) is ready


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], "the stream has no task"),
        ([table(), table()], "task 'table': two tasks have this name, every task needs its own"),
        (
            [table("a"), own_data("b", (X[:, :2], Y), (X_TEST[:, :2], Y_TEST))],
            "task 'b': inputs are values (2,), those of task 'a' values (3,); bring all tasks to one shape, for "
            "example by resampling or padding",
        ),
        (
            [table("a"), own_data("b", (np.zeros((8, 3), np.uint8), Y), (np.zeros((4, 3), np.uint8), Y_TEST))],
            "task 'b': inputs are pixels (3,), those of task 'a' values (3,); bring all tasks to one shape, for "
            "example by resampling or padding",
        ),
    ],
)
def test_tasks_that_do_not_go_together_are_refused(sets, message):
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        own_stream(sets)


def test_values_may_be_permuted_split_and_mixed():
    data = table()
    moved = permuted(data, 2, seed=0, valid_share=0.2)
    assert not moved.pixels
    np.testing.assert_array_equal(np.sort(moved.task(0).x_test), np.sort(data.x_test))
    assert split(data, 1, seed=0, valid_share=0.2).classes == (("0",), ("1",))
    assert mixed([data, table("b")], side=8, channels=3, seed=0, valid_share=0.2).input_shape == (3,)
    other = own_data("b", (X[:, :2], Y), (X_TEST[:, :2], Y_TEST))
    with pytest.raises(
        SettingsError, match=r"^mixed: inputs of different shapes or kinds \('table' values \(3,\), 'b' "
    ):
        mixed([data, other], side=8, channels=3, seed=0, valid_share=0.2)


# --- integers ----------------------------------------------------------------------------------------------------


def test_pixels_stand_for_256ths_and_values_for_themselves():
    assert real(np.array([0, 64, 255], np.uint8)).tolist() == [0.0, 0.25, 255 / 256]
    assert real(np.array([-3.5], np.float32)).tolist() == [-3.5]
    assert integers(np.array([-9.0, 0.26], np.float32), ActFormat(8, True, -4)).tolist() == [-128, 4]


@pytest.mark.parametrize(
    ("values", "bits", "signed", "exponent"),
    [
        ([-1.0, 0.25], 8, True, -6),  # exact
        ([0.0, 255.0], 8, False, 0),
        ([-32768.0, 3.0], 16, True, 0),
        ([0.0] + [0.01] * 10**4 + [1.0], 4, False, -8),  # one large value is cut off
    ],
)
def test_the_exponent_is_the_one_of_least_error(values, bits, signed, exponent):
    form = nearest_format(np.array(values), bits, signed)
    assert (form.bits, form.signed) == (bits, signed)
    errors = {
        e: float(np.square(integers(np.float32(values), ActFormat(bits, signed, e)) * 2.0**e - values).mean())
        for e in range(-16, 8)
    }
    assert errors[form.exponent] == min(errors.values())


def test_settings_get_the_format_of_the_first_task_unless_they_give_one():
    stream = own_stream([table("a"), table("b", train=(X * 100, Y))])
    formats = prepared(Settings(), stream).formats
    assert formats.input == nearest_format(real(stream.task(0).x_train), 8, signed=True)
    given = Settings(formats=Formats(input_bits=12, input_signed=True, input_exponent=-6))
    assert prepared(given, stream) is given
    assert prepared(Settings(), permuted(load_data("digits"), 1, seed=0, valid_share=0.1)) == Settings()
    with pytest.raises(SettingsError, match=r"^formats\.input_bits, input_signed and input_exponent are for values"):
        check_format(given.formats, permuted(load_data("digits"), 1, seed=0, valid_share=0.1))


def test_an_npz_file_may_hold_values_strings_and_no_test_part(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=np.array(["ok", "worn"])[Y])
    with pytest.raises(DataError, match="holds no x_test"):
        load_data("npz", tmp_path / "a.npz")
    data = load_data("npz", tmp_path / "a.npz", preparation=Preparation(normalize=True, test_share=0.25))
    assert (data.shape, data.classes, len(data.y_test), len(data.offset)) == ((3,), ("ok", "worn"), 2, 3)
    with pytest.raises(SettingsError, match="belong to the kind npz"):
        load_data("digits", preparation=Preparation(fill=0))
