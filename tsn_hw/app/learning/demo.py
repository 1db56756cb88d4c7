"""The whole chain on bundled data: learn five tasks, freeze, pack, export, and prove that all engines agree."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from export import write_onnx
from sim.integer import Simulator
from tsn_hw.app.deploy.verification import Verification
from tsn_hw.app.deploy.verify import verify
from tsn_hw.app.learning.contents import capacity_blocks
from tsn_hw.app.learning.metrics import Metrics
from tsn_hw.app.learning.runs import NETWORK, SETTINGS, RunFolder
from tsn_hw.app.output import CommandResult, Note, Table
from tsn_hw.app.output.plots import accuracy_heat_map
from tsn_hw.app.output.result import EXIT_DIFFERENT
from tsn_hw.core.capacity import Capacity, capacity
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.files import write_atomically
from tsn_hw.core.locks import LOCK, sole_writer
from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.baselines import fit_dense
from tsn_hw.learn.config import settings_from_json, stream_of
from tsn_hw.learn.data.inputs import integers
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.folder import open_run, settings_digest
from tsn_hw.learn.ready import architecture_of
from tsn_hw.learn.run import device_of, train
from tsn_hw.learn.settings import (
    ModelSettings,
    PruneSettings,
    QuantizeSettings,
    Settings,
    StreamSettings,
    TrainSettings,
)
from tsn_hw.learn.training import Tensors, evaluate, reproducible, seed_of

DEMO = Settings(
    stream=StreamSettings(kind="permuted", tasks=5, natural_first=True),
    model=ModelSettings(hidden=(256, 128), dropout=0.2),
    train=TrainSettings(epochs=60, batch=64, lr=3e-3, keep_ratio=0.4, threads=1, transfer=True),
    prune=PruneSettings(iterations=5),
    quantize=QuantizeSettings(min_bits=4, max_bits=4, qat_bits=4, qat_epochs=20),
)
"""Digits as they are and four permutations of them, 4-bit codebooks, 8-bit activations."""
SUMMARY, VERIFICATION, PICTURE = RESULTS = ("summary.json", "verify.json", "accuracy_matrix.png")
SAMPLES = "samples"


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured; :meth:`summary` is written as summary.json."""

    names: list[str]
    metrics: Metrics
    dense: list[float]
    verification: Verification
    capacity: Capacity
    files: dict[str, int]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The figures, as plain values."""
        return {
            "accuracy_percent": self.metrics.matrix[-1].tolist(),
            "dense_accuracy_percent": self.dense,
            "acc_percent": self.metrics.acc,
            "dense_acc_percent": float(np.mean(self.dense)),
            "bwt": self.metrics.bwt,
            "fwt": self.metrics.fwt,
            "mismatches": self.verification.mismatches,
            "verified": self.verification.passed,
            "capacity_body_percent": self.capacity.body_percent,
            "capacity_total_percent": self.capacity.total_percent,
            "file_bytes": self.files,
            "seconds": self.seconds,
        }


def run_demo(folder: Path, resume: bool = False, device: str = "cpu") -> DemoResult:
    """Run the whole chain into a folder; ``resume`` goes on where an interrupted one stopped."""
    device_of(device)  # refused before anything is discarded or written
    with sole_writer(folder / LOCK):
        if (folder / SETTINGS).exists() and settings_digest(settings_from_json(folder / SETTINGS)) != settings_digest(
            DEMO
        ):
            raise SettingsError(f"{folder} holds another run: choose another --out, or delete it")
        open_run(folder, DEMO, resume)
        for name in RESULTS:  # of an earlier demo, which this one may not reach again
            (folder / name).unlink(missing_ok=True)
        return _demo(folder, resume, device)


def _demo(folder: Path, resume: bool, device: str) -> DemoResult:
    started = time.monotonic()
    train(DEMO, stream_of(DEMO), folder, device=device, resume=resume)
    run = RunFolder(folder)
    net = run.network  # read back from the file: what follows sees only what was written
    graphs = write_onnx(net, folder / "onnx")
    checked = verify(net, lambda t: run.images(t, 256), run.brevitas(), run.snapshots())
    write_atomically(folder / VERIFICATION, (json.dumps(checked.to_json(), indent=1) + "\n").encode())
    metrics = run.metrics()
    names = [task.name for task in net.tasks]
    picture = accuracy_heat_map(metrics.matrix, names, "A column that does not change: nothing is forgotten")
    write_atomically(folder / PICTURE, picture)
    write_samples(net, run.stream, folder / SAMPLES)
    files = {path.name: path.stat().st_size for path in [folder / NETWORK, *graphs]}
    dense = dense_accuracies(run.settings, run.stream, device)
    result = DemoResult(names, metrics, dense, checked, capacity(net), files, time.monotonic() - started)
    write_atomically(folder / SUMMARY, (json.dumps(result.summary(), indent=1) + "\n").encode())
    return result


def write_samples(net: PackedNetwork, stream: TaskStream, folder: Path) -> None:
    """Of every class, the first test picture of task 0 that it reads right, as a file for ``tsn-hw run``."""
    data = stream.task(0)
    right = Simulator(net, 0).predict(integers(data.x_test, net.input)) == data.y_test
    for label, name in enumerate(data.classes):
        for picture in data.x_test[right & (data.y_test == label)][:1]:
            content = io.BytesIO()
            Image.fromarray(picture[0]).save(content, "PNG")
            write_atomically(folder / f"{name}.png", content.getvalue())


def dense_accuracies(settings: Settings, stream: TaskStream, device: str = "cpu") -> list[float]:
    """Test accuracy of one dense float network a task, same shape, same training settings."""
    accuracies = []
    architecture = architecture_of(settings, stream.input_shape)
    for number in range(len(stream)):
        data = stream.task(number)
        seed = seed_of(settings.seed, "dense", number)
        with reproducible(settings.train.threads):
            tensors = Tensors.of(data, device_of(device))
            model = fit_dense(architecture, tensors, len(data.classes), settings.train, seed)
            test = (torch.from_numpy(part).to(tensors.x_train.device) for part in (data.x_test, data.y_test))
            accuracies.append(evaluate(model, 0, *test).accuracy)
    return accuracies


def report(result: DemoResult, folder: Path) -> CommandResult:
    """The figures, and where everything is."""
    final, metrics, fwt = result.metrics.matrix[-1].tolist(), result.metrics, result.metrics.fwt
    rows = [[name, ours, dense] for name, ours, dense in zip(result.names, final, result.dense, strict=True)]
    rows.append(["mean", metrics.acc, float(np.mean(result.dense))])
    forward = "" if fwt is None else f", forward transfer {fwt:+.2f} points"
    blocks = [
        Table.of_rows(["task", "TinySubNets %", "dense float %"], rows),
        Note(
            f"backward transfer {metrics.bwt} points{forward}\n"
            f"mismatching integers between engines: {result.verification.mismatches}"
        ),
        *capacity_blocks(result.capacity),
        Table.of_rows(["file", "bytes"], list(result.files.items())),
        Note(
            f"{result.seconds:.0f} s; everything is in {folder} (summary.json, verify.json, accuracy_matrix.png)\n"
            f"test pictures: tsn-hw run {folder}/onnx/task_00.onnx {folder}/{SAMPLES}/*.png"
        ),
    ]
    return CommandResult(blocks, result.summary(), 0 if result.verification.passed else EXIT_DIFFERENT)
