"""Whether exported files are what they were when they were written: digests, pins, and the integers they give."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from export.onnx_bank import BANK_FILE, words_digest
from export.onnx_functions import IR_VERSION, OPSET
from export.onnx_metadata import FORMAT_VERSION, golden_inputs, is_sealed, logits_digest, properties
from export.onnx_session import constants, parse, run_graph
from tsn_hw.arithmetic import ActFormat, Ints
from tsn_hw.errors import ArtifactError, FileError
from tsn_hw.files import StrPath, read_bytes


@dataclass(frozen=True)
class GraphFile:
    """A graph of ours and what its metadata tell."""

    path: Path
    model: onnx.ModelProto
    told: dict[str, Any]

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.told["task"])

    @property
    def network(self) -> str:
        """Digests of the tasks up to this one."""
        return str(self.told["network"])

    @property
    def classes(self) -> list[str]:
        """Names, in the order of the logits."""
        return [str(name) for name in self.told["classes"]]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(dim.dim_value for dim in self.model.graph.input[0].type.tensor_type.shape.dim[1:])

    @property
    def input_format(self) -> ActFormat:
        """Integers that the graph takes."""
        told = self.told["input"]
        return ActFormat(told["bits"], told["signed"], told["exponent"])

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """Element type of the input."""
        return onnx.helper.tensor_dtype_to_np_dtype(self.model.graph.input[0].type.tensor_type.elem_type)

    @property
    def logit_exponent(self) -> int | None:
        """Real logit = integer * 2**exponent; None where the logits have a scale of their own."""
        exponent = self.told["output"]["exponent"]
        return None if exponent is None else int(exponent)

    def run(self, x: Ints) -> NDArray[np.int32]:
        """Logits (inputs, classes) of integers (inputs, *shape), on onnxruntime."""
        (logits,) = run_graph(self.path, {"x": x.astype(self.input_dtype)})
        return logits

    @property
    def words(self) -> dict[str, str]:
        """Digests of the words in the bank file, by layer."""
        layers = self.told["layers"]
        digests = layers.get("words", [])
        return {name: digest for name, digest in zip(layers["name"], digests, strict=False) if digest is not None}


def read_graph(path: Path) -> GraphFile:
    """Read one exported file and check that it is whole and of this version; its bank file is not read.

    Raises FileError where it cannot be read, ArtifactError where it is not what was written.
    """
    content = read_bytes(path)
    model = parse(content, str(path))
    told = properties(model)
    if told.get("format") != FORMAT_VERSION:
        raise ArtifactError(f"{path}: is no graph of tsn-hw of format {FORMAT_VERSION}, but {told.get('format')}")
    if not is_sealed(content, str(told.get("sha256"))):
        raise ArtifactError(f"{path}: was altered: it is not the file whose digest it holds")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if (model.ir_version, versions.get("")) != (IR_VERSION, OPSET):
        raise ArtifactError(
            f"{path}: has IR {model.ir_version} and opset {versions.get('')}, must have {IR_VERSION} and {OPSET}"
        )
    return GraphFile(path, model, told)


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
        if place["location"] != BANK_FILE:
            raise ArtifactError(f"{graph.path}: {tensor.name!r} lies in {place['location']!r}, must be {BANK_FILE}")
        start = int(place["offset"])
        end = start + int(place["length"])
        if end > len(bank):
            raise ArtifactError(
                f"{file}: is truncated: {reader} reads {tensor.name!r} in bytes {start}..{end} of {len(bank)}"
            )
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
        tensor.raw_data = bank[start:end]
    layers = graph.words
    for layer, words in zip(layers, constants(model, [f"{layer}.words" for layer in layers]), strict=True):
        if words_digest(words) != layers[layer]:
            raise ArtifactError(
                f"{file}: layer {layer!r} of {reader} finds other words than were exported: the file was altered, "
                f"or belongs to another network"
            )


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
    for first, second in pairwise(sorted(graphs, key=lambda graph: len(graph.network))):
        if not second.network.startswith(first.network):
            raise ArtifactError(
                f"{second.path}: is of another network than {first.path.name}: a folder holds the graphs of one network"
            )
    for graph in graphs:
        logits = graph.run(golden_inputs(graph.input_shape, graph.input_format))
        if logits_digest(logits) != graph.told["golden"]:
            raise ArtifactError(
                f"{graph.path}: task {graph.task!r}: onnxruntime gives other logits than the int64 loops"
            )
    return graphs
