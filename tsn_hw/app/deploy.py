"""Commands around exported graphs: write them, check them, run them. None but the first needs the network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from export import check_folder, write_onnx, write_onnx_shared, write_qonnx
from export.onnx_check import GraphFile, open_graph
from export.onnx_plan import Form, Forms
from export.qonnx import Flavour
from tsn_hw import artifact
from tsn_hw.app.tables import table
from tsn_hw.arithmetic import Ints, quantize
from tsn_hw.errors import DataError, SettingsError, brief

Told = tuple[str, Any]


def write_graphs(path: Path, folder: Path, shared: bool, fold: bool, forms: Forms) -> Told:
    """Write one ONNX graph a task, by itself or around a shared bank file."""
    net = artifact.load(path)
    if shared:
        written = write_onnx_shared(net, folder, fold=fold, form=forms)
    else:
        written = write_onnx(net, folder, fold=fold, form=forms)
    return _sizes(written)


def write_qonnx_graphs(path: Path, folder: Path, flavour: Flavour) -> Told:
    """Write one QONNX file a task, for other tool chains."""
    return _sizes(write_qonnx(artifact.load(path), folder, flavour))


def _sizes(files: Sequence[Path]) -> Told:
    sizes = {str(file): file.stat().st_size for file in files}
    return table(["file", "bytes"], [[file, size] for file, size in sizes.items()]), sizes


def read_forms(texts: Sequence[str]) -> Forms:
    """Forced forms from ``FORM``, which stands alone, or any number of ``LAYER=FORM``.

    >>> read_forms(["fc1=integer", "fc2=float32"])
    {'fc1': 'integer', 'fc2': 'float32'}
    """
    forms: dict[str, Form] = {}
    for text in texts:
        name, _, form = text.rpartition("=")
        if form not in get_args(Form):
            raise SettingsError(f"--form {text}: {form!r} must be one of {', '.join(get_args(Form))}")
        if not name and len(texts) > 1:
            raise SettingsError(f"--form {text}: stands for all layers, others cannot be given beside it")
        forms[name] = form  # type: ignore[assignment]
    return forms.get("", forms) or None


def check_graphs(folder: Path) -> Told:
    """Check every graph of a folder against its digests, and its logits on onnxruntime."""
    graphs = check_folder(folder)
    rows = [[graph.path.name, graph.task, len(graph.classes), len(graph.words)] for graph in graphs]
    text = f"{table(['file', 'task', 'classes', 'layers in the bank file'], rows)}\n\nall {len(graphs)} files are right"
    return text, {"files": {graph.path.name: graph.task for graph in graphs}, "passed": True}


def run_on_files(path: Path, inputs: Sequence[Path]) -> Told:
    """Classes of images or arrays, from an exported file alone."""
    graph = open_graph(path)
    predictions: list[dict[str, Any]] = []
    for source in inputs:
        logits = graph.run(read_input(graph, source))
        numbered = len(logits) > 1
        for number, row in enumerate(logits):
            name = f"{source}[{number}]" if numbered else str(source)
            winner = graph.classes[int(row.argmax())]
            predictions.append({"input": name, "class": winner, "logits": row.tolist()})
    text = "\n".join(f"{entry['input']}: {entry['class']}" for entry in predictions)
    data = {"task": graph.task, "classes": graph.classes, "logit_exponent": graph.logit_exponent}
    return text, data | {"predictions": predictions}


def read_input(graph: GraphFile, source: Path) -> Ints:
    """Integers of the input format, (inputs, *shape), from an image or an .npy file.

    Images and uint8 arrays hold pixels of 0..255 for the real values 0..255/256; other integers are taken as they are.
    Raises DataError where the file does not fit the graph.
    """
    is_array = source.suffix == ".npy"
    values = _read_array(source) if is_array else _read_image(graph, source)
    shape, form = graph.input_shape, graph.input_format
    if values.shape == shape:
        values = values[None]
    if values.shape[1:] != shape or not len(values):
        raise DataError(f"{source}: has shape {values.shape}, the graph takes {shape} or a batch of them")
    if values.dtype == np.uint8:
        return quantize(values / 256.0, form)
    low, high = form.range
    if values.min() < low or values.max() > high:
        raise DataError(f"{source}: holds {values.min()}..{values.max()}, the graph takes integers {low}..{high}")
    return values.astype(np.int64)


def _read_array(source: Path) -> NDArray[Any]:
    try:
        array = np.load(source, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {source} as an .npy file: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        raise DataError(f"{source}: must hold one array of integers")
    return array


def _read_image(graph: GraphFile, source: Path) -> NDArray[np.uint8]:
    """Pixels in the shape of the input; grey or colour as the graph takes them, never resized.

    The size is looked at before anything is decoded: a small file may claim any.
    """
    from PIL import Image

    refusals = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            image = Image.open(source)
        with image:
            channels = _channels(graph, image.size, source)
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{source}: has pixels of mode {image.mode!r}, must have 8 bits a channel")
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    except DataError:
        raise
    except refusals as error:
        raise DataError(f"cannot read {source} as an image: {brief(str(error))}") from error
    return pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1).reshape(graph.input_shape)


def _channels(graph: GraphFile, size: tuple[int, int], source: Path) -> int:
    """How many channels an image of a width and height must have for a graph."""
    shape, (width, height) = graph.input_shape, size
    channels = shape[0] if len(shape) == 3 else max(1, shape[0] // (width * height))
    fits = (channels, height, width) == shape if len(shape) == 3 else channels * width * height == shape[0]
    if channels not in (1, 3) or not fits:
        wanted = f"{shape[1]} x {shape[2]}" if len(shape) == 3 else f"{math.prod(shape)} values"
        raise DataError(f"{source}: has {height} x {width} pixels (height x width), the graph takes {wanted}")
    return channels
