"""The folder of a training run, opened again: its settings, stored networks, and the trained model itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tsn_hw.app.deploy.verify import Engine, changed_snapshots
from tsn_hw.app.learning.metrics import Metrics, measure
from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import FileError, TrainingError
from tsn_hw.core.files import read_bytes
from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.checkpoint import FILE as CHECKPOINT
from tsn_hw.learn.config import settings_from_json, stream_of
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.folder import NETWORK as NETWORK
from tsn_hw.learn.folder import SETTINGS as SETTINGS
from tsn_hw.learn.folder import STREAM, snapshot_path
from tsn_hw.learn.freezing import brevitas_integers
from tsn_hw.learn.kept import kept_stream
from tsn_hw.learn.run import load_run
from tsn_hw.learn.settings import Settings


@dataclass(frozen=True)
class RunFolder:
    """A finished training run."""

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / SETTINGS).is_file():
            raise FileError(f"{self.folder} is no training run: it has no {SETTINGS}")

    @cached_property
    def settings(self) -> Settings:
        """The settings that the run was made with."""
        return settings_from_json(self.folder / SETTINGS)

    @cached_property
    def stream(self) -> TaskStream:
        """The tasks, loaded again from the data, or from the folder where it keeps them."""
        return kept_stream(self.folder) if (self.folder / STREAM).is_file() else stream_of(self.settings)

    @cached_property
    def network(self) -> PackedNetwork:
        """The network of all tasks."""
        return artifact.load(self.folder / NETWORK)

    def snapshots(self) -> dict[int, bytes]:
        """Number of tasks -> the file that was written after the last of them."""
        return {t + 1: read_bytes(path) for t, path in enumerate(self._snapshot_paths())}

    def _snapshot_paths(self) -> list[Path]:
        paths = [snapshot_path(self.folder, t) for t in range(len(self.network.tasks))]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise TrainingError(f"run {self.folder}: {', '.join(missing)} missing; finish the run with --resume")
        return paths

    def images(self, task: int, count: int) -> np.ndarray:
        """The first test images of a task, uint8."""
        return self.stream.task(task).x_test[:count]

    def brevitas(self) -> Engine | str:
        """The trained model of the checkpoint as an engine, or why it is absent."""
        if not (self.folder / CHECKPOINT).exists():
            return f"no {CHECKPOINT} in {self.folder}"
        model = load_run(self.settings, self.stream, self.folder)
        heads = {task: self.network.layers[self.network.head(task)].name for task in range(len(self.network.tasks))}

        def engine(task: int, x: Ints) -> dict[str, Ints]:
            integers = brevitas_integers(model, task, x)
            return {heads[task] if name == "head" else name: values for name, values in integers.items()}

        return engine

    def metrics(self) -> Metrics:
        """Accuracies measured now, from the stored networks, on the test data.

        A file that is byte for byte what the network of all tasks was then is not read as another network.
        """
        changed, paths = changed_snapshots(self.network, self.snapshots()), self._snapshot_paths()
        nets = [artifact.load(path) if t + 1 in changed else self.network for t, path in enumerate(paths)]
        alone = {
            t: artifact.load(path)
            for t in range(len(nets))
            if (path := self.folder / "alone" / f"task_{t:02d}.tsn").is_file()
        }
        return measure(nets, alone, self.stream)
