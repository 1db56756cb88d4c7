"""Checkpoints: all that a killed run needs to end in the same bytes. One safetensors file, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tsn_hw.errors import TrainingError
from tsn_hw.files import read_bytes, write_atomically
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.train import Fit

FILE = "checkpoint.safetensors"
RESTART = "delete it to start again with --resume"


@dataclass
class Position:
    """Where a run stands: the task being learned, its epoch, and what earlier tasks left behind.

    Plain JSON values: ``labels`` (name, classes, routing memory in hex) and ``routes`` of every task begun,
    ``records`` of every task finished.
    """

    settings: str  # digest of the settings, which a resumed run must share
    task: int = 0
    threshold: float | None = None
    labels: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    fit: dict[str, Any] | None = None


def save_checkpoint(folder: Path, position: Position, model: SubnetModel, fit: Fit | None) -> None:
    """Write the model, and the optimiser and best state of a task in training."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    position.fit = None
    if fit is not None:
        position.fit = {name: getattr(fit, name) for name in ("lr", "epoch", "best_loss", "wait", "stopped")}
        tensors |= {f"best/{name}": tensor for name, tensor in fit.best.items()}
        for number, slot in fit.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in slot.items()}
    write_tensors(folder / FILE, tensors, {"position": json.dumps(position.__dict__, sort_keys=True)})


def read_checkpoint(folder: Path, settings: str) -> tuple[Position, dict[str, Tensor]] | None:
    """Position and tensors of a checkpoint; None where there is none. One of other settings is refused."""
    path = folder / FILE
    if not path.exists():
        return None
    tensors, metadata = read_tensors(path, "checkpoint", RESTART)
    try:
        position = Position(**json.loads(metadata["position"]))
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"checkpoint {path}: damaged ({error}); {RESTART}") from error
    if position.settings != settings:
        raise TrainingError(f"checkpoint {path}: belongs to a run with other settings; use another folder")
    return position, tensors


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and what is to be said about them, with a digest over both."""
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(stored, metadata | {"sha256": _digest(stored, metadata)}))


def read_tensors(path: Path, what: str, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of :func:`write_tensors`; TrainingError, which ends in the remedy, for anything else."""
    data = read_bytes(path)
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        intact = metadata.pop("sha256") == _digest(tensors, metadata)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"{what} {path}: damaged ({error}); {remedy}") from error
    if not intact:
        raise TrainingError(f"{what} {path}: damaged (its SHA-256 does not match); {remedy}")
    return tensors, metadata


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    return hashlib.sha256(save(tensors, metadata)).hexdigest()


def load_model(model: SubnetModel, tensors: dict[str, Tensor]) -> None:
    """Put a checkpoint's tensors into a model that has its banks and tasks."""
    state = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
    model.load_state_dict(state, strict=True)


def load_fit(fit: Fit, position: Position, tensors: dict[str, Tensor]) -> None:
    """Put a checkpoint's training state into a freshly started task."""
    if position.fit is None:
        return
    for name, value in position.fit.items():
        setattr(fit, name, value)
    fit.best = {name.removeprefix("best/"): t for name, t in tensors.items() if name.startswith("best/")}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, number, key = name.split("/")
            state.setdefault(int(number), {})[key] = tensor
    groups = fit.optimizer.state_dict()["param_groups"]
    fit.optimizer.load_state_dict({"state": state, "param_groups": groups})
