import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsn_hw.core.errors import DataError, SettingsError
from tsn_hw.learn.data.dataset import DataSet
from tsn_hw.learn.data.images import digits
from tsn_hw.learn.data.tasks import mixed, permuted, split, stratified


def numbered(name="numbers", classes=4, per_class=10, tests=3, shape=(1, 2, 3)):
    """A data set whose every image is a constant: its number in the training part, 200 + its number in the test."""
    labels = np.tile(np.arange(classes), per_class)
    test_labels = np.tile(np.arange(classes), tests)

    def images(count, first):
        flat = np.arange(first, first + count, dtype=np.uint8)
        return np.broadcast_to(flat[:, None, None, None], (count, *shape)).copy()

    return DataSet(
        name,
        images(len(labels), 0),
        labels,
        images(len(test_labels), 200),
        test_labels,
        tuple("abcdefghij"[:classes]),
    )


def photo(name="photo", shape=(3, 4, 6), classes=2, count=8):
    rng = np.random.default_rng(7)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return DataSet(name, pixels, labels, pixels[::-1], labels, tuple("xyz"[:classes]))


def image_numbers(images):
    return images[:, 0, 0, 0].tolist()


# --- the validation part -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_every_class_gives_its_share_to_validation(labels, share, seed):
    y = np.array(labels)
    stay, leave = stratified(y, share, np.random.default_rng(seed))
    assert sorted([*stay, *leave]) == list(range(len(y)))
    assert (np.diff(stay) > 0).all()
    assert (np.diff(leave) > 0).all()
    for label in set(labels):
        n, left = int((y == label).sum()), int((y[leave] == label).sum())
        assert left == min(max(1, int(n * share + 0.5)), n - 1)


def test_the_validation_part_is_drawn_by_the_seed():
    y = np.zeros(50, np.int64)
    parts = [stratified(y, 0.2, np.random.default_rng(seed))[1].tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    assert len(parts[0]) == 10


@pytest.mark.parametrize(
    "stream",
    [
        permuted(numbered(shape=(1, 1, 1)), 2, seed=3, valid_share=0.2),
        split(numbered(), 2, seed=3, valid_share=0.2),
        mixed([numbered()], side=2, channels=3, seed=3, valid_share=0.2),
    ],
    ids=["permuted", "split", "mixed"],
)
def test_validation_comes_from_training_and_test_stays_whole(stream):
    for index in range(len(stream)):
        task = stream.task(index)
        source = numbered()
        train, valid, test = (image_numbers(x) for x in (task.x_train, task.x_valid, task.x_test))
        wanted = [i for i, label in enumerate(source.y_train) if source.classes[label] in task.classes]
        assert sorted(train + valid) == wanted
        assert test == [200 + i for i, label in enumerate(source.y_test) if source.classes[label] in task.classes]
        for numbers, labels in ((train, task.y_train), (valid, task.y_valid)):
            assert [task.classes[y] for y in labels] == [source.classes[source.y_train[i]] for i in numbers]
        assert np.bincount(task.y_valid).tolist() == [2] * len(task.classes)


# --- streams -----------------------------------------------------------------------------------------------------


def test_the_first_of_the_permuted_tasks_may_stay_as_it_is():
    data = digits()
    natural, moved = (permuted(data, 2, seed=3, valid_share=0.2, natural_first=first) for first in (True, False))
    np.testing.assert_array_equal(natural.task(0).x_test, data.x_test)
    assert (moved.task(0).x_test != data.x_test).any()
    np.testing.assert_array_equal(natural.task(0).y_train, moved.task(0).y_train)
    np.testing.assert_array_equal(natural.task(1).x_train, moved.task(1).x_train)


def test_permuted_tasks_move_pixels_by_one_fixed_order_a_task():
    data = photo()
    stream = permuted(data, 3, seed=5, valid_share=0.25)
    orders = []
    for index in range(3):
        task = stream.task(index)
        before, after = data.x_test.reshape(8, 3, 24), task.x_test.reshape(8, 3, 24)
        matches = (before[:, :, :, None] == after[:, :, None, :]).all(axis=(0, 1))  # the same in all images, channels
        assert matches.sum() == 24
        orders.append(matches.argmax(axis=0).tolist())
    assert sorted(orders[0]) == list(range(24))
    assert list(range(24)) not in orders  # the first task is permuted as well
    assert len({tuple(order) for order in orders}) == 3


def test_training_validation_and_test_share_the_order_of_their_task():
    labels = np.arange(8) % 2
    pixels = np.tile(np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4), (8, 1, 1, 1))
    task = permuted(DataSet("same", pixels, labels, pixels, labels, ("a", "b")), 1, seed=0, valid_share=0.3).task(0)
    for images in (task.x_train, task.x_valid, task.x_test):
        assert (images == task.x_train[0]).all()
    assert sorted(task.x_train[0].ravel().tolist()) == list(range(16))


def test_a_task_does_not_depend_on_what_was_built_before():
    stream, again = (permuted(digits(), 4, seed=1, valid_share=0.1) for _ in range(2))
    for index in (3, 0, 3):
        one, two = stream.task(index), again.task(index)
        for field in ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test"):
            assert (getattr(one, field) == getattr(two, field)).all()
    other = permuted(digits(), 4, seed=2, valid_share=0.1).task(0)
    assert (other.x_test != stream.task(0).x_test).any()


def test_split_deals_classes_in_order_and_counts_labels_from_zero():
    stream = split(numbered(), 2, seed=0, valid_share=0.1, order=[3, 0, 2, 1])
    assert stream.names == ("numbers-split-0", "numbers-split-1")
    assert stream.classes == (("d", "a"), ("c", "b"))
    assert stream.task(0).classes == ("d", "a")
    assert stream.task(0).y_test.tolist() == [1, 0, 1, 0, 1, 0]  # a, d, a, d, a, d in the data set
    assert split(numbered(), 2, seed=0, valid_share=0.1).classes == (("a", "b"), ("c", "d"))
    assert split(numbered(), 1, seed=0, valid_share=0.1, order=[2]).classes == (("c",),)


def test_mixed_brings_every_set_to_one_shape():
    stream = mixed([numbered(), photo()], side=5, channels=3, seed=0, valid_share=0.25)
    assert stream.names == ("numbers", "photo")
    assert stream.input_shape == (3, 5, 5)
    for index in range(2):
        assert stream.task(index).x_train.shape[1:] == (3, 5, 5)
    grey = stream.task(0).x_train
    assert (grey == grey[:, :1]).all()
    assert image_numbers(stream.task(0).x_test) == list(range(200, 212))  # a constant image stays constant


def test_mixed_leaves_images_of_the_right_shape_as_they_are():
    data = photo(shape=(3, 4, 4))
    assert (mixed([data], side=4, channels=3, seed=0, valid_share=0.5).task(0).x_test == data.x_test).all()


def test_resizing_is_bilinear():
    pixels = np.array([[0, 0, 200, 200]] * 4, np.uint8)
    images = np.broadcast_to(pixels, (4, 1, 4, 4))
    data = DataSet("edge", images, np.array([0, 1, 0, 1]), images, np.array([0, 1, 0, 1]), ("a", "b"))
    task = mixed([data], side=2, channels=1, seed=0, valid_share=0.5).task(0)
    assert task.x_test[0, 0].tolist() == [[29, 171], [29, 171]]  # triangle filter, weights 1/7, 3/7, 3/7 | ... 1/7


def test_tasks_own_their_arrays():
    data = photo(shape=(3, 4, 4))
    streams = [
        permuted(data, 1, seed=0, valid_share=0.5),
        split(data, 2, seed=0, valid_share=0.5),
        mixed([data], side=4, channels=3, seed=0, valid_share=0.5),
    ]
    for stream in streams:
        task = stream.task(0)
        for field in ("x_train", "x_valid", "x_test", "y_train", "y_valid", "y_test"):
            array = getattr(task, field)
            array[:] = 0  # writable, and nobody else sees it
            assert not np.shares_memory(array, data.x_train)
            assert not np.shares_memory(array, data.x_test)
        assert (stream.task(0).x_test != 0).any()


def test_labels_and_images_keep_their_types():
    task = split(numbered(), 2, seed=0, valid_share=0.1).task(1)
    assert {task.x_train.dtype, task.x_valid.dtype, task.x_test.dtype} == {np.dtype(np.uint8)}
    assert {task.y_train.dtype, task.y_valid.dtype, task.y_test.dtype} == {np.dtype(np.int64)}


def test_the_longest_data_name_still_makes_core_names():
    names = permuted(numbered(name="n" * 40), 1000, seed=0, valid_share=0.1).names
    assert max(map(len, names)) <= 64


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: permuted(d, 0, seed=0, valid_share=0.1), "permuted: 0 tasks, must be at least 1"),
        (lambda d: permuted(d, 1, seed=-1, valid_share=0.1), "seed -1: must be at least 0"),
        (lambda d: permuted(d, 1, seed=0, valid_share=0.0), r"valid_share 0\.0: must lie between 0 and 1"),
        (lambda d: split(d, 2, seed=0, valid_share=1.0), r"valid_share 1\.0: must lie between 0 and 1"),
        (lambda d: split(d, 3, seed=0, valid_share=0.1), "split: 4 classes do not divide into tasks of 3"),
        (lambda d: split(d, 0, seed=0, valid_share=0.1), "split: 4 classes do not divide into tasks of 0"),
        (
            lambda d: split(d, 1, seed=0, valid_share=0.1, order=[0, 4]),
            r"split: order \[0, 4\] must list different labels of 0\.\.3",
        ),
        (
            lambda d: split(d, 1, seed=0, valid_share=0.1, order=[1, 1]),
            r"split: order \[1, 1\] must list different labels of 0\.\.3",
        ),
        (
            lambda d: split(d, 1, seed=0, valid_share=0.1, order=[]),
            r"split: order \[\] must list different labels of 0\.\.3",
        ),
        (
            lambda d: mixed([d, d], side=2, channels=1, seed=0, valid_share=0.1),
            "mixed: data sets numbers, numbers: must be at least one, each with its own name",
        ),
        (
            lambda d: mixed([], side=2, channels=1, seed=0, valid_share=0.1),
            "mixed: data sets none: must be at least one, each with its own name",
        ),
        (
            lambda d: mixed([photo()], side=2, channels=1, seed=0, valid_share=0.1),
            "mixed: data 'photo' has 3 channels, the stream has 1",
        ),
        (
            lambda d: mixed([d], side=0, channels=1, seed=0, valid_share=0.1),
            "mixed: side 0 and channels 1, must be at least 1",
        ),
        (lambda d: split(d, 2, seed=0, valid_share=0.1).task(2), r"task 2: the stream has tasks 0\.\.1"),
        (lambda d: split(d, 2, seed=0, valid_share=0.1).task(-1), r"task -1: the stream has tasks 0\.\.1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(SettingsError, match=f"^{message}$"):
        make(numbered())


@pytest.mark.parametrize(("train", "test"), [(1, 1), (2, 0), (0, 1)])
def test_a_class_without_images_to_train_validate_or_test_is_refused(train, test):
    y_train, y_test = np.array([0, 0] + [1] * train), np.array([0] + [1] * test)
    x_train, x_test = (np.zeros((len(y), 1, 1, 1), np.uint8) for y in (y_train, y_test))
    data = DataSet("few", x_train, y_train, x_test, y_test, ("a", "b"))
    rule = f"class 'b' has {train} training and {test} test images, must have at least 2 "
    with pytest.raises(DataError, match=f"^task 'few-split-1': {rule}"):  # although task 0 could be learned
        split(data, 1, seed=0, valid_share=0.5)
    with pytest.raises(DataError, match=f"^task 'few-permuted-0': {rule}"):
        permuted(data, 3, seed=0, valid_share=0.5)
    with pytest.raises(DataError, match=f"^task 'few': {rule}"):
        mixed([digits(), data], side=8, channels=1, seed=0, valid_share=0.5)


@given(st.lists(st.integers(2, 9), min_size=1, max_size=4), st.floats(0.01, 0.99))
def test_a_stream_counts_the_images_of_its_tasks_before_it_builds_them(counts, share):
    labels = np.repeat(np.arange(len(counts)), counts)
    x, classes = np.zeros((len(labels), 1, 1, 1), np.uint8), tuple("abcd"[: len(counts)])
    stream = split(DataSet("few", x, labels, x, labels, classes), 1, seed=0, valid_share=share)
    tasks = [stream.task(index) for index in range(len(stream))]
    assert stream.images == tuple((len(task.y_train), len(task.y_valid)) for task in tasks)
