"""Writing the graphs of all tasks into a folder, each by itself or around one shared bank file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from export.onnx_graphs.bank import BANK_FILE, BankLayout, bank_file, bank_layout
from export.onnx_graphs.check import uses_bank
from export.onnx_graphs.fold import folded
from export.onnx_graphs.gate import GATE_FILE, gate_graph
from export.onnx_graphs.graph import input_dtype, onnx_graph
from export.onnx_graphs.metadata import (
    TASK_LETTERS,
    golden_inputs,
    logits_digest,
    network_digests,
    properties,
    sealed,
)
from export.onnx_graphs.plan import Forms
from export.onnx_graphs.session import parse, run_graph
from tsn_hw.core import reference
from tsn_hw.core.errors import ExportError, FileError
from tsn_hw.core.files import StrPath, read_bytes, write_atomically
from tsn_hw.core.network import PackedNetwork


def write_onnx(net: PackedNetwork, folder: StrPath, *, fold: bool = False, form: Forms = None) -> list[Path]:
    """Write the graph of every task as ``folder/task_00.onnx``, ``task_01.onnx`` ...: same network, same bytes.

    ``fold`` also writes ``task_00.folded.onnx`` ...: the weights decoded, for a fast start. ``form`` forces how layers
    compute, see :func:`export.onnx_graph`. A network with gates brings ``gate.onnx``, which names the task of an input.
    Other graphs of ours in the folder, and the bank file that they read, are removed. A file that exists is replaced as
    a whole or not at all.

    Raises ExportError where a task has no exact graph or the folder holds graphs that are not ours, FileError where a
    file cannot be written.
    """
    folder, network = Path(folder), network_digests(net)
    files = _task_files(net, network, folder, None, fold, form)
    others = other_graphs(folder, files)
    for path, model in others.items():
        if path not in files or not is_kin(model, network):
            remove(path)
    _write(files)
    if any(uses_bank(model) for model in others.values()):
        remove(folder / BANK_FILE)
    return list(files)


def write_onnx_shared(net: PackedNetwork, folder: StrPath, *, fold: bool = False, form: Forms = None) -> list[Path]:
    """Write one bank file and a small graph a task around it: ``folder/banks.bin``, ``task_00.onnx`` ...

    The files of a network that has more tasks replace those of the shorter one; the graphs of earlier tasks stay the
    same, byte for byte, and right at every moment of the writing. Other graphs of ours in the folder are removed.

    Raises ExportError where a task has no exact graph or the folder holds graphs that are not ours, FileError where a
    file cannot be written.
    """
    folder, layout = Path(folder), bank_layout(net)
    files = _task_files(net, network_digests(net), folder, layout, fold, form)
    for path in other_graphs(folder, files):
        remove(path)  # before a bank file in which it might find other words
    write_atomically(folder / BANK_FILE, bank_file(net, layout))
    _write(files)
    return [folder / BANK_FILE, *files]


def other_graphs(folder: Path, files: Mapping[Path, bytes]) -> dict[Path, onnx.ModelProto]:
    """The graphs of ours in a folder that are not the new files byte for byte.

    Raises ExportError where one is not ours: then nothing may be written beside it.
    """
    found = {}
    for path in sorted(folder.glob("*.onnx")):
        content = read_bytes(path)
        if content != files.get(path):
            found[path] = parse(content, str(path))
            if not properties(found[path]):
                raise ExportError(f"{path}: is no graph of tsn-hw; choose another folder, or move it away")
    return found


def is_kin(model: onnx.ModelProto, network: str) -> bool:
    """Whether a graph of ours is of a task of the network that has these :func:`network_digests`."""
    return network.startswith(str(properties(model).get("network")))


def golden_digest(net: PackedNetwork, task: int) -> str:
    """The digest of the contract's logits for the golden inputs: no engine that runs the files has a part in it."""
    x = golden_inputs(net.input_shape, net.input)
    return logits_digest(list(reference.run(net, task, x).values())[-1])


def _task_files(
    net: PackedNetwork, network: str, folder: Path, layout: BankLayout | None, fold: bool, form: Forms
) -> dict[Path, bytes]:
    """The content of every graph, after a run of it on onnxruntime."""
    files: dict[Path, bytes] = {}
    x = golden_inputs(net.input_shape, net.input)
    for task in range(len(net.tasks)):
        model = onnx_graph(net, task, form=form)
        golden = golden_digest(net, task)
        (logits,) = run_graph(model.SerializeToString(), {"x": x.astype(input_dtype(net))})
        if logits_digest(logits) != golden:
            raise ExportError(
                f"task {net.tasks[task].name!r}: this onnxruntime gives other logits than the int64 loops "
                f"for the golden inputs; try another version of it"
            )
        told = {"network": network[: TASK_LETTERS * (task + 1)], "golden": golden}
        if fold:
            files[folder / f"task_{task:02d}.folded.onnx"] = sealed(folded(model), told)
        if layout is not None:
            model = onnx_graph(net, task, form=form, bank=layout)
        files[folder / f"task_{task:02d}.onnx"] = sealed(model, told)
    if net.tasks[0].gate is not None:
        files[folder / GATE_FILE] = _gate_file(net, network)
    return dict(sorted(files.items()))


def _gate_file(net: PackedNetwork, network: str) -> bytes:
    """The content of the gate's graph, after a run of it on onnxruntime."""
    model, x = gate_graph(net), golden_inputs(net.input_shape, net.input)
    golden = logits_digest(reference.gate_scores(net, x))
    (scores,) = run_graph(model.SerializeToString(), {"x": x.astype(input_dtype(net))}, ["logits"])
    if logits_digest(scores) != golden:
        raise ExportError("gate: this onnxruntime gives other scores than the int64 loops; try another version of it")
    return sealed(model, {"network": network, "golden": golden})


def _write(files: Mapping[Path, bytes]) -> None:
    for path, content in files.items():
        write_atomically(path, content)


def remove(path: Path) -> None:
    """Remove a file, if it is there, or FileError in one line."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot remove {path}: {error.strerror or error}") from error
