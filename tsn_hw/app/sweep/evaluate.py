"""Points into results, in any process that can read the run: each is a packed network, run by the exact simulator.

A process keeps what points have in common: the run as training left it, test images, codebooks, results of layers.
It computes with one thread, so that as many processes as processors are in nobody's way.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.cost import estimate_cost
from sim.integer import Simulator
from sim.prefix import PrefixCache
from sim.search import SearchLimits, search_folding
from tsn_hw.app.learning.runs import NETWORK, RunFolder
from tsn_hw.app.sweep.results import Row
from tsn_hw.app.sweep.settings import DeviceBudget
from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import FoldingError, TrainingError
from tsn_hw.core.files import read_bytes
from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.codebook import fit_codebook
from tsn_hw.learn.config import stream_of
from tsn_hw.learn.data.inputs import integers
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.run import train
from tsn_hw.learn.settings import Settings
from tsn_hw.learn.start import keep_weights, weights_of
from tsn_hw.learn.trained import trained_path
from tsn_hw.learn.training import reproducible
from tsn_hw.learn.variants import TrainedStream, Variant, float_accuracies, load_trained, pack

SECTIONS = ("codes_bits", "codebooks_bits", "masks_bits", "heads_bits", "requantization_bits")
_ONE_AT_A_TIME = threading.Lock()
"""Threads of one process share torch's settings and the caches."""


@dataclass(frozen=True)
class Base:
    """A finished run that points are made of: its folder, and a digest of what it trained."""

    folder: Path
    digest: str


def base_of(settings: Settings, stream: TaskStream, folder: Path) -> Base:
    """The base of a finished run's folder; TrainingError if it is not finished or did not keep its trained tasks."""
    load_trained(settings, stream, folder)  # complains of what is missing better than the lines below
    files = [folder / NETWORK, *(trained_path(folder, task) for task in range(len(stream)))]
    digests = b"".join(hashlib.sha256(read_bytes(path)).digest() for path in files)
    return Base(folder, hashlib.sha256(digests).hexdigest()[:16])


@dataclass
class CodebookCache:
    """:func:`fit_codebook`, once for the same values, bits and bounds."""

    books: dict[tuple[bytes, int, tuple[int, int]], Ints] = field(default_factory=dict)

    def fit(self, values: ArrayLike, bits: int, bounds: tuple[int, int]) -> Ints:
        """The codebook of :func:`fit_codebook`."""
        key = hashlib.sha256(np.asarray(values, np.float64).tobytes()).digest(), bits, bounds
        if key not in self.books:
            self.books[key] = fit_codebook(values, bits, bounds)
        return self.books[key]


@dataclass
class Bench:
    """A run to try variants on, and what they have in common."""

    trained: TrainedStream
    codebooks: CodebookCache = field(default_factory=CodebookCache)
    results: PrefixCache = field(default_factory=PrefixCache)

    images: dict[tuple[int, ActFormat], NDArray[np.integer]] = field(default_factory=dict)
    labels: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def accuracies(self, nets: Sequence[PackedNetwork]) -> list[tuple[float, ...]]:
        """Test accuracy in percent of every task of every network."""
        by_task = []
        for task in range(len(self.trained.banks)):
            runs = [(Simulator(net, task), self._test_images(task, net.input)) for net in nets]
            predicted = [logits.argmax(axis=1) for logits in self.results.logits(runs)]
            by_task.append([100 * float((classes == self.labels[task]).mean()) for classes in predicted])
        return list(zip(*by_task, strict=True))

    def _test_images(self, task: int, form: ActFormat) -> NDArray[np.integer]:
        """Test inputs as integers of an input format, and the labels beside them."""
        if (task, form) not in self.images:
            data = self.trained.stream.task(task)
            dtype = np.uint8 if form.range[0] == 0 and form.range[1] < 256 else np.int32
            self.images[task, form] = integers(data.x_test, form).astype(dtype)
            self.labels[task] = data.y_test
        return self.images[task, form]


@lru_cache(maxsize=2)
def bench(base: Base) -> Bench:
    """The bench of a base; a process keeps the last two. TrainingError if its files are not what they were."""
    run = RunFolder(base.folder)
    if base_of(run.settings, run.stream, base.folder) != base:
        raise TrainingError(f"run {base.folder}: is not the one that the sweep began with")
    trained = load_trained(run.settings, run.stream, base.folder)
    one_thread = replace(run.settings, train=replace(run.settings.train, threads=1))
    return Bench(replace(trained, settings=one_thread))


def evaluate(base: Base, variants: Sequence[Variant], part: DeviceBudget | None) -> list[tuple[Row, bytes]]:
    """The results and files of some variants of a run, looked at together: their networks share results of layers."""
    with _ONE_AT_A_TIME, reproducible(threads=1):
        found = bench(base)
        nets = [pack(found.trained, variant, found.codebooks.fit) for variant in variants]
        accuracies = found.accuracies(nets)
        return [_result(net, of_net, part) for net, of_net in zip(nets, accuracies, strict=True)]


def float_accuracy(base: Base) -> float:
    """Mean test accuracy in percent of a run's float weights."""
    with _ONE_AT_A_TIME, reproducible(threads=1):
        return float(np.mean(float_accuracies(bench(base).trained)))


def learn(settings: Settings, folder: Path, run: Path | None) -> None:
    """Learn a run, or what is left of it, of the tasks that a finished run had, or that the settings describe."""
    with _ONE_AT_A_TIME:
        stream = stream_of(settings) if run is None else RunFolder(run).stream
        if run is not None:
            keep_weights(folder, weights_of(settings.model, run, {}))
        train(settings, stream, folder, resume=True, quiet=True)


def _result(net: PackedNetwork, accuracies: tuple[float, ...], part: DeviceBudget | None) -> tuple[Row, bytes]:
    """The row of a network and its file."""
    written = artifact.to_bytes(net)
    sizes = capacity(net, written)
    costs = estimate_cost(net, stored=sizes)
    row = {
        "accuracy_percent": sum(accuracies) / len(accuracies),
        "total_percent": sizes.total_percent,
        "body_percent": sizes.body_percent,
        "bops": costs.integer.bops / len(net.tasks),
        "file_bits": sizes.file_bits,
        **{name: getattr(sizes, name) for name in SECTIONS},
        "images_bits": costs.images_bits,
        "used_weights": sum(layer.used for layer in sizes.body),
        **({} if part is None else _on(part, net)),
        **{f"accuracy_percent.{task.name}": value for task, value in zip(net.tasks, accuracies, strict=True)},
        "sha256": hashlib.sha256(written).hexdigest(),
    }
    return row, written


def _on(part: DeviceBudget, net: PackedNetwork) -> Row:
    """The share of its scarcest resource that the accelerator takes, and its rate; None where it does not fit."""
    try:
        estimate = search_folding(
            net,
            part.platform.device,
            target_fps=part.target_fps,
            limits=SearchLimits(part.limit_percent, coefficients=part.platform.coefficients),
        ).estimate
    except FoldingError:
        return {"device_percent": None, "inferences_per_second": None}
    share = estimate.utilization_percent[estimate.binding]
    return {"device_percent": share, "inferences_per_second": estimate.inferences_per_second}
