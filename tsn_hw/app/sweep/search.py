"""Searches: Optuna proposes points by what earlier ones showed, in generations whose points run in parallel.

A generation is asked for and told in one order, whoever finishes first, so a search with the same seed asks for the
same points again. That makes it resumable without a memory of its own: what was evaluated is looked up.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tsn_hw.app.sweep.pareto import OBJECTIVES
from tsn_hw.app.sweep.points import Point, Space
from tsn_hw.app.sweep.results import Row
from tsn_hw.app.sweep.settings import Search
from tsn_hw.errors import EngineError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

GENERATION = 8
"""Points that are asked for together."""
_EXCESSES = "excesses"


def require_optuna() -> None:
    """EngineError if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise EngineError("a [search] needs Optuna: pip install 'tsn-hw[sweep]'")


def search(
    space: Space,
    settings: Search,
    evaluate: Callable[[Sequence[Point]], Sequence[Row]],
    excesses: Callable[[Row], Sequence[float]],
) -> list[Point]:
    """The points that a search asked for, none twice. ``excesses`` of a row are above 0 where it breaks a budget."""
    import optuna

    def constraints(trial: FrozenTrial) -> Sequence[float]:
        found: list[float] = trial.user_attrs[_EXCESSES]
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # multivariate sampling, constraints
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=settings.seed, multivariate=True, constraints_func=constraints)
        study = optuna.create_study(sampler=sampler, directions=[objective.direction for objective in OBJECTIVES])
        asked: dict[Point, None] = {}
        for start in range(0, settings.points, GENERATION):
            trials = [study.ask() for _ in range(min(GENERATION, settings.points - start))]
            points = [_point(space, trial) for trial in trials]
            for trial, row in zip(trials, evaluate(points), strict=True):
                trial.set_user_attr(_EXCESSES, list(excesses(row)))
                study.tell(trial, [row[objective.column] for objective in OBJECTIVES])
            asked |= dict.fromkeys(points)
        return list(asked)


def _point(space: Space, trial: Trial) -> Point:
    """Values by their place in their knob's list: neighbours in the list are neighbours for the sampler."""
    return space.point(
        {name: values[trial.suggest_int(name, 0, len(values) - 1)] for name, values in space.knobs.items()}
    )
