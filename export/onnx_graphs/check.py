"""Whether exported files are what they were when they were written: digests, pins, and the integers they give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from export.onnx_graphs.bank import BANK_FILE, words_digest
from export.onnx_graphs.functions import IR_VERSION, OPSET
from export.onnx_graphs.metadata import (
    FORMAT_VERSION,
    MODES,
    Metadata,
    golden_inputs,
    is_sealed,
    logits_digest,
    properties,
)
from export.onnx_graphs.nodes import element_type, onnx_type
from export.onnx_graphs.session import constants, parse, run_graph
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import ArtifactError, FileError, shown
from tsn_hw.core.files import StrPath, read_bytes
from tsn_hw.core.layers import Shape
from tsn_hw.core.records import build

MAX_ELEMENTS = 2**26
"""Of one input; what a file says is not believed beyond it."""


@dataclass(frozen=True)
class GraphFile:
    """A graph of ours, what its metadata tell, and the shape of one input."""

    path: Path
    model: onnx.ModelProto
    told: Metadata
    input_shape: Shape

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.told.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the logits."""
        return self.told.classes

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """Element type of the input."""
        return element_type(self.told.input)

    def run(self, x: Ints) -> NDArray[np.int32]:
        """Logits (inputs, classes) of integers (inputs, *shape), on onnxruntime."""
        (logits,) = run_graph(self.path, {"x": x.astype(self.input_dtype)}, ["logits"])
        if logits.dtype != np.int32 or logits.shape != (len(x), len(self.classes)):
            raise ArtifactError(f"{self.path}: gives {logits.dtype} {logits.shape}, not a logit a class")
        return logits

    @property
    def words(self) -> dict[str, str]:
        """Digests of the words in the bank file, by layer."""
        layers = self.told.layers
        return {name: digest for name, digest in zip(layers.name, layers.words, strict=False) if digest is not None}


def read_graph(path: StrPath) -> GraphFile:
    """Read one exported file and check that it is whole and of this version; its bank file is not read.

    Raises FileError where it cannot be read, ArtifactError where it is not what was written.
    """
    path, content = Path(path), read_bytes(path)
    model = parse(content, str(path))
    told = properties(model)
    if told.get("format") != FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: is no graph of tsn-hw of format {FORMAT_VERSION}, but {shown(told.get('format'))}"
        )
    if not is_sealed(content, str(told.get("sha256"))):
        raise ArtifactError(f"{path}: was altered: it is not the file whose digest it holds")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if (model.ir_version, versions.get("")) != (IR_VERSION, OPSET):
        raise ArtifactError(
            f"{path}: has IR {model.ir_version} and opset {versions.get('')}, must have {IR_VERSION} and {OPSET}"
        )
    metadata = build(Metadata, told, f"{path}: metadata", ArtifactError)
    return GraphFile(path, model, metadata, _input_shape(f"{path}: input", model, metadata))


def _input_shape(where: str, model: onnx.ModelProto, told: Metadata) -> Shape:
    """The shape of one input, which must be what the metadata tell of."""
    tensors = [entry.type.tensor_type for entry in model.graph.input if entry.name == "x"]
    shape = tuple(dim.dim_value for dim in tensors[0].shape.dim[1:]) if tensors else ()
    if len(shape) not in (1, 3) or min(shape) < 1 or math.prod(shape) > MAX_ELEMENTS:
        raise ArtifactError(f"{where}: has shape {shown(shape)}, must be (features,) or (channels, height, width)")
    if tensors[0].elem_type != onnx_type(str(element_type(told.input))):
        raise ArtifactError(f"{where}: has no {element_type(told.input)}, as its format says")
    if told.image is not None and (MODES.get(shape[0]), *shape[1:]) != (told.image.mode, *told.image.size):
        raise ArtifactError(f"{where}: has shape {shape}, its pictures {told.image.mode} {told.image.size}")
    return shape


def uses_bank(model: onnx.ModelProto) -> bool:
    """Whether a graph reads words from a bank file."""
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer)


def check_words(graph: GraphFile, bank: bytes) -> None:
    """Check that the content of a bank file holds the words of a graph; other words may be anything.

    Raises ArtifactError with the file, the region and the task.
    """
    file, reader = graph.path.parent / BANK_FILE, f"task {graph.task!r} ({graph.path.name})"
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place.get("location") != BANK_FILE:
            raise ArtifactError(
                f"{graph.path}: {shown(tensor.name)} lies in {shown(place.get('location'))}, must be {BANK_FILE}"
            )
        start, size = (_place(graph.path, tensor.name, place.get(key, "")) for key in ("offset", "length"))
        end = start + size
        if end > len(bank):
            raise ArtifactError(
                f"{file}: is truncated: {reader} reads {tensor.name!r} in bytes {start}..{end} of {len(bank)}"
            )
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
        tensor.raw_data = bank[start:end]
    layers = graph.words
    found = constants(model, [f"{layer}.{tensor}" for layer in layers for tensor in ("words", "used")])
    for layer, words, used in zip(layers, found[::2], found[1::2], strict=True):
        if words_digest(np.where(used, words, -1)) != layers[layer]:
            raise ArtifactError(
                f"{file}: layer {layer!r} of {reader} finds other words than were exported: the file was altered, "
                f"or belongs to another network"
            )


def _place(path: Path, name: str, digits: str) -> int:
    """An offset or a length in the bank file."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise ArtifactError(f"{path}: {shown(name)} lies at {shown(digits)} in {BANK_FILE}, must be a number of bytes")
    return int(digits)


def open_graph(path: Path) -> GraphFile:
    """Read one exported file and check it and the words that it reads, see :func:`read_graph`, :func:`check_words`."""
    graph = read_graph(path)
    if uses_bank(graph.model):
        check_words(graph, read_bytes(path.parent / BANK_FILE))
    return graph


def check_folder(folder: StrPath) -> list[GraphFile]:
    """Check every graph of a folder: digests, pins, words, logits of the golden inputs, and that one network has all.

    Raises FileError where there is none, ArtifactError at the first that is not what was written.
    """
    paths = sorted(Path(folder).glob("*.onnx"))
    if not paths:
        raise FileError(f"{folder}: holds no .onnx file")
    graphs = [open_graph(path) for path in paths]
    for first, second in pairwise(sorted(graphs, key=lambda graph: len(graph.told.network))):
        if not second.told.network.startswith(first.told.network):
            raise ArtifactError(
                f"{second.path}: is of another network than {first.path.name}: a folder holds the graphs of one network"
            )
    for graph in graphs:
        logits = graph.run(golden_inputs(graph.input_shape, graph.told.input))
        if logits_digest(logits) != graph.told.golden:
            raise ArtifactError(
                f"{graph.path}: task {graph.task!r}: onnxruntime gives other logits than the int64 loops"
            )
    return graphs
