"""One trained stream, many networks: its tasks put on other codebooks and formats, without learning them again.

A *variant* replays what a run does after training, task by task, with other bit-widths: post-prune further, fit
codebooks, train on with them if asked, commit. Later tasks read the words that earlier ones wrote in the same
variant. With the widths of the run, a variant is the network of the run, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tsn_hw.core import artifact
from tsn_hw.core.errors import TrainingError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.architectures import Architecture, Weights
from tsn_hw.learn.codebook import fit_codebook
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.folder import digests
from tsn_hw.learn.freezing import TaskLabel, commit, freeze
from tsn_hw.learn.models import HEAD, SubnetModel
from tsn_hw.learn.prune import post_prune
from tsn_hw.learn.quantize import FitCodebook, refit_all, train_quantized
from tsn_hw.learn.ready import architecture_of
from tsn_hw.learn.settings import ActBits, Formats, Settings
from tsn_hw.learn.start import weights_of
from tsn_hw.learn.trained import read_trained, restore, trained_path
from tsn_hw.learn.training import CALIBRATION_IMAGES, Tensors, evaluate, generator_of, reproducible, seed_of, to_real


@dataclass(frozen=True)
class Variant:
    """How a trained stream becomes integers.

    code_bits:     of every weighted layer in order, the head last
    centroid_bits: of the integers that codebooks hold
    act_bits:      of every activation; None keeps the grids that training chose, a number chooses all of them anew
    prune_iterations: steps of post-pruning beyond what the run did, within ``prune_drop`` points of accuracy
    qat_epochs:    of training on with the codebooks in the loop; 0 only fits them
    """

    code_bits: tuple[int, ...]
    centroid_bits: int
    act_bits: ActBits | None = None
    prune_iterations: int = 0
    prune_drop: float = 0.0
    qat_epochs: int = 0


@dataclass(frozen=True, eq=False)
class TrainedStream:
    """All tasks of a finished run as training left them (:mod:`tsn_hw.learn.trained`)."""

    settings: Settings
    stream: TaskStream
    labels: tuple[TaskLabel, ...]
    banks: tuple[int, ...]
    tasks: tuple[Mapping[str, Tensor], ...]
    weights: Weights

    @cached_property
    def architecture(self) -> Architecture:
        """The body that the tasks share."""
        return replace(architecture_of(self.settings, self.stream.input_shape), weights=self.weights)

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the weighted layers in order, the head last."""
        return (*(layer.name for layer in self.architecture.weighted.values()), HEAD)

    @cached_property
    def calibration(self) -> tuple[Tensor, ...]:
        """Images of every task, as real numbers, that activation grids are chosen on."""
        images = (self.stream.task(task).x_train[:CALIBRATION_IMAGES] for task in range(len(self.stream)))
        return tuple(to_real(torch.from_numpy(x)) for x in images)

    def formats(self, variant: Variant) -> Formats:
        """Number formats of a variant."""
        formats = replace(self.settings.formats, centroid_bits=variant.centroid_bits)
        return formats if variant.act_bits is None else replace(formats, act_bits=variant.act_bits)


def load_trained(settings: Settings, stream: TaskStream, folder: Path) -> TrainedStream:
    """The trained tasks of a finished run; TrainingError if it is not finished or did not keep them."""
    net = artifact.load(folder / "net.tsn")
    if len(net.tasks) < len(stream):
        raise TrainingError(f"{folder}: {len(net.tasks)} of {len(stream)} tasks are learned; finish with --resume")
    known = digests(settings)
    tasks = tuple(read_trained(trained_path(folder, task), known) for task in range(len(stream)))
    labels = tuple(TaskLabel(task.name, task.classes, task.routing) for task in net.tasks)
    banks, weights = tuple(task.bank for task in net.tasks), weights_of(settings.model, folder, {})
    return TrainedStream(settings, stream, labels, banks, tasks, weights)


def pack(trained: TrainedStream, variant: Variant, fit: FitCodebook = fit_codebook) -> PackedNetwork:
    """The packed network of a variant. Same variant, same bytes."""
    model = SubnetModel(trained.architecture, trained.formats(variant))
    with reproducible(trained.settings.train.threads):
        for task, bank in enumerate(trained.banks):
            _begin(model, trained, task, bank)
            _quantize(model, trained, task, variant, fit)
            commit(model, task)
        return freeze(model, trained.labels)


def float_accuracies(trained: TrainedStream) -> tuple[float, ...]:
    """Test accuracy in percent of every task with the float weights that it saw in training."""
    accuracies = []
    with reproducible(trained.settings.train.threads):
        for task in range(len(trained.banks)):
            model = SubnetModel(trained.architecture, trained.settings.formats)
            _begin(model, trained, task, bank=0)  # by itself: no weight that it shares has been rounded
            data = trained.stream.task(task)
            test = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)
            accuracies.append(evaluate(model, 0, *test).accuracy)
    return tuple(accuracies)


def _begin(model: SubnetModel, trained: TrainedStream, task: int, bank: int) -> None:
    """Append a task as training left it, and its bank if it is the first to live there."""
    if bank == len(model.banks):
        model.add_bank(generator_of("overwritten"))
    number = model.add_task(bank, len(trained.labels[task].classes), generator_of("overwritten"))
    restore(model, number, trained.tasks[task])


def _quantize(model: SubnetModel, trained: TrainedStream, task: int, variant: Variant, fit: FitCodebook) -> None:
    """Choose activation grids, prune, fit codebooks and train on, as far as the variant asks for each."""
    settings, data = trained.settings, None
    if variant.prune_iterations or variant.qat_epochs:
        data = Tensors.of(trained.stream.task(task), model.device)
    if variant.act_bits is not None:
        model.calibrate(trained.calibration[task], task, trained=True)
    if data is not None and variant.prune_iterations:
        rng = np.random.default_rng(seed_of(settings.seed, "prune on", task))
        prune = replace(settings.prune, iterations=variant.prune_iterations, tolerated_drop=variant.prune_drop)
        post_prune(model, task, lambda: evaluate(model, task, *data.deciding).accuracy, prune, rng)
    bits = dict(zip(trained.layer_names, variant.code_bits, strict=True))
    refit_all(model, task, bits, fit)
    if data is not None and variant.qat_epochs:
        train_quantized(model, task, data, bits, variant.qat_epochs, settings)
