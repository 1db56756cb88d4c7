"""Checkpoints: all that a killed run needs to end in the same bytes. Safetensors files, each whole or not at all.

What a task leaves behind never changes again, and is written once, to a file of its own. The checkpoint proper holds
banks, the task in training, and the digests of these files; it is written after them, so where it is, they are.
Checkpoints of older runs hold everything in one file, and name no other.
"""

from __future__ import annotations

import hashlib
import json
import math
import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save as save_arrays
from safetensors.torch import load, save
from torch import Tensor

from tsn_hw.core.errors import SettingsError, TrainingError
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.core.network import MAX_CODE_BITS
from tsn_hw.core.records import build
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.route import Route
from tsn_hw.learn.training import Fit

Stored = dict[str, NDArray[Any]] | dict[str, Tensor]
FILE = "checkpoint.safetensors"
COMMITTED = "committed/task_*.safetensors"
"""Of every finished task its modules, and its rows of what grows in the layers of its bank."""
DIGEST = "sha256"
RESTART = "start again in another folder"
FIT = {"lr": int | float, "epoch": int, "best_loss": int | float, "wait": int, "stopped": bool}
"""What is kept of the training of a task, beside tensors."""
GROWING = ("codebooks", "entries", "masks")
"""State of a layer whose first axis are its tasks."""
BOUNDS = {
    "owner": (-1, 2**15 - 1),
    "entries": (0, 1 << MAX_CODE_BITS),
    "exponent": (-1000, 1000),
    "multiplier_exponent": (-1000, 1000),
    "dropped_bits": (0, 62),
}
"""Least and largest values of integers that are used before a packed network checks them."""


@dataclass(frozen=True)
class Label:
    """What the model does not know of a task: name, classes, routing memory in hex, digest of what it learned from."""

    name: str
    classes: tuple[str, ...]
    routing: str = ""
    data: str = ""


@dataclass
class Position:
    """Where a run stands: the task being learned, its epoch, and what earlier tasks left behind.

    ``labels`` and ``routes`` are those of every task begun, ``records`` (JSON values) of every task finished.
    ``committed`` are digests of the files of finished tasks. ``tasks`` are those of the stream, ``grown_from`` those
    that it had when it was finished, before it grew.
    """

    settings: str  # digest of the settings, which a resumed run must share
    task: int = 0
    labels: tuple[Label, ...] = ()
    routes: tuple[Route, ...] = ()
    records: tuple[dict[str, Any], ...] = ()
    fit: dict[str, Any] | None = None
    tasks: int = 0
    grown_from: int = 0
    committed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        begun = len(self.labels)
        _require(0 <= self.task == len(self.records) and self.task <= begun <= self.task + 1, "numbers of tasks")
        _require(len(self.committed) <= self.task, "numbers of tasks")
        _require(len(self.routes) == begun and 0 <= self.grown_from <= self.task, "numbers of tasks")
        banks = 0
        for route in self.routes:
            _require(0 <= route.bank <= banks, "banks")
            banks = max(banks, route.bank + 1)
        texts = [text for label in self.labels for text in (label.routing, label.data)]
        _require(all(len(text) % 2 == 0 and set(text) <= set(string.hexdigits) for text in texts), "hex digits")
        if self.fit is not None:
            kinds = {name: isinstance(self.fit.get(name), kind) for name, kind in FIT.items()}
            _require(all(kinds.values()) and self.fit.keys() == FIT.keys() and begun > self.task, "training")
            _require(math.isfinite(self.fit["lr"]) and not math.isnan(self.fit["best_loss"]), "training")


def save_checkpoint(folder: Path, position: Position, model: SubnetModel, fit: Fit | None) -> None:
    """Write the model, and the optimiser and best state of a task in training."""
    for task in range(len(position.committed), position.task):
        position.committed += (write_tensors(_committed_path(folder, task), _of_task(model, task), {}),)
    tensors = {f"model/{name}": tensor for name, tensor in _of_all(model, position.task).items()}
    position.fit = None
    if fit is not None:
        position.fit = {name: getattr(fit, name) for name in FIT}
        tensors |= {f"best/{name}": tensor for name, tensor in fit.best.items()}
        for number, slot in fit.optimizer.state_dict()["state"].items():
            for name, value in slot.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{number}/{name}"] = value
                elif value is not None:
                    raise TrainingError(f"the optimizer keeps {name} as {type(value).__name__}: it must be a tensor")
    write_tensors(folder / FILE, tensors, {"position": json.dumps(position, sort_keys=True, default=vars)})


def read_checkpoint(folder: Path, digests: Sequence[str]) -> tuple[Position, dict[str, Tensor]]:
    """Position and tensors of a checkpoint; one whose settings have none of these digests is refused."""
    path = folder / FILE
    tensors, metadata = read_tensors(path, "checkpoint", RESTART)
    with refused_as_damaged(path):
        values = json.loads(metadata["position"])
        if isinstance(values, dict):
            values.pop("threshold", None)  # as older runs kept it
        position = build(Position, values, "position")
        _add_committed(tensors, folder, position.committed)
    if position.settings not in digests:
        raise TrainingError(f"checkpoint {path}: belongs to a run with other settings; use another folder")
    return position, tensors


@contextmanager
def refused_as_damaged(path: Path) -> Iterator[None]:
    """Turn everything that a checkpoint says and that cannot be into one error that names the file."""
    try:
        yield
    except (ValueError, KeyError, RecursionError) as error:  # errors of ours among them
        raise TrainingError(f"checkpoint {path}: damaged ({error}); {RESTART}") from error


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Write tensors and what is to be said about them, with a digest over both, which is returned."""
    stored = _stored(tensors)
    digest = _digest(stored, metadata)
    write_atomically(path, _container(stored, metadata | {DIGEST: digest}))
    return digest


def read_tensors(path: Path, what: str, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of :func:`write_tensors`; TrainingError, which ends in the remedy, for anything else.

    The digest is among the metadata.
    """
    data = read_bytes(path)
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        told = {name: text for name, text in metadata.items() if name != DIGEST}
        intact = metadata[DIGEST] == _digest(_stored(tensors), told)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"{what} {path}: damaged ({error}); {remedy}") from error
    if not intact:
        raise TrainingError(f"{what} {path}: damaged (its SHA-256 does not match); {remedy}")
    return tensors, metadata


def _digest(stored: Stored, metadata: dict[str, str]) -> str:
    return hashlib.sha256(_container(stored, metadata)).hexdigest()


def _stored(tensors: dict[str, Tensor]) -> Stored:
    """Tensors as numpy's arrays where it has their types: thousands of small ones are written ten times faster."""
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if any(tensor.dtype == torch.bfloat16 for tensor in dense.values()):
        return {name: tensor.clone() for name, tensor in dense.items()}
    return {name: tensor.numpy() for name, tensor in dense.items()}


def _container(stored: Stored, metadata: dict[str, str]) -> bytes:
    """A safetensors file."""
    arrays = {name: each for name, each in stored.items() if isinstance(each, np.ndarray)}
    tensors = {name: each for name, each in stored.items() if isinstance(each, Tensor)}
    content: bytes = save(tensors, metadata) if tensors else save_arrays(arrays, metadata)
    return content


def _of_all(model: SubnetModel, finished: int) -> dict[str, Tensor]:
    """The state of a model without what its finished tasks left behind; no row of what grows in the layers of banks."""
    state: dict[str, Tensor] = {}
    for name, part in model.named_children():
        if part is model.tasks:
            for task in range(finished, len(model.tasks)):
                model.modules_of(task).state_dict(destination=state, prefix=f"{name}.{task}.")
        else:
            part.state_dict(destination=state, prefix=f"{name}.")
    return {name: tensor[:0] if _grows(name) else tensor for name, tensor in state.items()}


def _of_task(model: SubnetModel, task: int) -> dict[str, Tensor]:
    """What a finished task left behind, by the names of the model's state."""
    state: dict[str, Tensor] = model.modules_of(task).state_dict(prefix=f"tasks.{task}.")
    row = model.prefix(task)
    for index, layer in model.body_layers(task).items():
        of_layer = layer.state_dict(prefix=f"banks.{model.bank_of[task]}.{index}.")
        state |= {name: tensor[row : row + 1] for name, tensor in of_layer.items() if _grows(name)}
    return state


def _add_committed(tensors: dict[str, Tensor], folder: Path, digests: Sequence[str]) -> None:
    """Add what finished tasks left behind to the tensors of a checkpoint, row by row to what grows."""
    rows: dict[str, list[Tensor]] = {}
    for task, digest in enumerate(digests):
        path = _committed_path(folder, task)
        found, metadata = read_tensors(path, "checkpoint", RESTART)
        if metadata[DIGEST] != digest:
            raise TrainingError(f"checkpoint {path}: is not the one of this run; {RESTART}")
        for name, tensor in found.items():
            rows.setdefault(f"model/{name}", []).append(tensor)
    for name, parts in rows.items():
        tensors[name] = torch.cat([tensors[name], *parts]) if name in tensors else parts[0]


def _grows(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in GROWING


def _committed_path(folder: Path, task: int) -> Path:
    return folder / COMMITTED.replace("*", f"{task:02d}")


def load_model(model: SubnetModel, position: Position, tensors: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's tensors into a model that has its banks and tasks; SettingsError if they are not of it."""
    expected = model.state_dict()
    for name, tensor in expected.items():
        if _grows(name):
            expected[name] = tensor.new_empty(_committed(name, position), *tensor.shape[1:])
    state = _named("model/", tensors)
    _require_alike(state, expected)
    for name, tensor in state.items():
        if (bounds := BOUNDS.get(name.rsplit(".", 1)[-1])) and tensor.numel():
            _require(bounds[0] <= int(tensor.min()) <= int(tensor.max()) <= bounds[1], name)
        if name.endswith(".owner"):
            _require(int(tensor.max()) < len(state[name.removesuffix("owner") + "entries"]), name)
    model.load_state_dict(state, strict=True)


def load_fit(fit: Fit, position: Position, tensors: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's training state into a freshly started task; ``trained``: the state that training changes."""
    if position.fit is None:
        return
    for name, value in position.fit.items():
        setattr(fit, name, value)
    fit.best = _named("best/", tensors)
    _require_alike(fit.best, trained if fit.best else {})
    groups = fit.optimizer.state_dict()["param_groups"]
    state: dict[int, dict[str, Tensor]] = {}
    for number, parameter in enumerate(p for group in fit.optimizer.param_groups for p in group["params"]):
        slot = _named(f"optimizer/{number}/", tensors)
        if slot:  # a parameter that no step has changed yet has none
            own = {name: parameter if value.dim() else torch.zeros(()) for name, value in slot.items()}
            moments = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
            _require_alike(slot, moments if type(fit.optimizer) is torch.optim.Adam else own)
            state[number] = slot
    fit.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _committed(name: str, position: Position) -> int:
    """How many finished tasks a layer holds: those of its bank, or the one whose head it is."""
    kind, number, *_ = name.split(".")
    if kind == "tasks":
        return int(int(number) < position.task)
    return sum(route.bank == int(number) for route in position.routes[: position.task])


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _require_alike(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """The same names, types and shapes."""
    for name in found.keys() ^ expected.keys():
        _require(False, name)
    for name, tensor in found.items():
        _require((tensor.dtype, tensor.shape) == (expected[name].dtype, expected[name].shape), name)


def _require(rule: bool, what: str) -> None:
    if not rule:
        raise SettingsError(f"its {what} cannot be")
