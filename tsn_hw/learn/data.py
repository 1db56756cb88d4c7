"""Data sets from local files: uint8 images and labels that count from 0. Nothing is downloaded or unpickled.

    kind     what ``path`` names
    digits   nothing: the 1,797 digits of 8x8 pixels that scikit-learn brings along
    idx      a folder with the four MNIST-style IDX files, plain or .gz
    npz      a file with x_train, y_train, x_test, y_test and, if the classes have names, classes
    cifar    a folder with the binary version of CIFAR-10 or CIFAR-100
    folder   a folder with train/CLASS/ and test/CLASS/ full of images
    tiles    a folder with train/ and test/, one image a class: a sheet of square tiles, row after row

Every problem with a file is one DataError that names the data set, the file, the rule and the value.
"""

from __future__ import annotations

import ast
import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tsn_hw.errors import DataError, SettingsError
from tsn_hw.layers import Shape

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Part = tuple[Images, Labels]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_PIXELS = 2**26
"""Largest image file that is decoded."""
GREY_MODES = ("1", "L")
COLOUR_MODES = ("LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_NPY_HEADER = re.compile(r"\{'descr': '([^']+)', 'fortran_order': (True|False), 'shape': (\([\d, ]*\)), \}\s*")
_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images and labels of a training and a test part; read-only arrays, checked at birth.

    x_train, x_test: uint8 (images, channels, height, width)
    y_train, y_test: int64 (images,), label i means ``classes[i]``
    """

    name: str
    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DataError(f"data name {self.name!r}: must be 1..40 of letters, digits, '_', '.', '-'")
        for part, images, labels in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            where = f"data {self.name!r}, {part} part"
            if images.ndim != 4 or 0 in images.shape or images.dtype != np.uint8:
                raise DataError(f"{where}: images are {images.dtype} {images.shape}, must be uint8 (N, C, H, W)")
            if labels.shape != images.shape[:1] or labels.dtype != np.int64:
                raise DataError(f"{where}: {len(images)} images, labels are {labels.dtype} {labels.shape}")
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise DataError(f"{where}: labels {labels.min()}..{labels.max()}, there are {len(self.classes)} classes")
            for array in (images, labels):
                array.setflags(write=False)
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DataError(
                f"data {self.name!r}: training images are {self.x_train.shape[1:]}, test images {self.x_test.shape[1:]}"
            )
        if len(set(self.classes)) < len(self.classes):
            raise DataError(f"data {self.name!r}: class names repeat: {', '.join(self.classes)}")

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""
        return self.x_train.shape[1:]


def load_data(
    kind: str, path: Path | None = None, *, name: str | None = None, side: int | None = None, limit: int | None = None
) -> DataSet:
    """The data set of a settings file: ``kind`` and ``path`` as in the module's docstring.

    ``name`` is the kind unless given. ``side``, in pixels: of the tiles, or what images of a folder are resized to.
    ``limit`` keeps that many images of every class in each part, evenly spaced.

    Raises SettingsError for settings that make no sense, DataError for files that do not.

    >>> load_data("digits", limit=3).x_train.shape
    (30, 1, 8, 8)
    """
    for setting, value in (("side", side), ("limit", limit)):
        if value is not None and value < 1:
            raise SettingsError(f"data {name or kind!r}: {setting} is {value}, must be at least 1")
    if side is not None and kind not in ("folder", "tiles"):
        raise SettingsError(f"data {name or kind!r}: side belongs to the kinds folder and tiles, not to {kind}")
    data = _read(kind, path, name or kind, side)
    return data if limit is None else limited(data, limit)


def _read(kind: str, path: Path | None, name: str, side: int | None) -> DataSet:
    if kind == "digits":
        if path is not None:
            raise SettingsError(f"data {name!r}: the bundled digits take no path")
        return digits(name)
    readers: dict[str, Callable[[Path], DataSet]] = {
        "idx": lambda folder: read_idx(name, folder),
        "npz": lambda file: read_npz(name, file),
        "cifar": lambda folder: read_cifar(name, folder),
        "folder": lambda folder: read_folder(name, folder, side),
        "tiles": lambda folder: read_tiles(name, folder, side),
    }
    if kind not in readers:
        raise SettingsError(f"data {name!r}: kind {kind!r} is unknown, must be one of digits, {', '.join(readers)}")
    if path is None:
        raise SettingsError(f"data {name!r}: kind {kind} needs a path")
    return readers[kind](path)


def limited(data: DataSet, per_class: int) -> DataSet:
    """At most ``per_class`` images of every class in each part: images i*n//per_class of its n, in their order."""

    def kept(labels: Labels) -> NDArray[np.intp]:
        members = (np.flatnonzero(labels == label) for label in range(len(data.classes)))
        return np.sort(np.concatenate([m[np.arange(k) * len(m) // max(k, 1)] for m in members for k in [min(per_class, len(m))]]))

    train, test = kept(data.y_train), kept(data.y_test)
    return replace(
        data,
        x_train=data.x_train[train],
        y_train=data.y_train[train],
        x_test=data.x_test[test],
        y_test=data.y_test[test],
    )


def digits(name: str = "digits") -> DataSet:
    """Scikit-learn's digits, (1, 8, 8): value v of 0..16 becomes v * 255 // 16; every fifth image of a class is test."""
    from sklearn.datasets import load_digits  # takes a second to import, and only this needs it

    values, labels = load_digits(return_X_y=True)
    images = (values.astype(np.int64) * 255 // 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.int64)
    test = np.zeros(len(labels), np.bool_)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    classes = tuple("0123456789")
    return DataSet(name, images[~test], labels[~test], images[test], labels[test], classes)


def read_idx(name: str, folder: Path) -> DataSet:
    """The four IDX files of MNIST and its relatives, plain or .gz: (1, height, width)."""
    files = []
    for file_name in IDX_FILES:
        plain, packed = folder / file_name, folder / f"{file_name}.gz"
        if not plain.is_file() and not packed.is_file():
            raise DataError(
                f"data {name!r}: {plain}(.gz) is missing; put the four MNIST IDX files ({', '.join(IDX_FILES)}, "
                "plain or .gz) there"
            )
        files.append(plain if plain.is_file() else packed)
    x_train, y_train, x_test, y_test = (
        _idx_array(name, file, dims) for file, dims in zip(files, (3, 1, 3, 1), strict=True)
    )
    return _with_numbered_classes(name, x_train[:, None], y_train, x_test[:, None], y_test)


def _idx_array(name: str, file: Path, dims: int) -> NDArray[np.uint8]:
    where = f"data {name!r}: {file}"
    with _reading(where), gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        header = _read_exactly(where, stream, 4 + 4 * dims)
        if header[:4] != bytes([0, 0, 8, dims]):
            raise DataError(f"{where}: begins with {header[:4].hex()}, an IDX file of {dims} axes with 0000080{dims}")
        shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
        return np.frombuffer(_read_exactly(where, stream, prod(shape), last=True), np.uint8).reshape(shape)


def read_npz(name: str, file: Path) -> DataSet:
    """An .npz file: uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, integer labels (N,).

    ``classes`` names the labels 0, 1, ...; without it the labels must be consecutive numbers.
    """
    if not file.is_file():
        raise DataError(
            f"data {name!r}: {file} is missing; put an .npz file with x_train, y_train, x_test, y_test "
            "(and classes, if they have names) there"
        )
    where = f"data {name!r}: {file}"
    with _reading(where), zipfile.ZipFile(file) as archive:
        x_train, x_test = (_channels_first(where, key, _npz_array(where, archive, key)) for key in ("x_train", "x_test"))
        y_train, y_test = (_npz_array(where, archive, key) for key in ("y_train", "y_test"))
        for key, labels in (("y_train", y_train), ("y_test", y_test)):
            if labels.dtype.kind not in "ui" or labels.ndim != 1:
                raise DataError(f"{where}: {key} is {labels.dtype} {labels.shape}, must be integers (N,)")
        if "classes.npy" not in archive.namelist():
            return _with_numbered_classes(name, x_train, y_train, x_test, y_test)
        classes = _npz_array(where, archive, "classes")
    if classes.dtype.kind not in "SU" or classes.ndim != 1:
        raise DataError(f"{where}: classes is {classes.dtype} {classes.shape}, must be strings (classes,)")
    with _reading(where):
        names = tuple(entry.decode() if isinstance(entry, bytes) else entry for entry in classes.tolist())
    return DataSet(name, x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64), names)


def _npz_array(where: str, archive: zipfile.ZipFile, key: str) -> NDArray[np.generic]:
    """One array of an .npz file; its size is known to be true before memory is taken for it."""
    if f"{key}.npy" not in archive.namelist():
        raise DataError(f"{where}: holds {', '.join(archive.namelist())}, but no {key}")
    with archive.open(f"{key}.npy") as stream:
        magic = _read_exactly(where, stream, 8)
        if magic[:6] != b"\x93NUMPY" or magic[6] not in (1, 2):
            raise DataError(f"{where}: {key} begins with {magic.hex()}, not with the header of a .npy file")
        length = int.from_bytes(_read_exactly(where, stream, 2 if magic[6] == 1 else 4), "little")
        header = _NPY_HEADER.fullmatch(_read_exactly(where, stream, length).decode("latin-1"))
        if header is None:
            raise DataError(f"{where}: {key} has a header that describes no plain array")
        dtype, shape = np.dtype(header[1]), ast.literal_eval(header[3])
        if dtype.kind not in "uiSU":
            raise DataError(f"{where}: {key} is of type {dtype}, must be integers or strings")
        data = _read_exactly(where, stream, prod(shape) * dtype.itemsize, last=True)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if header[2] == "True" else "C")


def _channels_first(where: str, key: str, images: NDArray[np.generic]) -> Images:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(f"{where}: {key} is {images.dtype} {images.shape}, must be uint8 (N, H, W) or (N, H, W, C)")
    pixels = images.astype(np.uint8, copy=False)
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.shape[3] in (1, 3):
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    if pixels.shape[1] in (1, 3):
        return pixels
    raise DataError(f"{where}: {key} is {pixels.shape}, neither (N, H, W, C) nor (N, C, H, W) with 1 or 3 channels")


def read_cifar(name: str, folder: Path) -> DataSet:
    """The binary version of CIFAR-10 (data_batch_*.bin) or CIFAR-100 (train.bin, fine labels): (3, 32, 32)."""
    if (folder / "train.bin").is_file():
        train, test, names, label_bytes, count = ["train.bin"], "test.bin", "fine_label_names.txt", 2, 100
    else:
        train, test = [f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin"
        names, label_bytes, count = "batches.meta.txt", 1, 10
    for file in (*train, test):
        if not (folder / file).is_file():
            python = [f for f in ("batches.meta", "data_batch_1", "meta", "train") if (folder / f).is_file()]
            found = f" ({python[0]} is the Python version, which is never unpickled)" if python else ""
            raise DataError(
                f"data {name!r}: {folder / file} is missing{found}; put the files of the CIFAR-10 or CIFAR-100 "
                "binary version there"
            )
    parts = [_cifar_records(f"data {name!r}: {folder / file}", folder / file, label_bytes) for file in (*train, test)]
    x_train, y_train = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return DataSet(name, x_train, y_train, *parts[-1], _cifar_classes(name, folder / names, count))


def _cifar_records(where: str, file: Path, label_bytes: int) -> Part:
    record = label_bytes + 3072
    with _reading(where):
        data = np.fromfile(file, np.uint8)
    if len(data) == 0 or len(data) % record:
        raise DataError(f"{where}: {len(data)} bytes are no whole number of records of {record} bytes")
    records = data.reshape(-1, record)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].astype(np.int64)


def _cifar_classes(name: str, file: Path, count: int) -> tuple[str, ...]:
    if not file.is_file():
        return tuple(str(label) for label in range(count))
    with _reading(f"data {name!r}: {file}"):
        names = tuple(file.read_text("utf-8").split())
    if len(names) != count:
        raise DataError(f"data {name!r}: {file}: names {len(names)} classes, must be {count}")
    return names


def read_folder(name: str, folder: Path, side: int | None = None) -> DataSet:
    """Images in train/CLASS/ and test/CLASS/, in the order of their names; grey only if every image is grey.

    With ``side``, all are resized to side x side (bilinear, aspect ratio not kept); without, all must be of one size.
    """
    classes = _class_entries(name, folder, Path.is_dir, "train/CLASS/ and test/CLASS/ with images")
    pixels: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    for part, label, entry in classes:
        files = _images_in(entry)
        if not files:
            raise DataError(f"data {name!r}: {entry} holds no image ({', '.join(IMAGE_SUFFIXES)})")
        for file in files:
            image = _decoded(name, file)
            image = image if side is None else resized(image, side)
            first = (pixels["train"] or [np.asarray(image)])[0]
            if (image.height, image.width) != first.shape[:2]:
                raise DataError(
                    f"data {name!r}: {file} is {image.width}x{image.height}, others are {first.shape[1]}x"
                    f"{first.shape[0]}; give side to resize all"
                )
            pixels[part].append(np.asarray(image))
            labels[part].append(label)
    return _stacked(name, pixels, labels, [entry.name for part, _, entry in classes if part == "train"])
