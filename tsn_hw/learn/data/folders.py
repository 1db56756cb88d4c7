"""Data sets that are folders of image files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tsn_hw.core.errors import DataError, warn
from tsn_hw.learn.data.dataset import DataSet
from tsn_hw.learn.data.files import (
    IMAGE_SUFFIXES,
    Images,
    Labels,
    decoded,
    is_image,
    missing,
    reading,
    resized,
    visible,
)

Files = list[tuple[Path, Images]]
"""Images (height, width) or (height, width, 3), and the files that they are from."""


def read_folder(name: str, folder: Path, side: int | None = None) -> DataSet:
    """Images in train/CLASS/ and test/CLASS/; classes and images in the order of their names.

    Names that begin with "." are other programs' and passed over; what else is no image is left out and told.

    With ``side``, all are resized to side x side (bilinear, aspect ratio not kept); without, all must be of one size.
    The data set is grey, (1, height, width), if every image is, otherwise (3, height, width).
    """
    left_out: list[Path] = []

    def read_class(entry: Path) -> tuple[str, Files] | None:
        if not entry.is_dir():
            left_out.append(entry)
            return None
        found: Files = []
        for file in visible(entry):
            if is_image(file):
                with reading(name, file):
                    image = decoded(file)
                found.append((file, np.asarray(image if side is None else resized(image, side, side))))
            else:
                left_out.append(file)
        return entry.name, found

    data = _read_classes(name, folder, "train/CLASS/ and test/CLASS/ with images", read_class)
    if left_out:
        places = ", ".join(str(file.relative_to(folder)) for file in left_out[:3])
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        warn(f"data {name!r}: left out, no images of a class: {places}{more}")
    return data


def read_tiles(name: str, folder: Path, side: int) -> DataSet:
    """One sheet of side x side tiles a class in train/ and test/; classes in the order of the file names.

    The class of "07_bear.webp" is "bear": the name without leading digits and underscore.
    """

    def read_class(file: Path) -> tuple[str, Files] | None:
        if not is_image(file):
            return None
        with reading(name, file):
            sheet = np.asarray(decoded(file))
            height, width, *channels = sheet.shape
            if height % side or width % side:
                raise DataError(f"{width}x{height} pixels are no sheet of {side}x{side} tiles")
        rows = sheet.reshape(height // side, side, width // side, side, *channels).swapaxes(1, 2)
        tiles = rows.reshape(-1, side, side, *channels)
        return re.sub(r"^\d+_", "", file.stem), [(file, tile) for tile in tiles]

    return _read_classes(name, folder, "train/ and test/ with one sheet of tiles a class", read_class)


def read_tinyimagenet(name: str, folder: Path) -> DataSet:
    """Tiny ImageNet: train/CLASS/images/, and val/images/ with the classes of val/val_annotations.txt; (3, 64, 64).

    The published test part has no labels, so the validation part is the test part here, as in the literature.
    """
    annotations = folder / "val" / "val_annotations.txt"
    for path in (folder / "train", annotations):
        if not path.exists():
            raise missing(name, path, f"Tiny ImageNet (train/, val/) into {folder}")
    classes = [entry.name for entry in visible(folder / "train") if entry.is_dir()]
    with reading(name, annotations):
        lines = [line.split("\t")[:2] for line in annotations.read_text("utf-8-sig").splitlines()]
        if unknown := [line for line in lines if len(line) < 2 or line[1] not in classes or "/" in line[0]]:
            raise DataError(f"line {unknown[0]} names no file of one of the {len(classes)} classes of train/")
    train = [(file, label) for label in classes for file in visible(folder / "train" / label / "images")]
    test = [(folder / "val" / "images" / file, label) for file, label in lines]

    def part(files: list[tuple[Path, str]]) -> tuple[Images, Labels]:
        images = np.zeros((len(files), 3, 64, 64), np.uint8)
        for image, (file, _) in zip(images, files, strict=True):
            with reading(name, file):
                image[:] = np.asarray(resized(decoded(file).convert("RGB"), 64, 64)).transpose(2, 0, 1)
        return images, np.array([classes.index(label) for _, label in files], np.int64)

    return DataSet(name, *part(train), *part(test), tuple(classes))


def _read_classes(
    name: str, folder: Path, layout: str, read_class: Callable[[Path], tuple[str, Files] | None]
) -> DataSet:
    """Read train/ and test/ (or val/); ``read_class`` gives class and images of an entry, or None if it is none."""
    test = folder / "val" if not (folder / "test").exists() and (folder / "val").is_dir() else folder / "test"
    images: dict[Path, list[Images]] = {folder / "train": [], test: []}
    labels: dict[Path, list[int]] = {place: [] for place in images}
    classes: dict[Path, list[str]] = {place: [] for place in images}
    for place in images:
        if not place.is_dir():
            raise missing(name, place, f"{layout} into {folder}")
        for entry in visible(place):
            if (read := read_class(entry)) is None:
                continue
            class_name, found = read
            if not found:
                raise DataError(f"data {name!r}: {entry} holds no image ({' '.join(IMAGE_SUFFIXES)})")
            for file, image in found:
                _check_size(name, file, image, (images[folder / "train"] or [image])[0])
                images[place].append(image)
            labels[place] += [len(classes[place])] * len(found)
            classes[place].append(class_name)
    _check_classes(name, folder, *classes.values())
    colour = any(image.ndim == 3 for part in images.values() for image in part)
    (x_train, y_train), (x_test, y_test) = (
        (_stacked(images[place], colour), np.array(labels[place], np.int64)) for place in images
    )
    return DataSet(name, x_train, y_train, x_test, y_test, tuple(classes[test]))


def _check_size(name: str, file: Path, image: Images, first: Images) -> None:
    (height, width), (rows, columns) = image.shape[:2], first.shape[:2]
    if (height, width) != (rows, columns):
        raise DataError(
            f"data {name!r}: {file}: {width}x{height} pixels, the first image {columns}x{rows}; give side to resize all"
        )


def _check_classes(name: str, folder: Path, train: list[str], test: list[str]) -> None:
    if not train or train != test:
        counts = f"{len(train)} in train and {len(test)} in test"
        only = ", ".join(sorted(set(train) ^ set(test)))
        raise DataError(f"data {name!r}: {folder}: {counts} classes, must be the same; in one only: {only or 'none'}")


def _stacked(images: list[Images], colour: bool) -> Images:
    """(images, 1, height, width), or with 3 channels, of which grey images get three equal ones."""
    if not colour:
        return np.stack(images)[:, None]
    return np.stack([image.transpose(2, 0, 1) if image.ndim == 3 else np.stack([image] * 3) for image in images])
