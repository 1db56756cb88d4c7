"""Commands around exported graphs: write them, check them, run them. None but the first needs the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from export import check_folder, write_onnx, write_onnx_shared, write_qonnx
from export.onnx_graphs.check import GraphFile, open_graph
from export.onnx_graphs.metadata import MODES
from export.onnx_graphs.plan import Form, Forms
from export.qonnx_graphs.files import Flavour
from tsn_hw.app.output import CommandResult, Note, Table
from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import DataError, SettingsError, brief
from tsn_hw.core.layers import Shape
from tsn_hw.learn.data.files import DAMAGE, IMAGE_SUFFIXES, decoded, npy_numbers, resized
from tsn_hw.learn.data.inputs import given


def write_graphs(path: Path, folder: Path, shared: bool, fold: bool, forms: Forms) -> CommandResult:
    """Write one ONNX graph a task, by itself or around a shared bank file."""
    net = artifact.load(path)
    write = write_onnx_shared if shared else write_onnx
    return _sizes(write(net, folder, fold=fold, form=forms))


def write_qonnx_graphs(path: Path, folder: Path, flavour: Flavour) -> CommandResult:
    """Write one QONNX file a task, for other tool chains."""
    return _sizes(write_qonnx(artifact.load(path), folder, flavour))


def _sizes(files: Sequence[Path]) -> CommandResult:
    sizes = {str(file): file.stat().st_size for file in files}
    return CommandResult([Table.of_rows(["file", "bytes"], list(sizes.items()))], sizes)


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


def check_graphs(folder: Path) -> CommandResult:
    """Check every graph of a folder against its digests, and its logits on onnxruntime."""
    graphs = check_folder(folder)
    rows = [[graph.path.name, graph.task, len(graph.classes), len(graph.words)] for graph in graphs]
    table = Table.of_rows(["file", "task", "classes", "layers in the bank file"], rows)
    data = {"files": {graph.path.name: graph.task for graph in graphs}, "passed": True}
    return CommandResult([table, Note(f"all {len(graphs)} files are right")], data)


def run_on_files(path: Path, inputs: Sequence[Path], top: int = 1) -> CommandResult:
    """The ``top`` classes of images or arrays, or of all that lie in folders, from an exported file alone."""
    graph = open_graph(path)
    predictions: list[dict[str, Any]] = []
    lines: list[str] = []
    for source in _files(inputs):
        logits = graph.run(read_input(graph, source))
        for number, row in enumerate(logits):
            name = f"{source}[{number}]" if len(logits) > 1 else str(source)
            best = [graph.classes[i] for i in np.argsort(-row.astype(np.int64), kind="stable")[:top]]
            entry = {"input": name, "class": best[0], "logits": row.tolist()}
            predictions.append(entry if top == 1 else entry | {"top": best})
            lines.append(f"{name}: {', '.join(best)}")
    data = {"task": graph.task, "classes": graph.classes, "logit_exponent": graph.told.output.exponent}
    return CommandResult([Note("\n".join(lines))], data | {"predictions": predictions})


def _files(inputs: Sequence[Path]) -> Iterator[Path]:
    """Files, and the images and arrays in folders and below them, in the order of their names; hidden ones left out."""
    for source in inputs:
        if not source.is_dir():
            yield source
            continue
        below = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in (*IMAGE_SUFFIXES, ".npy")]
        found = [path for path in below if not any(part[0] == "." for part in path.relative_to(source).parts)]
        if not found:
            raise DataError(f"{source}: holds no image ({' '.join(IMAGE_SUFFIXES)}) and no .npy file")
        yield from found


def read_input(graph: GraphFile, source: Path) -> Ints:
    """Integers of the input format, (inputs, *shape), from an image or an .npy file.

    Images and uint8 arrays hold pixels of 0..255 for the real values 0..255/256; floats stand for themselves; other
    integers are taken as they are.
    Images are brought to the input's size as in training. Raises DataError where the file does not fit the graph.
    """
    shape, form = graph.input_shape, graph.told.input
    array = npy_numbers(source) if source.suffix == ".npy" else _read_image(graph, source)
    values = _as_inputs(array, shape)
    if values is None or not len(values):
        raise DataError(f"{source}: has shape {array.shape}, the graph takes {shape} or a batch of them")
    try:
        values = given(values, form)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    low, high = form.range
    if values.min() < low or values.max() > high:
        raise DataError(f"{source}: holds {values.min()}..{values.max()}, the graph takes integers {low}..{high}")
    return values.astype(np.int64)


def _as_inputs(array: NDArray[Any], shape: Shape) -> NDArray[Any] | None:
    """One input or several as (inputs, *shape), or None; the channels of images may stand last, and one be left out,
    as may the height of signals."""
    batches = (array[None], array)
    found = [batch for batch in batches if batch.shape[1:] == shape]
    if len(shape) == 3:
        channels, *size = shape
        found += [batch.transpose(0, 3, 1, 2) for batch in batches if batch.shape[1:] == (*size, channels)]
        found += [batch[:, None] for batch in batches if batch.shape[1:] == tuple(size) and channels == 1]
        found += [batch[:, :, None] for batch in batches if (*batch.shape[1:2], 1, *batch.shape[2:]) == shape]
    return found[0] if found else None


def _read_image(graph: GraphFile, source: Path) -> NDArray[np.uint8]:
    """Pixels in the shape of the input: read, turned, made grey or colour, and resized as in training.

    A flat input takes a picture of as many pixels, of whatever size.
    """
    try:
        picture = decoded(source)
    except (DataError, *DAMAGE) as error:
        raise DataError(f"cannot read {source} as an image: {brief(str(error))}") from error
    shape, told = graph.input_shape, graph.told.image
    if told is not None:
        height, width = told.size
        picture = resized(picture.convert(told.mode), width, height)
    elif len(shape) == 1 and shape[0] in (area := picture.width * picture.height, 3 * area):
        picture = picture.convert(MODES[shape[0] // area])
    else:
        raise DataError(f"{source}: has {picture.height} x {picture.width} pixels, the graph takes {shape} values")
    pixels = np.asarray(picture, dtype=np.uint8).reshape(picture.height, picture.width, -1)
    return pixels.transpose(2, 0, 1).reshape(shape)
