"""What happens to one task, step by step: train, prune, quantize, commit."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.data.tasks import TaskData
from tsn_hw.learn.freezing import TaskLabel, commit, freeze
from tsn_hw.learn.models import HEAD, SubnetModel
from tsn_hw.learn.prune import Accuracy, CodedSize, post_prune
from tsn_hw.learn.quantize import accuracy_by_bits, adapt_bits, train_quantized
from tsn_hw.learn.settings import Settings
from tsn_hw.learn.training import (
    CALIBRATION_IMAGES,
    Tensors,
    evaluate,
    fit,
    generator_of,
    numbers_held,
    seed_of,
    start_task,
    to_real,
)


def learn_alone(model: SubnetModel, data: TaskData, number: int, settings: Settings) -> PackedNetwork:
    """Learn one task from scratch in an empty model; ``number`` names its random decisions."""
    model.add_bank(generator_of(settings.seed, "alone", number))
    model.add_task(0, len(data.classes), generator_of(settings.seed, "alone head", number))
    tensors, seed = Tensors.of(data, model.device), seed_of(settings.seed, "alone", number)
    state = start_task(model, 0, settings.train, 1, seed)
    fit(model, 0, tensors, state, lambda _: None)
    with numbers_held(data.name, state):
        prune_task(model, 0, tensors, settings)
        finish_task(model, 0, tensors, settings, lambda: test_accuracy(model, 0, data))
        return freeze(model, [TaskLabel(data.name, data.classes)])


def test_accuracy(model: SubnetModel, task: int, data: TaskData) -> float:
    """Accuracy on test data of the model as it stands: for reports, never for decisions."""
    x, y = (torch.from_numpy(np.array(part)).to(model.device) for part in (data.x_test, data.y_test))
    return evaluate(model, task, x, y).accuracy


def prune_task(model: SubnetModel, task: int, data: Tensors, settings: Settings) -> dict[str, Any]:
    """Post-prune a trained task while its validation accuracy holds."""
    started = time.monotonic()
    accuracy: Accuracy = lambda: evaluate(model, task, *data.deciding).accuracy  # noqa: E731
    rng = np.random.default_rng(seed_of(settings.seed, "prune", task))
    size = CodedSize(to_real(data.x_train[:CALIBRATION_IMAGES]), settings.quantize.min_bits)
    pruned = post_prune(model, task, accuracy, settings.prune, rng, size if settings.prune.by == "coded_size" else None)
    return {"pruned": asdict(pruned), "prune_seconds": round(time.monotonic() - started, 3)}


def finish_task(model: SubnetModel, task: int, data: Tensors, settings: Settings, test: Accuracy) -> dict[str, Any]:
    """From trained weights to committed integers: quantize, train on if few bits are left, commit."""
    accuracy: Accuracy = lambda: evaluate(model, task, *data.deciding).accuracy  # noqa: E731
    by_bits = accuracy_by_bits(model, task, test, settings.quantize)
    quantized = adapt_bits(model, task, accuracy, settings.quantize)
    qat = min(quantized.bits.values()) <= settings.quantize.qat_bits
    if qat:
        fitted = {name: bits for name, bits in quantized.bits.items() if name not in quantized.shared}
        fitted[HEAD] = settings.quantize.head_bits
        train_quantized(model, task, data, fitted, settings.quantize.qat_epochs, settings)
    reached = accuracy()
    commit(model, task)
    return {
        "bits": quantized.bits,
        "shared_codebooks": list(quantized.shared),
        "qat": qat,
        "valid_accuracy": {"float": quantized.accuracy_before, "quantized": reached, "committed": accuracy()},
        "test_accuracy_by_bits": by_bits,
    }
