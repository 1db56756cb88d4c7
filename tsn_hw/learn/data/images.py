"""Data sets from local files: uint8 images and labels that count from 0. Nothing is downloaded or unpickled.

    kind     what ``path`` names
    digits   nothing: the 1,797 digits of 8x8 pixels that scikit-learn brings along
    idx      a folder with the four MNIST-style IDX files, plain or .gz
    npz      a file with x_train, y_train, x_test, y_test and, if the classes have names, classes: pixels or values
    cifar    a folder with the binary version of CIFAR-10 or CIFAR-100
    svhn     a folder with the cropped digits of SVHN, train_32x32.mat and test_32x32.mat
    folder   a folder with train/CLASS/ and test/CLASS/ (or val/CLASS/) full of images
    tinyimagenet  the folder of Tiny ImageNet as it is published; the test part is its validation part
    tiles    a folder with train/ and test/, one image a class: a sheet of square tiles, row after row

Every problem with a file is one DataError that names the data set, the file, the rule and the value.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.errors import DataError, SettingsError
from tsn_hw.core.files import StrPath
from tsn_hw.learn.data.dataset import DataSet, limited, with_numbered_classes
from tsn_hw.learn.data.files import (
    Images,
    Labels,
    cifar_records,
    idx_array,
    mat_arrays,
    missing,
    npz_array,
    reading,
    svhn_part,
)
from tsn_hw.learn.data.folders import read_folder, read_tiles, read_tinyimagenet
from tsn_hw.learn.data.own import Preparation, own_data

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load_data(
    kind: str,
    path: StrPath | None = None,
    *,
    name: str | None = None,
    side: int | None = None,
    limit: int | None = None,
    preparation: Preparation = Preparation(),
) -> DataSet:
    """The data set of a settings file: ``kind`` and ``path`` as in the module's docstring.

    ``name`` is the kind unless given. ``side``, in pixels: of the tiles, or what images of a folder are resized to.
    ``limit`` keeps that many images of every class in each part, evenly spaced. ``preparation`` is for the kind npz.

    Raises SettingsError for settings that make no sense, DataError for files that do not.

    >>> load_data("digits", limit=3).x_train.shape
    (30, 1, 8, 8)
    """
    name = name or kind
    for setting, value in (("side", side), ("limit", limit)):
        if value is not None and value < 1:
            raise SettingsError(f"data {name!r}: {setting} is {value}, must be at least 1")
    if side is not None and kind not in ("folder", "tiles"):
        raise SettingsError(f"data {name!r}: side belongs to the kinds folder and tiles, not to {kind!r}")
    if kind == "npz" and path is not None:
        data = read_npz(name, Path(path), preparation)
    elif preparation != Preparation():
        raise SettingsError(f"data {name!r}: normalize, fill and test_share belong to the kind npz, not to {kind!r}")
    else:
        data = _read(kind, None if path is None else Path(path), name, side)
    return data if limit is None else limited(data, limit)


def _read(kind: str, path: Path | None, name: str, side: int | None) -> DataSet:
    if kind == "digits":
        if path is not None:
            raise SettingsError(f"data {name!r}: the bundled digits take no path, not {path}")
        return digits(name)
    readers: dict[str, Callable[[str, Path], DataSet]] = {
        "idx": read_idx,
        "npz": read_npz,
        "cifar": read_cifar,
        "svhn": read_svhn,
        "tinyimagenet": read_tinyimagenet,
        "folder": lambda name, folder: read_folder(name, folder, side),
        "tiles": lambda name, folder: read_tiles(name, folder, side or 0),
    }
    if kind not in readers:
        raise SettingsError(f"data {name!r}: kind {kind!r} is unknown, must be one of digits, {', '.join(readers)}")
    if path is None:
        raise SettingsError(f"data {name!r}: kind {kind} needs a path")
    if kind == "tiles" and side is None:
        raise SettingsError(f"data {name!r}: kind tiles needs side, the side of one tile in pixels")
    return readers[kind](name, path)


def digits(name: str = "digits") -> DataSet:
    """Scikit-learn's digits, (1, 8, 8): value v of 0..16 becomes v * 255 // 16.

    Of every class, images 4, 9, 14, ... are the test part: 1,442 + 355 images.
    """
    from sklearn.datasets import load_digits  # takes a second to import, and only this needs it

    values, labels = load_digits(return_X_y=True)
    images = (values.astype(np.int64) * 255 // 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.int64)
    test = np.zeros(len(labels), np.bool_)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return DataSet(name, images[~test], labels[~test], images[test], labels[test], tuple("0123456789"))


def read_idx(name: str, folder: Path) -> DataSet:
    """The four IDX files of MNIST and its relatives, plain or .gz: (1, height, width)."""
    arrays = []
    for file_name, axes in zip(IDX_FILES, (3, 1, 3, 1), strict=True):
        plain, packed = folder / file_name, folder / f"{file_name}.gz"
        if not plain.is_file() and not packed.is_file():
            files = ", ".join(IDX_FILES)
            raise missing(name, f"{plain}(.gz)", f"the four MNIST IDX files ({files}; plain or .gz) there")
        file = plain if plain.is_file() else packed
        with reading(name, file):
            arrays.append(idx_array(file, axes))
    x_train, y_train, x_test, y_test = arrays
    return with_numbered_classes(name, x_train[:, None], y_train, x_test[:, None], y_test)


def read_npz(name: str, file: Path, preparation: Preparation = Preparation()) -> DataSet:
    """An .npz file: x_train, y_train, x_test, y_test as :func:`own_data` takes them; ``classes`` names 0, 1, ..."""
    if not file.is_file():
        arrays = "x_train, y_train, x_test, y_test (and classes, if they have names)"
        raise missing(name, file, f"an .npz file with {arrays} there")
    with reading(name, file), zipfile.ZipFile(file) as archive:
        parts = ["train"] if preparation.test_share and "x_test.npy" not in archive.namelist() else ["train", "test"]
        read = [(npz_array(archive, f"x_{part}"), npz_array(archive, f"y_{part}")) for part in parts]
        classes = _npz_classes(npz_array(archive, "classes")) if "classes.npy" in archive.namelist() else None
    return own_data(name, read[0], read[1] if len(read) > 1 else None, classes, preparation)


def read_cifar(name: str, folder: Path) -> DataSet:
    """The binary version of CIFAR-10 (data_batch_*.bin) or CIFAR-100 (train.bin, fine labels): (3, 32, 32)."""
    if (folder / "train.bin").is_file():
        files, label_bytes, names, count = ["train.bin", "test.bin"], 2, "fine_label_names.txt", 100
    else:
        files = [f"data_batch_{batch}.bin" for batch in range(1, 6)] + ["test_batch.bin"]
        label_bytes, names, count = 1, "batches.meta.txt", 10
    parts = []
    for file in (folder / file for file in files):
        if not file.is_file():
            python = [other for other in ("data_batch_1", "train") if (folder / other).is_file()]
            found = f" ({python[0]!r} is of the Python version, which is never unpickled)" if python else ""
            raise missing(name, file, "the files of the binary version of CIFAR-10 or CIFAR-100 there", found)
        with reading(name, file):
            parts.append(cifar_records(file, label_bytes))
    x_train, y_train = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return DataSet(name, x_train, y_train, *parts[-1], _cifar_classes(name, folder / names, count))


def read_svhn(name: str, folder: Path) -> DataSet:
    """The cropped digits of SVHN, MATLAB files: (3, 32, 32). Their label 10 is the digit 0, and becomes label 0."""
    parts: list[tuple[Images, Labels]] = []
    for file in (folder / "train_32x32.mat", folder / "test_32x32.mat"):
        if not file.is_file():
            raise missing(name, file, "train_32x32.mat and test_32x32.mat (SVHN, cropped digits) there")
        with reading(name, file):
            parts.append(svhn_part(mat_arrays(file)))
    return DataSet(name, *parts[0], *parts[1], tuple("0123456789"))


def _npz_classes(names: NDArray[Any]) -> tuple[str, ...]:
    if names.dtype.kind not in "SU" or names.ndim != 1:
        raise DataError(f"classes is {names.dtype} {names.shape}, must be strings (classes,)")
    return tuple(entry.decode() if isinstance(entry, bytes) else entry for entry in names.tolist())


def _cifar_classes(name: str, file: Path, count: int) -> tuple[str, ...]:
    if not file.is_file():
        return tuple(str(label) for label in range(count))
    with reading(name, file):
        names = tuple(file.read_text("utf-8-sig").split())
        if len(names) != count:
            raise DataError(f"names {len(names)} classes, must be {count}")
    return names
