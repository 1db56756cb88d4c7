"""Which points no other betters, and which one a budget chooses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tsn_hw.app.sweep.results import Row
from tsn_hw.app.sweep.settings import Budget


@dataclass(frozen=True)
class Objective:
    """A column of the table that should be large or small."""

    name: str
    column: str
    direction: Literal["maximize", "minimize"]
    label: str

    def loss(self, row: Row) -> float:
        """The value, smaller is better."""
        value = float(row[self.column])
        return -value if self.direction == "maximize" else value


ACCURACY = Objective("accuracy", "accuracy_percent", "maximize", "mean test accuracy (%)")
SIZE = Objective("size", "total_percent", "minimize", "file size (% of one dense float32 network)")
OPERATIONS = Objective("operations", "bops", "minimize", "bit operations of an inference")
OBJECTIVES = (ACCURACY, SIZE, OPERATIONS)
DEVICE = Objective("device", "device_percent", "minimize", "share of the scarcest resource (%)")
"""No objective of searches: the smallest accelerator is small where the network is. A budget may limit it."""


def betters(row: Row, other: Row, objectives: Sequence[Objective] = OBJECTIVES) -> bool:
    """Whether a row is at least as good as another in all objectives, and better in one."""
    losses = [(objective.loss(row), objective.loss(other)) for objective in objectives]
    return all(a <= b for a, b in losses) and any(a < b for a, b in losses)


def front(rows: Sequence[Row], objectives: Sequence[Objective] = OBJECTIVES) -> list[int]:
    """Indices of the rows that no other row betters; of rows that are equally good the first stands for all.

    >>> rows = [{"accuracy_percent": a, "total_percent": s} for a, s in ((90, 5), (95, 9), (94, 9), (95, 9))]
    >>> front(rows, (ACCURACY, SIZE))
    [0, 1]
    """
    by_loss: dict[tuple[float, ...], int] = {}
    for number, row in enumerate(rows):
        by_loss.setdefault(tuple(objective.loss(row) for objective in objectives), number)
    kept: list[int] = []
    for loss in sorted(by_loss):  # whatever betters a row comes before it in this order
        number = by_loss[loss]
        if not any(betters(rows[other], rows[number], objectives) for other in kept):
            kept.append(number)
    return sorted(kept)


def beyond_limits(row: Row, budget: Budget, float_percent: float) -> dict[str, float]:
    """By how much a row is beyond every limit of a budget, infinite where it cannot be told; 0 and below keeps it."""
    values = {"accuracy_drop": float_percent - row[ACCURACY.column], "total_percent": row[SIZE.column]}
    limits = {name: getattr(budget, name) for name in values}
    if budget.part is not None:
        share = row[DEVICE.column]
        values["device_percent"] = math.inf if share is None else share
        limits["device_percent"] = budget.part.limit_percent
    return {name: values[name] - limit for name, limit in limits.items() if limit is not None}


def choose(rows: Sequence[Row], budget: Budget, float_percent: float) -> int | None:
    """Index of the smallest network within a budget, of equal ones the most accurate; None if there is none."""
    if budget == Budget():
        return None
    within = [i for i, row in enumerate(rows) if max(beyond_limits(row, budget, float_percent).values()) <= 0]
    return min(within, key=lambda i: (SIZE.loss(rows[i]), ACCURACY.loss(rows[i]), i), default=None)


def nearest(rows: Sequence[Row], budget: Budget, float_percent: float) -> str:
    """Which row comes nearest to a budget that none keeps, in words."""
    beyond = [beyond_limits(row, budget, float_percent) for row in rows]
    broken = [{name: amount for name, amount in each.items() if amount > 0} for each in beyond]
    fewest = min(range(len(rows)), key=lambda i: (len(broken[i]), sum(broken[i].values())))
    by = " and ".join(
        f"exceeds {name} by {amount:.2f}" if amount < math.inf else "does not fit the part"
        for name, amount in broken[fewest].items()
    )
    return f"budget: none of the {len(rows)} points keeps it; the nearest, point {fewest}, {by}"
