"""Data sets from local files: uint8 images and labels that count from 0. Nothing is downloaded or unpickled.

    kind     what ``path`` names
    digits   nothing: the 1,797 digits of 8x8 pixels that scikit-learn brings along
    idx      a folder with the four MNIST-style IDX files, plain or .gz
    npz      a file with x_train, y_train, x_test, y_test and, if the classes have names, classes
    cifar    a folder with the binary version of CIFAR-10 or CIFAR-100
    svhn     a folder with the cropped digits of SVHN, train_32x32.mat and test_32x32.mat
    folder   a folder with train/CLASS/ and test/CLASS/ (or val/CLASS/) full of images
    tinyimagenet  the folder of Tiny ImageNet as it is published; the test part is its validation part
    tiles    a folder with train/ and test/, one image a class: a sheet of square tiles, row after row

Every problem with a file is one DataError that names the data set, the file, the rule and the value.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.errors import DataError, SettingsError, warn
from tsn_hw.core.layers import Shape
from tsn_hw.learn.data.files import (
    IMAGE_SUFFIXES,
    Images,
    Labels,
    cifar_records,
    decoded,
    idx_array,
    is_image,
    mat_arrays,
    npz_array,
    reading,
    resized,
    svhn_part,
    visible,
)

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
PARTS = ("train", "test")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images and labels of a training and a test part; read-only arrays, checked at birth.

    x_train, x_test: uint8 (images, channels, height, width)
    y_train, y_test: int64 (images,); label i means ``classes[i]``
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
            _check_part(f"data {self.name!r}, {part} part", images, labels, len(self.classes))
            object.__setattr__(self, f"x_{part}", _read_only(images))
            object.__setattr__(self, f"y_{part}", _read_only(labels))
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
    name = name or kind
    for setting, value in (("side", side), ("limit", limit)):
        if value is not None and value < 1:
            raise SettingsError(f"data {name!r}: {setting} is {value}, must be at least 1")
    if side is not None and kind not in ("folder", "tiles"):
        raise SettingsError(f"data {name!r}: side belongs to the kinds folder and tiles, not to {kind!r}")
    data = _read(kind, path, name, side)
    return data if limit is None else limited(data, limit)


def limited(data: DataSet, per_class: int) -> DataSet:
    """At most ``per_class`` images of every class in each part: images i*n//per_class of its n, in their order."""

    def kept(labels: Labels) -> NDArray[np.intp]:
        chosen = []
        for label in range(len(data.classes)):
            members = np.flatnonzero(labels == label)
            count = min(per_class, len(members))
            chosen.append(members[np.arange(count) * len(members) // max(count, 1)])
        return np.sort(np.concatenate(chosen))

    train, test = kept(data.y_train), kept(data.y_test)
    return DataSet(
        data.name, data.x_train[train], data.y_train[train], data.x_test[test], data.y_test[test], data.classes
    )


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
            raise DataError(
                f"data {name!r}: {plain}(.gz) is missing; put the four MNIST IDX files ({files}; plain or .gz) there"
            )
        file = plain if plain.is_file() else packed
        with reading(name, file):
            arrays.append(idx_array(file, axes))
    x_train, y_train, x_test, y_test = arrays
    return _with_numbered_classes(name, x_train[:, None], y_train, x_test[:, None], y_test)


def read_npz(name: str, file: Path) -> DataSet:
    """An .npz file: uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, integer labels (N,).

    ``classes``, strings, names the labels 0, 1, ...; without it the labels must be consecutive numbers.
    """
    if not file.is_file():
        raise DataError(
            f"data {name!r}: {file} is missing; put an .npz file with x_train, y_train, x_test, y_test "
            "(and classes, if they have names) there"
        )
    with reading(name, file), zipfile.ZipFile(file) as archive:
        x_train, x_test = (_npz_images(key, npz_array(archive, key)) for key in ("x_train", "x_test"))
        y_train, y_test = (_npz_labels(key, npz_array(archive, key)) for key in ("y_train", "y_test"))
        classes = _npz_classes(npz_array(archive, "classes")) if "classes.npy" in archive.namelist() else None
    if classes is None:
        return _with_numbered_classes(name, x_train, y_train, x_test, y_test)
    return DataSet(name, x_train, y_train, x_test, y_test, classes)


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
            raise DataError(
                f"data {name!r}: {file} is missing{found}; put the files of the binary version of CIFAR-10 "
                "or CIFAR-100 there"
            )
        with reading(name, file):
            parts.append(cifar_records(file, label_bytes))
    x_train, y_train = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return DataSet(name, x_train, y_train, *parts[-1], _cifar_classes(name, folder / names, count))


def read_svhn(name: str, folder: Path) -> DataSet:
    """The cropped digits of SVHN, MATLAB files: (3, 32, 32). Their label 10 is the digit 0, and becomes label 0."""
    parts: list[tuple[Images, Labels]] = []
    for file in (folder / f"{part}_32x32.mat" for part in PARTS):
        if not file.is_file():
            raise DataError(
                f"data {name!r}: {file} is missing; put train_32x32.mat and test_32x32.mat (SVHN, cropped digits) there"
            )
        with reading(name, file):
            parts.append(svhn_part(mat_arrays(file)))
    return DataSet(name, *parts[0], *parts[1], tuple("0123456789"))


def read_folder(name: str, folder: Path, side: int | None = None) -> DataSet:
    """Images in train/CLASS/ and test/CLASS/; classes and images in the order of their names.

    Names that begin with "." are other programs' and passed over; what else is no image is left out and told.

    With ``side``, all are resized to side x side (bilinear, aspect ratio not kept); without, all must be of one size.
    The data set is grey, (1, height, width), if every image is, otherwise (3, height, width).
    """

    left_out: list[Path] = []

    def images_of(entry: Path) -> Iterator[tuple[Path, Images]]:
        for file in visible(entry):
            if not is_image(file):
                left_out.append(file)
            else:
                with reading(name, file):
                    image = decoded(file)
                yield file, np.asarray(image if side is None else resized(image, side, side))

    def class_of(entry: Path) -> str | None:
        if not entry.is_dir():
            left_out.append(entry)
        return entry.name if entry.is_dir() else None

    data = _read_classes(name, folder, "train/CLASS/ and test/CLASS/ with images", class_of, images_of)
    if left_out:
        places = ", ".join(str(file.relative_to(folder)) for file in left_out[:3])
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        warn(f"data {name!r}: left out, no images of a class: {places}{more}")
    return data


def read_tinyimagenet(name: str, folder: Path) -> DataSet:
    """Tiny ImageNet: train/CLASS/images/, and val/images/ with the classes of val/val_annotations.txt; (3, 64, 64).

    The published test part has no labels, so the validation part is the test part here, as in the literature.
    """
    annotations = folder / "val" / "val_annotations.txt"
    for path in (folder / "train", annotations):
        if not path.exists():
            raise DataError(f"data {name!r}: {path} is missing; put Tiny ImageNet (train/, val/) into {folder}")
    classes = [entry.name for entry in visible(folder / "train") if entry.is_dir()]
    with reading(name, annotations):
        lines = [line.split("\t")[:2] for line in annotations.read_text("utf-8-sig").splitlines()]
        if unknown := [line for line in lines if len(line) < 2 or line[1] not in classes or "/" in line[0]]:
            raise DataError(f"line {unknown[0]} names no file of one of the {len(classes)} classes of train/")
    train = [(file, label) for label in classes for file in visible(folder / "train" / label / "images")]
    test = [(folder / "val" / "images" / file, label) for file, label in lines]

    def images(files: list[tuple[Path, str]]) -> Images:
        found = [np.zeros((0, 3, 64, 64), np.uint8)]
        for file, _ in files:
            with reading(name, file):
                found.append(np.asarray(resized(decoded(file).convert("RGB"), 64, 64)).transpose(2, 0, 1)[None])
        return np.concatenate(found)

    def numbers(files: list[tuple[Path, str]]) -> Labels:
        return np.array([classes.index(label) for _, label in files], np.int64)

    return DataSet(name, images(train), numbers(train), images(test), numbers(test), tuple(classes))


def read_tiles(name: str, folder: Path, side: int) -> DataSet:
    """One sheet of side x side tiles a class in train/ and test/; classes in the order of the file names.

    The class of "07_bear.webp" is "bear": the name without leading digits and underscore.
    """

    def images_of(file: Path) -> Iterator[tuple[Path, Images]]:
        with reading(name, file):
            sheet = np.asarray(decoded(file))
            height, width = sheet.shape[:2]
            if height % side or width % side:
                raise DataError(f"{width}x{height} pixels are no sheet of {side}x{side} tiles")
        for row in range(0, height, side):
            for column in range(0, width, side):
                yield file, sheet[row : row + side, column : column + side]

    def class_of(file: Path) -> str | None:
        return re.sub(r"^\d+_", "", file.stem) if is_image(file) else None

    return _read_classes(name, folder, "train/ and test/ with one sheet of tiles a class", class_of, images_of)


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
    }
    if kind not in ("folder", "tiles", *readers):
        kinds = ", ".join(("digits", *readers, "folder", "tiles"))
        raise SettingsError(f"data {name!r}: kind {kind!r} is unknown, must be one of {kinds}")
    if path is None:
        raise SettingsError(f"data {name!r}: kind {kind} needs a path")
    if kind == "folder":
        return read_folder(name, path, side)
    if kind == "tiles":
        if side is None:
            raise SettingsError(f"data {name!r}: kind tiles needs side, the side of one tile in pixels")
        return read_tiles(name, path, side)
    return readers[kind](name, path)


def _read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    view = array.view()
    view.setflags(write=False)
    return view


def _check_part(where: str, images: Images, labels: Labels, classes: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise DataError(
            f"{where}: images are {images.dtype} {images.shape}, must be uint8 (N, C, H, W), none of them 0"
        )
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise DataError(f"{where}: labels are {labels.dtype} {labels.shape}, must be int64 ({len(images)},)")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{where}: labels {labels.min()}..{labels.max()}, must be 0..{classes - 1}")


def _with_numbered_classes(
    name: str, x_train: Images, y_train: NDArray[np.integer[Any]], x_test: Images, y_test: NDArray[np.integer[Any]]
) -> DataSet:
    """A data set whose classes are consecutive numbers, often from 0 or 1; its labels then count from 0."""
    y_train, y_test = y_train.astype(np.int64), y_test.astype(np.int64)
    numbers = np.unique(y_train)
    if (np.diff(numbers) != 1).any():
        raise DataError(
            f"data {name!r}: training labels {numbers[0]}..{numbers[-1]} are only {len(numbers)} different ones, "
            "must be consecutive"
        )
    first = numbers[0] if len(numbers) else 0
    return DataSet(name, x_train, y_train - first, x_test, y_test - first, tuple(str(number) for number in numbers))


def _npz_images(key: str, images: NDArray[Any]) -> Images:
    if images.dtype == np.uint8:
        if images.ndim == 3:
            return images[:, None]
        if images.ndim == 4 and images.shape[3] in (1, 3):
            return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        if images.ndim == 4 and images.shape[1] in (1, 3):
            return images
    raise DataError(f"{key} is {images.dtype} {images.shape}, must be uint8 (N, H, W), (N, H, W, C) or (N, C, H, W)")


def _npz_labels(key: str, labels: NDArray[Any]) -> Labels:
    if labels.dtype.kind not in "ui" or labels.ndim != 1:
        raise DataError(f"{key} is {labels.dtype} {labels.shape}, must be integers (N,)")
    return labels.astype(np.int64)


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


def _read_classes(
    name: str,
    folder: Path,
    layout: str,
    class_of: Callable[[Path], str | None],
    images_of: Callable[[Path], Iterator[tuple[Path, Images]]],
) -> DataSet:
    """Read train/ and test/: ``class_of`` names the class of an entry (None: it is none), ``images_of`` reads it.

    Images are (height, width) or (height, width, 3).
    """
    images: dict[str, list[Images]] = {part: [] for part in PARTS}
    labels: dict[str, list[int]] = {part: [] for part in PARTS}
    classes: dict[str, list[str]] = {part: [] for part in PARTS}
    for part in PARTS:
        place = folder / part
        if part == "test" and not place.exists():
            place = folder / "val" if (folder / "val").is_dir() else place
        if not place.is_dir():
            raise DataError(f"data {name!r}: {place} is missing; put {layout} into {folder}")
        for entry in visible(place):
            class_name = class_of(entry)
            if class_name is None:
                continue
            found = list(images_of(entry))
            if not found:
                raise DataError(f"data {name!r}: {entry} holds no image ({' '.join(IMAGE_SUFFIXES)})")
            for file, image in found:
                (height, width), first = image.shape[:2], (images["train"] or [image])[0].shape[:2]
                if (height, width) != first:
                    raise DataError(
                        f"data {name!r}: {file}: {width}x{height} pixels, the first image {first[1]}x{first[0]}; "
                        "give side to resize all"
                    )
                images[part].append(image)
            labels[part] += [len(classes[part])] * len(found)
            classes[part].append(class_name)
    if not classes["train"] or classes["train"] != classes["test"]:
        counts = " and ".join(f"{len(classes[part])} in {part}" for part in PARTS)
        only = ", ".join(sorted(set(classes["train"]) ^ set(classes["test"])))
        raise DataError(f"data {name!r}: {folder}: {counts} classes, must be the same; in one only: {only or 'none'}")
    colour = any(image.ndim == 3 for part in PARTS for image in images[part])
    x_train, x_test = (_stacked(images[part], colour) for part in PARTS)
    y_train, y_test = (np.array(labels[part], np.int64) for part in PARTS)
    return DataSet(name, x_train, y_train, x_test, y_test, tuple(classes["train"]))


def _stacked(images: list[Images], colour: bool) -> Images:
    """(images, 1, height, width), or with 3 channels, of which grey images get three equal ones."""
    if not colour:
        return np.stack(images)[:, None]
    return np.stack([image.transpose(2, 0, 1) if image.ndim == 3 else np.stack([image] * 3) for image in images])
