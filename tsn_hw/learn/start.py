"""The weights that a run starts from instead of noise: those of a pretrained body, kept in its folder."""

from __future__ import annotations

from pathlib import Path

import torch

from tsn_hw.core.errors import TrainingError
from tsn_hw.learn.architectures import Weights, weights_digest
from tsn_hw.learn.checkpoint import read_tensors, write_tensors
from tsn_hw.learn.folder import PRETRAINED
from tsn_hw.learn.onnx_files import onnx_body
from tsn_hw.learn.settings import ModelSettings


def weights_of(model: ModelSettings, folder: Path, given: Weights) -> Weights:
    """The weights that the first task of a bank starts from: as given, of the run's folder, or of the model's file."""
    if not model.start:
        return {}
    path = folder / PRETRAINED
    found = given
    if not found and path.is_file():
        tensors, _ = read_tensors(path, "pretrained weights", "learn the run again")
        found = {name: tensor.numpy() for name, tensor in tensors.items()}
    elif not found and model.path:
        found = onnx_body(model.path, pretrained=True).weights
    if weights_digest(found) != model.start:
        raise TrainingError(
            f"{folder}: the weights that this run starts from are not there (SHA-256 {model.start[:12]}...); give the "
            f"body with its weights, or put {PRETRAINED} back"
        )
    return found


def keep_weights(folder: Path, weights: Weights) -> None:
    """Write the weights that a run starts from, if it has any and they are not there."""
    if weights and not (folder / PRETRAINED).is_file():
        tensors = {name: torch.from_numpy(values) for name, values in sorted(weights.items())}
        write_tensors(folder / PRETRAINED, tensors, {})
