"""Writing the graphs of all tasks into a folder, each by itself or around one shared bank file."""

from __future__ import annotations

from pathlib import Path

from export.onnx_bank import BANK_FILE, BankLayout, bank_file, bank_layout
from export.onnx_check import check_words, read_graph, uses_bank
from export.onnx_fold import folded
from export.onnx_graph import input_dtype, onnx_graph
from export.onnx_metadata import golden_inputs, logits_digest, sealed
from export.onnx_plan import Forms
from export.onnx_session import parse, run_graph
from tsn_hw import reference
from tsn_hw.errors import ArtifactError, ExportError, FileError
from tsn_hw.files import read_bytes, write_atomically
from tsn_hw.network import PackedNetwork


def write_onnx(net: PackedNetwork, folder: Path, *, fold: bool = False, form: Forms = None) -> list[Path]:
    """Write the graph of every task as ``folder/task_00.onnx``, ``task_01.onnx`` ...: same network, same bytes.

    ``fold`` also writes ``task_00.folded.onnx`` ...: the weights decoded, for a fast start; without it, such files of
    earlier exports are removed. ``form`` forces how layers compute, see :func:`export.onnx_graph`. A file that exists
    is replaced as a whole or not at all.

    Raises ExportError where a task has no exact graph, FileError where a file cannot be written.
    """
    files = _task_files(net, folder, None, fold, form)
    _write(files, net, folder)
    return list(files)


def write_onnx_shared(
    net: PackedNetwork, folder: Path, *, fold: bool = False, replace: bool = False, form: Forms = None
) -> list[Path]:
    """Write one bank file and a small graph a task around it: ``folder/banks.bin``, ``task_00.onnx`` ...

    The files of a network that has more tasks replace those of the shorter one; the graphs of earlier tasks stay the
    same, byte for byte, and right at every moment of the writing. A bank file that other graphs of the folder read,
    and that would give them other words, is replaced only with ``replace``; those graphs are then removed.

    Raises ExportError where a task has no exact graph or such a bank file is in the way, FileError where a file cannot
    be written, ArtifactError where another graph of the folder is damaged.
    """
    layout = bank_layout(net)
    bank = bank_file(net, layout)
    files = _task_files(net, folder, layout, fold, form)
    for path in _outdated(folder, files, bank, replace):
        _remove(path)
    write_atomically(folder / BANK_FILE, bank)
    _write(files, net, folder)
    return [folder / BANK_FILE, *files]


def golden_digest(net: PackedNetwork, task: int) -> str:
    """The digest of the contract's logits for the golden inputs: no engine that runs the files has a part in it."""
    x = golden_inputs(net.input_shape, net.input)
    return logits_digest(list(reference.run(net, task, x).values())[-1])


def _task_files(
    net: PackedNetwork, folder: Path, layout: BankLayout | None, fold: bool, form: Forms
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
        if fold:
            files[_folded_path(folder, task)] = sealed(folded(model), golden)
        if layout is not None:
            model = onnx_graph(net, task, form=form, bank=layout)
        files[folder / f"task_{task:02d}.onnx"] = sealed(model, golden)
    return dict(sorted(files.items()))


def _outdated(folder: Path, files: dict[Path, bytes], bank: bytes, replace: bool) -> list[Path]:
    """Graphs of a folder that a new bank file makes wrong: those that are written anew, and with ``replace`` others."""
    outdated = []
    for path in sorted(folder.glob("*.onnx")):
        content = read_bytes(path)
        if content == files.get(path):
            continue
        if path in files:
            outdated.append(path)
        elif uses_bank(parse(content, str(path))):
            try:
                check_words(read_graph(path), bank)
            except ArtifactError as error:
                if not replace:
                    raise ExportError(
                        f"{folder / BANK_FILE}: {path.name} reads it too, and would find other words in the new one; "
                        f"choose another folder, or replace the file and remove that graph (--replace)"
                    ) from error
                outdated.append(path)
    return outdated


def _write(files: dict[Path, bytes], net: PackedNetwork, folder: Path) -> None:
    for task in range(len(net.tasks)):
        if _folded_path(folder, task) not in files:
            _remove(_folded_path(folder, task))
    for path, content in files.items():
        write_atomically(path, content)


def _folded_path(folder: Path, task: int) -> Path:
    return folder / f"task_{task:02d}.folded.onnx"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot remove {path}: {error.strerror or error}") from error
