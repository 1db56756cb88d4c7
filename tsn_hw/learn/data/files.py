"""Single data files read into arrays: IDX, .npz, CIFAR records, MATLAB files, images.

Files come from strangers: sizes are compared with what is there before memory is taken for them, and nothing is
unpickled. Functions say what is wrong with a file; :func:`reading` puts the data set and the file before it.
"""

from __future__ import annotations

import gzip
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from tsn_hw.core.errors import DataError, brief

Images = NDArray[np.uint8]
Inputs = NDArray[np.uint8 | np.float32]
"""What a network reads: pixels (a pixel stands for pixel / 256), or values that stand for themselves."""
Labels = NDArray[np.int64]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp")
MAX_PIXELS = 2**26
"""Largest image file that is decoded."""
_GREY = ("1", "L")
_COLOUR = ("LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
_NPY_HEADER = re.compile(r"\{'descr': '([^']+)', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), \}\s*")
_MAT_INTEGERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 12: "<i8", 13: "<u8"}
_MAT_MATRIX, _MAT_COMPRESSED = 14, 15
_MAT_NUMERIC = range(6, 16)
"""Classes of MATLAB arrays that hold plain numbers, from double to uint64."""
_CHUNK = 1 << 20
_TURNS: dict[Any, Image.Transpose] = dict(
    zip(range(2, 9), (Image.Transpose(turn) for turn in (0, 3, 1, 5, 4, 6, 2)), strict=True)
)
"""EXIF orientation -> what sets an image upright; 1 is upright."""
DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, SyntaxError, RuntimeError, OverflowError),
    *(struct.error, zlib.error, zipfile.BadZipFile, Image.DecompressionBombError),
)
"""What gzip, zipfile, numpy and Pillow raise for damaged files (Pillow raises SyntaxError for a broken PNG)."""


@contextmanager
def reading(name: str, file: Path) -> Iterator[None]:
    """Turn everything that goes wrong with a file into one line that names the data set and the file."""
    try:
        yield
    except DataError as error:
        raise DataError(f"data {name!r}: {file}: {error}") from None
    except DAMAGE as error:
        raise DataError(f"data {name!r}: {file}: cannot be read: {' '.join(str(error).split())}") from error


def missing(name: str, file: Path | str, put: str, found: str = "") -> DataError:
    """What is said where a file is not there: what to put where, and what was found instead."""
    return DataError(f"data {name!r}: {file} is missing{found}; put {put}")


def idx_array(file: Path, axes: int) -> Images:
    """The bytes of an IDX file, plain or .gz, with its number of axes.

    Format: 00 00 08 axes, one big-endian uint32 an axis, the bytes (Y. LeCun, C. Cortes, "The MNIST database").
    """
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        stream: IO[bytes] = opened  # type: ignore[assignment]  # GzipFile reads bytes, but is no IO[bytes]
        header = _read_exactly(stream, 4 + 4 * axes)
        if header[:4] != bytes([0, 0, 8, axes]):
            raise DataError(f"begins with {header[:4].hex()}, must begin with 0000080{axes} (bytes, {axes} axes)")
        shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
        return np.frombuffer(_read_all(stream, prod(shape)), np.uint8).reshape(shape)


def npz_array(archive: zipfile.ZipFile, key: str) -> NDArray[Any]:
    """One array of an .npz file, of numbers or strings."""
    if f"{key}.npy" not in archive.namelist():
        raise DataError(f"holds no {key}, only {', '.join(archive.namelist())}")
    with archive.open(f"{key}.npy") as stream:
        return _npy_array(stream, key, "uifSU", "numbers or strings")


def npy_numbers(file: Path) -> NDArray[Any]:
    """The integers or floats of an .npy file."""
    try:
        with file.open("rb") as stream:
            return _npy_array(stream, "it", "uif", "numbers")
    except (DataError, *DAMAGE) as error:
        raise DataError(f"cannot read {file} as an .npy file: {brief(str(error))}") from error


def _npy_array(stream: IO[bytes], what: str, kinds: str, wanted: str) -> NDArray[Any]:
    """An array of the .npy format, of numpy's kinds of types."""
    magic = _read_exactly(stream, 8)
    if magic[:6] != b"\x93NUMPY" or magic[6] not in (1, 2):
        raise DataError(f"{what} begins with {magic.hex()}, must begin with 934e554d505901 or 934e554d505902")
    length = int.from_bytes(_read_exactly(stream, 2 * magic[6]), "little")
    header = _NPY_HEADER.fullmatch(_read_exactly(stream, length).decode("latin-1"))
    if header is None:
        raise DataError(f"{what} has a header that describes no plain array")
    dtype = np.dtype(header[1])
    if dtype.kind not in kinds:
        raise DataError(f"{what} is of type {dtype}, must be {wanted}")
    shape = tuple(int(size) for size in header[3].split(",") if size.strip())
    data = _read_all(stream, prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if header[2] == "True" else "C")


def cifar_records(file: Path, label_bytes: int) -> tuple[Images, Labels]:
    """Images (records, 3, 32, 32) and the last label of each record of a CIFAR binary file."""
    data, record = np.fromfile(file, np.uint8), label_bytes + 3 * 32 * 32
    if len(data) == 0 or len(data) % record:
        raise DataError(f"{len(data)} bytes are no whole number of records of {record} bytes")
    records = data.reshape(-1, record)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].astype(np.int64)


def mat_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a MATLAB 5 file that are stored as integers, by name; whatever else it holds is passed over.

    Format: 128 bytes of header, then elements; a compressed element holds one other (The MathWorks, "MAT-File Format").
    SciPy's reader ends the whole process with a segmentation fault on some damaged files; this one refuses them.
    """
    data = file.read_bytes()
    if data[124:128] != b"\x00\x01IM":
        raise DataError("is no MATLAB 5 file (bytes 124 to 127 must be 0001494d)")
    arrays = {}
    for kind, body in _mat_elements(memoryview(data)[128:]):
        found = _inflated(body) if kind == _MAT_COMPRESSED else body
        if kind in (_MAT_MATRIX, _MAT_COMPRESSED) and (array := _mat_matrix(found)):
            arrays[array[0]] = array[1]
    return arrays


def _mat_elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of one element after the other.

    Two uint32, type and size, come first and the bytes are padded to a multiple of eight, unless compressed; where the
    upper half of the first uint32 is not 0, it is the size, and at most four bytes follow it.
    """
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        start, short = at + 8, kind >> 16
        if short:
            kind, size, start = kind & 0xFFFF, short, at + 4
        room = min(len(data) - start, 4 if short else size)
        if room < size:
            raise DataError(f"ends after {room} of {size} promised bytes")
        yield kind, data[start : start + size]
        at = at + 8 if short else start + size + (0 if kind == _MAT_COMPRESSED else -size % 8)


def _mat_matrix(data: memoryview) -> tuple[str, NDArray[Any]] | None:
    """Name and values of a matrix: flags, shape, name and values are its elements. None if it is not of integers."""
    elements = list(_mat_elements(data))
    kinds = [kind for kind, _ in elements]
    if len(kinds) != 4 or kinds[:3] != [6, 5, 1] or kinds[3] not in _MAT_INTEGERS or not elements[0][1]:
        return None  # five elements are a complex matrix
    flags, shape, name, values = (body for _, body in elements)
    if flags[0] not in _MAT_NUMERIC:
        return None
    sizes = tuple(int(size) for size in np.frombuffer(shape, "<u4"))
    return bytes(name).decode("latin-1"), np.frombuffer(values, _MAT_INTEGERS[kinds[3]]).reshape(sizes, order="F")


def _inflated(data: memoryview) -> memoryview:
    """What a compressed matrix holds; memory is taken only for what is there."""
    stream = zlib.decompressobj()
    kind, size = struct.unpack("<II", stream.decompress(data, 8))
    body = stream.decompress(stream.unconsumed_tail, size) if size else b""
    rest = stream.decompress(stream.unconsumed_tail, 1)  # meeting the end also makes zlib check its sum
    if kind != _MAT_MATRIX or rest or not stream.eof or len(body) < size:
        raise DataError(f"holds {len(body)} of {size} compressed bytes of an element of type {kind}, or more")
    return memoryview(body)


def svhn_part(arrays: dict[str, NDArray[Any]]) -> tuple[Images, Labels]:
    """Images and labels of one part of SVHN, whose label 10 is the digit 0."""
    images, labels = arrays.get("X", np.zeros(0)), arrays.get("y", np.zeros(0))
    if images.dtype != np.uint8 or images.shape[:3] != (32, 32, 3) or labels.shape != (*images.shape[3:], 1):
        raise DataError(
            f"X is {images.dtype} {images.shape} and y {labels.dtype} {labels.shape}, must be uint8 (32, 32, 3, N) "
            "and integers (N, 1)"
        )
    if not np.isin(labels, range(1, 11)).all():
        raise DataError(f"labels are {labels.min()}..{labels.max()}, must be 1..10")
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels[:, 0].astype(np.int64) % 10


def visible(folder: Path) -> list[Path]:
    """What a folder holds, by name, but for hidden files and folders."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def is_image(file: Path) -> bool:
    """Whether a file is an image by the end of its name."""
    return file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()


def decoded(file: Path) -> Image.Image:
    """An image file as mode L or RGB, upright as its EXIF orientation says; transparency is dropped."""
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):  # our limit is lower
        with Image.open(file) as image:
            image.verify()  # the checksums of a PNG, which decoding ignores; it leaves the image unusable
        image = Image.open(file)
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS}")
        if image.mode not in _GREY + _COLOUR:
            raise DataError(f"pixels of mode {image.mode}, must be one of {', '.join(_GREY + _COLOUR)}")
        if image.mode in _GREY:
            pixels = image.convert("L")
        else:
            pixels = (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    return pixels if turn is None else pixels.transpose(turn)


def resized(image: Image.Image, width: int, height: int) -> Image.Image:
    """The image at a size in pixels: bilinear, aspect ratio not kept, unchanged if it has that size."""
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    """The next ``count`` bytes; memory is taken only for what is there, whatever a header promises."""
    data = bytearray()
    while len(data) < count and (chunk := stream.read(min(_CHUNK, count - len(data)))):
        data += chunk
    if len(data) < count:
        raise DataError(f"ends after {len(data)} of {count} promised bytes")
    return bytes(data)


def _read_all(stream: IO[bytes], count: int) -> bytes:
    """The next ``count`` bytes, which must be the last; meeting the end also makes gzip and zip check their sums."""
    data = _read_exactly(stream, count)
    if stream.read(1):
        raise DataError(f"goes on after the {count} bytes that its header promises")
    return data
