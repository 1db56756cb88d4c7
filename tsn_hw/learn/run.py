"""A whole training run: learn every task of a stream, freeze it, write it down, go on. Resumable after any kill.

The folder of a run holds ``net.tsn`` (all tasks so far), ``tasks/after_00.tsn`` ... (the network as it stood after
each task: the evidence for zero forgetting), ``trained/task_00.safetensors`` ... (every task before it was quantized:
what other bit-widths can be tried on), ``alone/task_01.tsn`` ... (tasks learned alone, where forward transfer is
measured), ``training.json`` (what was decided, and how long it took) and the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tsn_hw import artifact
from tsn_hw.errors import SettingsError, TrainingError
from tsn_hw.files import write_atomically
from tsn_hw.layers import Weighted
from tsn_hw.learn.architectures import Architecture, alexnet, mlp, resnet18, tinynet
from tsn_hw.learn.baselines import float_body_percent
from tsn_hw.learn.checkpoint import FILE as CHECKPOINT
from tsn_hw.learn.checkpoint import Position, load_fit, load_model, read_checkpoint, save_checkpoint
from tsn_hw.learn.freeze import TaskLabel, commit, freeze
from tsn_hw.learn.methods import METHODS
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.prune import Accuracy, CodedSize, post_prune
from tsn_hw.learn.quantize import accuracy_by_bits, adapt_bits, train_quantized
from tsn_hw.learn.route import Probe, Route, calibrated_threshold, make_memory, route
from tsn_hw.learn.settings import Settings
from tsn_hw.learn.tasks import Stream, TaskData
from tsn_hw.learn.train import (
    CALIBRATION_IMAGES,
    Fit,
    Tensors,
    evaluate,
    fit,
    generator_of,
    reproducible,
    seed_of,
    start_task,
    to_real,
)
from tsn_hw.learn.trained import capture, trained_path, write_trained
from tsn_hw.network import PackedNetwork

CHECKPOINT_SECONDS = 15.0
"""Least time between two checkpoints within a task; the end of a task always writes one."""
CHECKPOINT_SHARE = 0.03
"""Share of a run that checkpoints within a task may take: those of large networks are further apart."""


def architecture_of(settings: Settings, input_shape: tuple[int, ...]) -> Architecture:
    """The body that the settings ask for, at the size of the data."""
    model = settings.model
    if model.kind == "mlp":
        architecture = mlp(input_shape, model.hidden, model.batch_norm, model.dropout)
    elif model.kind == "resnet18":
        if model.dropout:
            raise SettingsError(f"model.dropout = {model.dropout}: 'resnet18' has none, must be 0")
        architecture = resnet18(input_shape, model.width, model.batch_norm)
    else:
        convolutional = alexnet if model.kind == "alexnet" else tinynet
        architecture = convolutional(input_shape, model.channels, model.hidden, model.batch_norm, model.dropout)
    names = [layer.name for layer in architecture.layers if isinstance(layer, Weighted)]
    for name in settings.train.keep_table:
        if name not in names:
            raise SettingsError(f"train.keep_table.{name}: no such layer; there are {', '.join(names)}")
    return architecture


def settings_digest(settings: Settings) -> str:
    """SHA-256 of all settings but the places of files: the identity of a run."""
    values = asdict(settings)
    for data in values["data"]:
        del data["path"]  # a run may be moved together with its data
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def train(
    settings: Settings, stream: Stream, folder: Path, device: str = "cpu", resume: bool = False, quiet: bool = False
) -> PackedNetwork:
    """Learn every task of a stream and return the packed network of all of them.

    Same settings, same machine, same bytes: also when the run is killed at any moment and resumed.
    Raises TrainingError if the folder holds a run and ``resume`` is off, or a run of other settings; SettingsError for
    a method that keeps float weights, which ends in no network.
    """
    if not METHODS[settings.train.method].codes:
        raise SettingsError(
            f"train.method = {settings.train.method!r}: keeps float32 weights and ends in no network; "
            "it is a baseline of `tsn-hw bench paper`"
        )
    run = _Run(settings, stream, folder, device_of(device), quiet)
    with reproducible(settings.train.threads):
        run.execute(resume)
        return freeze(run.model, run.labels())


def train_floats(
    settings: Settings, stream: Stream, folder: Path, device: str = "cpu", resume: bool = False, quiet: bool = False
) -> list[dict[str, Any]]:
    """Learn every task of a stream by a method that keeps float32 weights; the record of every task.

    ``accuracy_percent`` of a record are test accuracies of all tasks so far, ``body_percent`` is the size of used
    float32 weights and coded masks against the dense float32 body. Raises TrainingError as :func:`train` does.
    """
    run = _Run(settings, stream, folder, device_of(device), quiet)
    with reproducible(settings.train.threads):
        run.execute(resume)
    return run.position.records


def load_run(settings: Settings, stream: Stream, folder: Path) -> SubnetModel:
    """The trained model of a finished run, from its checkpoint."""
    run = _Run(settings, stream, folder, device_of("cpu"), quiet=True)
    if run.restore() is None:
        raise TrainingError(f"{folder}: has no checkpoint")
    if run.position.task < len(stream):
        raise TrainingError(f"{folder}: {run.position.task} of {len(stream)} tasks are learned; finish with --resume")
    return run.model


def check_run_folder(folder: Path, settings: Settings, resume: bool) -> None:
    """Refuse a folder that holds a run, unless it is a run of these settings and is to be resumed."""
    if resume:
        read_checkpoint(folder, settings_digest(settings))
    elif any((folder / name).exists() for name in (CHECKPOINT, "net.tsn")):
        raise TrainingError(f"{folder} holds a run already: go on with --resume, or choose another folder")


def discard(folder: Path) -> None:
    """Remove what an earlier run wrote into a folder, and nothing else."""
    for pattern in (
        CHECKPOINT,
        "net.tsn",
        "training.json",
        "tasks/after_*.tsn",
        "alone/task_*.tsn",
        "trained/task_*.safetensors",
    ):
        for path in folder.glob(pattern):
            path.unlink()


def device_of(name: str) -> torch.device:
    """The torch device of a name; SettingsError if there is none."""
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name, re.ASCII):
        raise SettingsError(f"device {name!r}: must be cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"device {name!r}: torch finds {torch.cuda.device_count()} CUDA devices here")
    return device


class _Run:
    """The state of one run between its steps."""

    def __init__(self, settings: Settings, stream: Stream, folder: Path, device: torch.device, quiet: bool) -> None:
        self.settings, self.stream, self.folder, self.device = settings, stream, folder, device
        self.quiet = True if quiet else None  # None: tqdm shows bars on a terminal only
        self.model = self._new_model()
        self.position = Position(settings_digest(settings))
        self.saved, self.pause = time.monotonic(), CHECKPOINT_SECONDS

    def _new_model(self) -> SubnetModel:
        architecture = architecture_of(self.settings, self.stream.input_shape)
        return SubnetModel(architecture, self.settings.formats, METHODS[self.settings.train.method]).to(self.device)

    def restore(self) -> dict[str, Tensor] | None:
        """Continue from the folder's checkpoint; returns its tensors, or None if there is no checkpoint."""
        restored = read_checkpoint(self.folder, self.position.settings)
        if restored is None:
            return None
        self.position, tensors = restored
        for number in range(len(self.position.routes)):
            self._add_task(number)
        load_model(self.model, tensors)
        return tensors

    def execute(self, resume: bool) -> None:
        """Learn what is left of the stream."""
        check_run_folder(self.folder, self.settings, resume)
        tensors = self.restore()
        if tensors is None:  # a start from the very beginning: nothing that another run left may pass for this one's
            discard(self.folder)
            tensors = {}
        bar = tqdm(total=len(self.stream), initial=self.position.task, desc="tasks", disable=self.quiet, leave=False)
        while self.position.task < len(self.stream):
            self._learn(self.stream.task(self.position.task), tensors)
            tensors = {}
            bar.update()
        bar.close()
        if self.settings.train.transfer:
            self._learn_alone()
        write_atomically(self.folder / "training.json", (json.dumps(self.position.records, indent=1) + "\n").encode())

    def labels(self) -> list[TaskLabel]:
        """What the model does not know of its tasks."""
        return [TaskLabel(x["name"], tuple(x["classes"]), bytes.fromhex(x["routing"])) for x in self.position.labels]

    def _add_task(self, number: int) -> None:
        """Append the modules of a routed task, and its bank if it is the first to live there."""
        bank = self.position.routes[number]["bank"]
        if bank == len(self.model.banks):
            self.model.add_bank(generator_of(self.settings.seed, "bank", bank))
        classes = len(self.position.labels[number]["classes"])
        self.model.add_task(bank, classes, generator_of(self.settings.seed, "head", number))

    def _learn(self, data: TaskData, tensors: dict[str, Tensor]) -> None:
        number, seed, started = self.position.task, self.settings.seed, time.monotonic()
        if len(self.position.routes) == number:
            self._begin(data)
        state = start_task(self.model, number, self.settings.train, len(self.stream))
        load_fit(state, self.position, tensors)
        device_data = Tensors.of(data, self.device)
        bar = tqdm(
            total=self.settings.train.epochs, initial=state.epoch, desc=data.name, disable=self.quiet, leave=False
        )

        def on_epoch(state: Fit) -> None:
            bar.update()
            bar.set_postfix(loss=f"{state.best_loss:.4f}")
            if time.monotonic() - self.saved >= self.pause:
                self._save(state)

        fit(self.model, number, device_data, self.settings.train, state, seed, on_epoch)
        bar.close()
        if self.model.method.codes:
            test: Accuracy = lambda: test_accuracy(self.model, number, data)  # noqa: E731
            record = prune_task(self.model, number, device_data, self.settings)
            write_trained(trained_path(self.folder, number), capture(self.model, number), self.position.settings)
            record |= finish_task(self.model, number, device_data, self.settings, test)
        else:
            record = self._finish_floats(number)
        if number == 0 and self.settings.route.enabled:
            self.position.labels[0]["routing"] = self._memory(data).hex()
        route_taken = self.position.routes[number]
        self.position.records.append(
            {"task": data.name, "route": route_taken, "seconds": round(time.monotonic() - started, 3)} | record
        )
        self.position.task += 1
        if self.model.method.codes:
            written = artifact.to_bytes(freeze(self.model, self.labels()))
            write_atomically(self.folder / "tasks" / f"after_{number:02d}.tsn", written)
            write_atomically(self.folder / "net.tsn", written)
        self._save(None)

    def _begin(self, data: TaskData) -> None:
        """Route the next task, and append its modules."""
        chosen, memory = self._route(data)
        if chosen.limited:
            limit = self.settings.route.max_banks
            tqdm.write(
                f"warning: task {data.name!r} shares bank {chosen.bank}, which is unlike it: "
                f"route.max_banks = {limit} is reached",
                file=sys.stderr,
            )
        self.position.routes.append(asdict(chosen))
        label = {"name": data.name, "classes": list(data.classes), "routing": memory.hex()}
        self.position.labels.append(label)
        self._add_task(self.position.task)

    def _finish_floats(self, number: int) -> dict[str, Any]:
        """Commit float weights as they are; test every task so far, because nothing else tells what they compute."""
        for layer in self.model.weight_layers(number):
            layer.subnet.commit(layer.weight.data, layer.grid.real)
        accuracies = [test_accuracy(self.model, task, self.stream.task(task)) for task in range(number + 1)]
        return {"accuracy_percent": accuracies, "body_percent": float_body_percent(self.model)}

    def _save(self, state: Fit | None) -> None:
        started = time.monotonic()
        save_checkpoint(self.folder, self.position, self.model, state)
        self.saved = time.monotonic()
        self.pause = max(CHECKPOINT_SECONDS, (self.saved - started) / CHECKPOINT_SHARE)

    def _route(self, data: TaskData) -> tuple[Route, bytes]:
        """Bank and routing memory of the next task. The first one's memory needs a probe that does not exist yet."""
        settings, number = self.settings.route, self.position.task
        if not settings.enabled or number == 0:
            return Route(0), b""
        probe = Probe(self.model)
        if self.position.threshold is None:
            rng = np.random.default_rng(seed_of(self.settings.seed, "threshold"))
            first = self.stream.task(0).x_train
            self.position.threshold = calibrated_threshold(first, probe, settings, rng)
        memory = self._memory(data)
        earlier = [bytes.fromhex(label["routing"]) for label in self.position.labels]
        return route(memory, earlier, self.model.bank_of, probe, settings, self.position.threshold), memory

    def _memory(self, data: TaskData) -> bytes:
        rng = np.random.default_rng(seed_of(self.settings.seed, "memory", data.name))
        return make_memory(data.x_train, Probe(self.model), self.settings.route, rng)

    def _learn_alone(self) -> None:
        """Learn every task but the first in a fresh network of its own: the yardstick of forward transfer."""
        for number in tqdm(range(1, len(self.stream)), desc="alone", disable=self.quiet, leave=False):
            path = self.folder / "alone" / f"task_{number:02d}.tsn"
            if path.exists():
                continue
            data = self.stream.task(number)
            write_atomically(path, artifact.to_bytes(learn_alone(self._new_model(), data, number, self.settings)))


def learn_alone(model: SubnetModel, data: TaskData, number: int, settings: Settings) -> PackedNetwork:
    """Learn one task from scratch in an empty model; ``number`` names its random decisions."""
    model.add_bank(generator_of(settings.seed, "alone", number))
    model.add_task(0, len(data.classes), generator_of(settings.seed, "alone head", number))
    tensors, seed = Tensors.of(data, model.device), seed_of(settings.seed, "alone", number)
    state = start_task(model, 0, settings.train, tasks=1)
    fit(model, 0, tensors, settings.train, state, seed, lambda _: None)
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
    accuracy: Accuracy = lambda: evaluate(model, task, data.x_valid, data.y_valid).accuracy  # noqa: E731
    rng = np.random.default_rng(seed_of(settings.seed, "prune", task))
    size = CodedSize(to_real(data.x_train[:CALIBRATION_IMAGES]), settings.quantize.min_bits)
    pruned = post_prune(model, task, accuracy, settings.prune, rng, size if settings.prune.by == "coded_size" else None)
    return {"pruned": asdict(pruned), "prune_seconds": round(time.monotonic() - started, 3)}


def finish_task(model: SubnetModel, task: int, data: Tensors, settings: Settings, test: Accuracy) -> dict[str, Any]:
    """From trained weights to committed integers: quantize, train on if few bits are left, commit."""
    accuracy: Accuracy = lambda: evaluate(model, task, data.x_valid, data.y_valid).accuracy  # noqa: E731
    by_bits = accuracy_by_bits(model, task, test, settings.quantize)
    quantized = adapt_bits(model, task, accuracy, settings.quantize)
    qat = min(quantized.bits.values()) <= settings.quantize.qat_bits
    if qat:
        fitted = {name: bits for name, bits in quantized.bits.items() if name not in quantized.shared}
        train_quantized(model, task, data, fitted, settings.quantize, settings.train, settings.seed)
    reached = accuracy()
    commit(model, task)
    return {
        "bits": quantized.bits,
        "shared_codebooks": list(quantized.shared),
        "qat": qat,
        "valid_accuracy": {"float": quantized.accuracy_before, "quantized": reached, "committed": accuracy()},
        "test_accuracy_by_bits": by_bits,
    }
