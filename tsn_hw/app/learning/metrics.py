"""Continual-learning metrics, measured with stored networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.integer import Simulator
from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.data.files import Inputs
from tsn_hw.learn.data.inputs import integers
from tsn_hw.learn.data.tasks import TaskStream


@dataclass(frozen=True)
class Metrics:
    """``matrix[i, j]``: test accuracy in percent of task j, with the network as stored after task i; NaN above.

    ``alone[j]``: accuracy of task j learned by itself; NaN where it was not.
    """

    matrix: NDArray[np.float64]
    alone: NDArray[np.float64]

    @property
    def acc(self) -> float:
        """Mean accuracy over all tasks, with the final network."""
        return float(self.matrix[-1].mean())

    @property
    def bwt(self) -> float:
        """Mean change of earlier tasks from when they were learned to the end, in percentage points."""
        if len(self.matrix) < 2:
            return 0.0
        return float((self.matrix[-1] - np.diag(self.matrix))[:-1].mean())

    @property
    def fwt(self) -> float | None:
        """Mean gain of later tasks over learning them alone, in percentage points; None if not measured."""
        gain = (np.diag(self.matrix) - self.alone)[1:]
        return None if not gain.size or np.isnan(gain).any() else float(gain.mean())

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; cells that do not exist are null."""
        matrix = [[None if np.isnan(cell) else cell for cell in row] for row in self.matrix.tolist()]
        return {"acc_percent": self.acc, "bwt": self.bwt, "fwt": self.fwt, "accuracy_matrix_percent": matrix}


def accuracy(simulator: Simulator, inputs: Inputs, labels: NDArray[np.int64]) -> float:
    """Test accuracy in percent of integer inference."""
    predicted = simulator.predict(integers(inputs, simulator.net.input))
    return 100 * float((predicted == labels).mean())


def measure(snapshots: Sequence[PackedNetwork], alone: dict[int, PackedNetwork], stream: TaskStream) -> Metrics:
    """Run every stored network on the test images of every task that it holds; the same object just once."""
    count = len(snapshots)
    matrix, by_itself = np.full((count, count), np.nan), np.full(count, np.nan)
    for j in range(count):
        data = stream.task(j)
        known: dict[int, float] = {}
        for i in range(j, count):
            net = snapshots[i]
            if id(net) not in known:
                known[id(net)] = accuracy(Simulator(net, j), data.x_test, data.y_test)
            matrix[i, j] = known[id(net)]
        if j in alone:
            by_itself[j] = accuracy(Simulator(alone[j], 0), data.x_test, data.y_test)
    return Metrics(matrix, by_itself)
