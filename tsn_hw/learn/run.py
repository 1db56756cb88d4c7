"""A whole training run: learn every task of a stream, freeze it, write it down, go on. Resumable after any kill.

The folder of a run holds ``net.tsn`` (all tasks so far), ``tasks/after_00.tsn`` ... (the network as it stood after
each task: the evidence for zero forgetting), ``trained/task_00.safetensors`` ... (every task before it was quantized:
what other bit-widths can be tried on), ``alone/task_01.tsn`` ... (tasks learned alone, where forward transfer is
measured), ``training.json`` (what was decided, and how long it took) and the checkpoint.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsn_hw.core import artifact
from tsn_hw.core.errors import SettingsError, TrainingError, warn
from tsn_hw.core.files import StrPath, read_bytes, write_atomically
from tsn_hw.core.locks import LOCK, sole_writer
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.writing import Writer
from tsn_hw.learn.architectures import Weights
from tsn_hw.learn.baselines import float_body_percent
from tsn_hw.learn.bodies import read_onnx
from tsn_hw.learn.callbacks import Callbacks, Epoch, RunOptions
from tsn_hw.learn.checkpoint import FILE as CHECKPOINT
from tsn_hw.learn.checkpoint import (
    Label,
    Position,
    load_fit,
    load_model,
    read_checkpoint,
    refused_as_damaged,
    save_checkpoint,
)
from tsn_hw.learn.data.inputs import prepared
from tsn_hw.learn.data.tasks import TaskData, TaskStream
from tsn_hw.learn.folder import (
    NETWORK,
    RECORDS,
    SETTINGS,
    digests,
    discard,
    open_run,
    settings_digest,
    settings_to_json,
    snapshot_path,
)
from tsn_hw.learn.freezing import TaskLabel, freeze
from tsn_hw.learn.kept import keep
from tsn_hw.learn.methods import METHODS
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.progress import progress, stage
from tsn_hw.learn.prune import Accuracy
from tsn_hw.learn.ready import architecture_of, check_size, check_trainable, few_to_decide_on, memory_errors
from tsn_hw.learn.route import Probe, Route, check_memory, make_memory, route, thresholds
from tsn_hw.learn.settings import Settings
from tsn_hw.learn.start import keep_weights, weights_of
from tsn_hw.learn.steps import finish_task, learn_alone, prune_task, test_accuracy
from tsn_hw.learn.trained import capture, trained_path, write_trained
from tsn_hw.learn.training import (
    Fit,
    Tensors,
    fit,
    generator_of,
    numbers_held,
    reproducible,
    seed_of,
    start_task,
    trainable_state,
)

CHECKPOINT_SECONDS = 15.0
"""Least time between two checkpoints within a task; the end of a task always writes one."""
CHECKPOINT_SHARE = 0.03
"""Share of a run that checkpoints within a task may take: those of large networks are further apart."""


def train(
    settings: Settings,
    stream: TaskStream,
    folder: StrPath,
    device: str = "cpu",
    resume: bool = False,
    quiet: bool = False,
) -> PackedNetwork:
    """Learn every task of a stream and return the packed network of all of them.

    ``folder`` gets the files of the run (the module says which), ``device`` is "cpu", "cuda" or "cuda:N"; ``resume``
    goes on with a run that was stopped, ``quiet`` shows no progress.

    Same settings, same machine, same bytes: also when the run is killed at any moment and resumed. A finished run whose
    stream has grown since goes on with the new tasks; the network of the old ones stays what it was, byte for byte.

    Raises SettingsError for what cannot be trained, before anything is written; FileError if another process writes
    into the folder; TrainingError if it holds a run and ``resume`` is off, or a run of other settings.
    """
    check_trainable(settings, stream, device_of(device))
    run = Run(settings, stream, Path(folder), RunOptions(device, resume, quiet))
    run.execute()
    return run.network()


def train_floats(
    settings: Settings, stream: TaskStream, folder: Path, device: str = "cpu", resume: bool = False, quiet: bool = False
) -> list[dict[str, Any]]:
    """Learn every task of a stream by a method that keeps float32 weights; the record of every task.

    ``accuracy_percent`` of a record are test accuracies of all tasks so far, ``body_percent`` is the size of used
    float32 weights and coded masks against the dense float32 body. Raises as :func:`train` does.
    """
    check_size(settings, stream, device_of(device))
    run = Run(settings, stream, folder, RunOptions(device, resume, quiet))
    run.execute()
    return list(run.position.records)


def load_run(settings: Settings, stream: TaskStream, folder: StrPath) -> SubnetModel:
    """The trained model of a finished run, from its checkpoint.

    Raises TrainingError if the run is not finished, is one of other settings or tasks, or its checkpoint is damaged.
    """
    folder = Path(folder)
    run = Run(settings, stream, folder, RunOptions(quiet=True))
    if not (folder / CHECKPOINT).exists():
        raise TrainingError(f"{folder}: has no checkpoint")
    run.restore(read_checkpoint(folder, digests(run.settings)))
    if run.position.task < len(stream):
        raise TrainingError(f"{folder}: {run.position.task} of {len(stream)} tasks are learned; finish with --resume")
    return run.model


def grown_from(settings: Settings, folder: Path) -> int:
    """Number of tasks that a run had when it was finished, before its stream grew; 0 if it never did."""
    return read_checkpoint(folder, digests(settings))[0].grown_from


def device_of(name: str) -> torch.device:
    """The torch device of a name; SettingsError if there is none."""
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name, re.ASCII):
        raise SettingsError(f"device {name!r}: must be cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"device {name!r}: torch finds {torch.cuda.device_count()} CUDA devices here")
    return device


class Run:
    """The state of one run between its steps."""

    def __init__(
        self,
        settings: Settings,
        stream: TaskStream,
        folder: Path,
        options: RunOptions,
        callbacks: Callbacks = Callbacks(),
        weights: Weights = MappingProxyType({}),
    ) -> None:
        """``weights`` are those that the settings ask to start from, where the caller has them."""
        self.settings = prepared(replace(settings, model=read_onnx(settings.model)), stream)
        self.stream, self.folder, self.device = stream, folder, device_of(options.device)
        self.resume, self.quiet, self.callbacks = options.resume, options.quiet, callbacks
        self.weights = weights_of(self.settings.model, folder, weights)
        self.model = self._new_model()
        self.position = Position(settings_digest(self.settings), tasks=len(stream))
        self._frozen: PackedNetwork | None = None
        self._writer = Writer()
        self.saved, self.pause = time.monotonic(), CHECKPOINT_SECONDS

    def _new_model(self) -> SubnetModel:
        architecture = replace(architecture_of(self.settings, self.stream.input_shape), weights=self.weights)
        model = SubnetModel(architecture, self.settings.formats, METHODS[self.settings.train.method]).to(self.device)
        model.callbacks = self.callbacks
        return model

    def restore(self, checkpoint: tuple[Position, dict[str, Tensor]]) -> None:
        """Continue where a checkpoint stands; TrainingError if its tasks are not those of the stream."""
        position, tensors = checkpoint
        for label, name, classes in zip_longest(position.labels, self.stream.names, self.stream.classes):
            if label is not None and (label.name, label.classes) != (name, classes):
                raise TrainingError(f"{self.folder}: task {label.name!r} with its classes left the stream")
        if position.task == position.tasks < len(self.stream):
            position.grown_from = position.task
        position.settings, position.tasks, self.position = self.position.settings, len(self.stream), position
        for number in range(len(position.routes)):
            self._add_task(number)
        with refused_as_damaged(self.folder / CHECKPOINT):
            if self.settings.route.enabled and position.task:
                for label in position.labels:
                    check_memory(bytes.fromhex(label.routing), self.model, self.settings.route)
            load_model(self.model, position, tensors)

    def execute(self) -> None:
        """Learn what is left of the stream."""
        with sole_writer(self.folder / LOCK), reproducible(self.settings.train.threads), memory_errors():
            checkpoint = open_run(self.folder, self.settings, self.resume)
            discard(self.folder, partial=checkpoint is not None)
            if checkpoint is not None:
                self.restore(checkpoint)
                self._check_files()
            write_atomically(self.folder / SETTINGS, settings_to_json(self.settings).encode())
            keep_weights(self.folder, self.weights)
            if self.position.task < len(self.stream):
                for line in few_to_decide_on(self.stream):
                    warn(line)
            self._learn_all({} if checkpoint is None else checkpoint[1])
            if self.settings.train.transfer:
                self._learn_alone()
            self._prove()
            write_atomically(self.folder / RECORDS, (json.dumps(self.position.records, indent=1) + "\n").encode())

    def _learn_all(self, tensors: dict[str, Tensor]) -> None:
        with stage("tasks", len(self.stream), self.position.task, quiet=self.quiet) as told:
            while self.position.task < len(self.stream):
                self._learn(self.stream.task(self.position.task), tensors)
                tensors = {}
                told.advance()

    def network(self, earlier: PackedNetwork | None = None) -> PackedNetwork:
        """The packed network of the finished tasks, all read from the model but what an earlier one says."""
        labels = self.position.labels[: self.position.task]
        told = [TaskLabel(x.name, x.classes, bytes.fromhex(x.routing)) for x in labels]
        return freeze(self.model, told, earlier)

    def _check_files(self) -> None:
        """Hold data and networks of finished tasks against the checkpoint; networks that are missing are written."""
        for number, label in enumerate(self.position.labels if self.position.task < len(self.stream) else ()):
            if label.data not in ("", self.stream.digest(number)):
                raise TrainingError(f"task {label.name!r}: its data are not what {self.folder} has learned them from")
        if not self.model.method.codes or not self.position.task:
            return
        net = self.network()
        written = list(artifact.after_each_task(net))
        places = [snapshot_path(self.folder, number) for number in range(len(written))]
        for path, data in zip([*places, self.folder / NETWORK], [*written, written[-1]], strict=True):
            older = written[:-1] if path.name == NETWORK else []  # as a kill between two files leaves it
            found = artifact.renewed(read_bytes(path)) if path.exists() else None
            if found is None or found in older:
                write_atomically(path, data)
            elif found != data:
                raise TrainingError(f"{path}: is not the network of the checkpoint; delete it, and --resume writes it")

    def _prove(self) -> None:
        """Read as a whole, the model is what was written task by task, and what it was before its stream grew."""
        grown_from = self.position.grown_from
        if not self.model.method.codes or not (grown_from or self._frozen):
            return
        net = self.network()
        if self._frozen and artifact.to_bytes(net) != read_bytes(self.folder / NETWORK):
            raise TrainingError(
                f"{self.folder / NETWORK}: is not the network of the model; start again in another folder"
            )
        if grown_from:
            old = artifact.renewed(read_bytes(snapshot_path(self.folder, grown_from - 1)))
            if artifact.to_bytes(net.first_tasks(grown_from)) != old:
                raise TrainingError(f"{self.folder}: later tasks have changed what the first {grown_from} compute")

    def _add_task(self, number: int) -> None:
        """Append the modules of a routed task, and its bank if it is the first to live there."""
        bank = self.position.routes[number].bank
        if bank == len(self.model.banks):
            self.model.add_bank(generator_of(self.settings.seed, "bank", bank))
        classes = len(self.position.labels[number].classes)
        self.model.add_task(bank, classes, generator_of(self.settings.seed, "head", number))

    def _learn(self, data: TaskData, tensors: dict[str, Tensor]) -> None:
        number, started = self.position.task, time.monotonic()
        if not self.stream.stored:
            keep(self.folder, number, data)
        if len(self.position.routes) == number:
            self._begin(data)
        device_data = Tensors.of(data, self.device)
        state = self._fit(data.name, device_data, tensors)
        if self.model.method.codes:
            test: Accuracy = lambda: test_accuracy(self.model, number, data)  # noqa: E731
            with numbers_held(data.name, state):
                record = prune_task(self.model, number, device_data, self.settings)
                write_trained(trained_path(self.folder, number), capture(self.model, number), self.position.settings)
                record |= finish_task(self.model, number, device_data, self.settings, test)
        else:
            record = self._finish_floats(number)
        if number == 0 and self.settings.route.enabled:
            first, *others = self.position.labels
            self.position.labels = replace(first, routing=self._memory(data).hex()), *others
        taken = {"route": asdict(self.position.routes[number]), "seconds": round(time.monotonic() - started, 3)}
        self.position.records += ({"task": data.name} | taken | record,)
        self.position.task += 1
        with numbers_held(data.name, state):
            written = self._next_network() if self.model.method.codes else b""
        self._save(None)  # what is written below follows from it, also after a kill
        if written:
            write_atomically(snapshot_path(self.folder, number), written)
            write_atomically(self.folder / NETWORK, written)
        if self.callbacks.on_task is not None:
            self.callbacks.on_task(self.position.records[-1])

    def _next_network(self) -> bytes:
        """The file of the network with the task that was just finished; of earlier tasks nothing is made again."""
        self._frozen = self.network(self._frozen)
        return self._writer.file(self._frozen)

    def _fit(self, name: str, data: Tensors, tensors: dict[str, Tensor]) -> Fit:
        """Train the task, from its start or from where a checkpoint's tensors leave it."""
        number, settings = self.position.task, self.settings.train
        state = start_task(self.model, number, settings, len(self.stream), self.settings.seed)
        with refused_as_damaged(self.folder / CHECKPOINT):
            load_fit(state, self.position, tensors, trainable_state(self.model, number))

        def on_epoch(state: Fit) -> None:
            told.advance(f"loss={state.best_loss:.4f}")
            if self.callbacks.on_epoch is not None:
                self.callbacks.on_epoch(Epoch(name, state.epoch, settings.epochs, state.best_loss))
            if time.monotonic() - self.saved >= self.pause:
                self._save(state)

        with stage(f"{name}, epochs", settings.epochs, state.epoch, quiet=self.quiet) as told:
            fit(self.model, number, data, state, on_epoch)
        return state

    def _begin(self, data: TaskData) -> None:
        """Route the next task, and append its modules."""
        chosen, memory = self._route(data)
        if chosen.limited:
            warn(
                f"task {data.name!r} shares bank {chosen.bank}, which is unlike it: "
                f"route.max_banks = {self.settings.route.max_banks} is reached"
            )
        self.position.routes += (chosen,)
        self.position.labels += (Label(data.name, data.classes, memory.hex(), data.digest),)
        self._add_task(self.position.task)

    def _finish_floats(self, number: int) -> dict[str, Any]:
        """Commit float weights as they are; test every task so far, because nothing else tells what they compute."""
        for layer in self.model.weight_layers(number).values():
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
        memory = self._memory(data)
        earlier = [bytes.fromhex(label.routing) for label in self.position.labels]
        room = thresholds(self.model, self.settings, len(self.stream))
        return route(memory, earlier, self.model.bank_of, probe, settings, room), memory

    def _memory(self, data: TaskData) -> bytes:
        rng = np.random.default_rng(seed_of(self.settings.seed, "memory", data.name))
        return make_memory(data.x_train, Probe(self.model), self.settings.route, rng)

    def _learn_alone(self) -> None:
        """Learn every task but the first in a fresh network of its own: the yardstick of forward transfer."""
        for number in progress(range(1, len(self.stream)), "tasks alone", quiet=self.quiet):
            path = self.folder / "alone" / f"task_{number:02d}.tsn"
            if path.exists():
                continue
            data = self.stream.task(number)
            write_atomically(path, artifact.to_bytes(learn_alone(self._new_model(), data, number, self.settings)))
