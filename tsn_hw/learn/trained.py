"""A task as training left it: float weights and a mask, before any codebook. What bit-widths can be tried on.

A committed task keeps integers only, and the next task overwrites the floats. So a run writes every task down
between post-pruning and quantization: ``trained/task_00.safetensors`` ... hold, for every layer, the mask and the
weights under it (its own and those that it shares, as it saw them in training), and the task's private modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tsn_hw.core.errors import TrainingError
from tsn_hw.learn.checkpoint import read_tensors, write_tensors
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import TrainSettings
from tsn_hw.learn.training import start_task

SETTINGS = "settings"
REMEDY = "learn the run again"


def trained_path(folder: Path, task: int) -> Path:
    """Where a run keeps what a task was before its quantization."""
    return folder / "trained" / f"task_{task:02d}.safetensors"


def capture(model: SubnetModel, task: int) -> dict[str, Tensor]:
    """Masks, weights under them, and private modules of the task that is being learned."""
    tensors = {f"private/{name}": tensor for name, tensor in _private(model, task).items()}
    for name, layer in model.weight_layers(task).items():
        mask = layer.subnet.mask()
        tensors[f"mask/{name}"] = torch.from_numpy(np.packbits(mask.cpu().numpy()))
        tensors[f"weights/{name}"] = layer.weight.detach()[mask]
    return tensors


@torch.no_grad()
def restore(model: SubnetModel, task: int, tensors: Mapping[str, Tensor]) -> None:
    """Put a captured task into a model that has committed all earlier ones: shared weights are what those wrote."""
    private = _private(model, task)
    for name, tensor in tensors.items():
        if name.startswith("private/"):
            private[name.removeprefix("private/")].copy_(tensor)
    masks = {}
    for name, layer in model.weight_layers(task).items():
        packed = tensors[f"mask/{name}"].numpy()
        mask = torch.from_numpy(np.unpackbits(packed, count=layer.weight.numel()).astype(bool)).view_as(layer.weight)
        layer.weight[mask] = tensors[f"weights/{name}"]
        masks[name] = mask
    start_task(model, task, TrainSettings(), 1)
    for name, layer in model.weight_layers(task).items():
        layer.subnet.fix(masks[name])


def write_trained(path: Path, tensors: Mapping[str, Tensor], settings: str) -> None:
    """Write a captured task of a run with these settings (their digest, in hex). Same tensors, same bytes."""
    digest = torch.tensor(list(bytes.fromhex(settings)), dtype=torch.uint8)
    write_tensors(path, {**tensors, SETTINGS: digest}, {})  # safetensors writes metadata in any order, tensors in one


def read_trained(path: Path, digests: Sequence[str]) -> dict[str, Tensor]:
    """Read a captured task; TrainingError if it is missing, damaged, or of a run with none of these digests."""
    if not path.is_file():
        raise TrainingError(f"{path}: missing; the run is not finished, or was learned before runs kept it: {REMEDY}")
    tensors, _ = read_tensors(path, "trained task", REMEDY)
    if bytes(tensors.pop(SETTINGS, torch.zeros(0)).tolist()).hex() not in digests:
        raise TrainingError(f"trained task {path}: belongs to a run with other settings")
    return tensors


def _private(model: SubnetModel, task: int) -> dict[str, Tensor]:
    """State of the task's own modules without its head's weights, which are captured as those of any other layer."""
    state = model.modules_of(task).state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
