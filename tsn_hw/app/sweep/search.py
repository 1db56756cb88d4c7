"""Searches: Optuna proposes points by what earlier ones showed, in generations whose points run in parallel.

A generation is asked for and told in one order, whoever finishes first, so a search with the same seed asks for the
same points again. That makes it resumable without a memory of its own: what was evaluated is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tsn_hw.app.sweep.pareto import OBJECTIVES
from tsn_hw.app.sweep.points import Point, Space
from tsn_hw.app.sweep.results import Row
from tsn_hw.app.sweep.settings import Search

if TYPE_CHECKING:
    from optuna.trial import Trial

GENERATION = 8
"""Points that are asked for together."""
FAR = 1e6
"""Stands for an infinite distance, with which a sampler cannot reckon."""


def search(
    space: Space,
    settings: Search,
    evaluate: Callable[[Sequence[Point]], Sequence[Row]],
    beyond_limits: Callable[[Row], Mapping[str, float]],
) -> list[Point]:
    """The points that a search asked for, none twice. What a row is beyond a limit by name, above 0."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=settings.seed)
    study = optuna.create_study(sampler=sampler, directions=[objective.direction for objective in OBJECTIVES])
    asked: dict[Point, None] = {}
    for start in range(0, settings.points, GENERATION):
        trials = [study.ask() for _ in range(min(GENERATION, settings.points - start))]
        points = [_point(space, trial) for trial in trials]
        for trial, row in zip(trials, evaluate(points), strict=True):
            for name, beyond in beyond_limits(row).items():
                trial.set_constraint(name, min(beyond, FAR))
            study.tell(trial, [row[objective.column] for objective in OBJECTIVES])
        asked |= dict.fromkeys(points)
    return list(asked)


def _point(space: Space, trial: Trial) -> Point:
    """Values by their place in their knob's list: neighbours in the list are neighbours for the sampler."""
    return space.point(
        {name: values[trial.suggest_int(name, 0, len(values) - 1)] for name, values in space.knobs.items()}
    )
