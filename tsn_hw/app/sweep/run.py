"""``tsn-hw sweep``: learn what is to be learned, evaluate what was not, and write tables, pictures and networks."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from tsn_hw.app.learning.runs import RunFolder
from tsn_hw.app.output import CommandResult, Note
from tsn_hw.app.sweep.engines import Engine, require_package
from tsn_hw.app.sweep.evaluate import Base, base_of, learn
from tsn_hw.app.sweep.pareto import beyond_limits, choose, front, nearest
from tsn_hw.app.sweep.plots import pictures, points_table
from tsn_hw.app.sweep.points import Point, Space, space_of
from tsn_hw.app.sweep.results import (
    ACCURACY_COLUMN,
    COLUMNS,
    SUMMARY,
    Row,
    Sweep,
    check_row,
    open_results,
    to_csv,
    to_parquet,
)
from tsn_hw.app.sweep.runner import Runner
from tsn_hw.app.sweep.search import search
from tsn_hw.app.sweep.settings import Budget, SweepSettings, read_sweep
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.files import write_atomically
from tsn_hw.core.layers import Weighted
from tsn_hw.core.locks import LOCK, sole_writer
from tsn_hw.learn.config import read_settings, stream_of
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.folder import settings_digest
from tsn_hw.learn.models import HEAD
from tsn_hw.learn.progress import progress
from tsn_hw.learn.ready import architecture_of
from tsn_hw.learn.settings import Settings

RESULTS = "results.jsonl"


def run_sweep(file: Path, folder: Path, engine: Engine, parquet: bool = False) -> Sweep:
    """Do a sweep into a folder, or what is left of it.

    Raises SettingsError, after everything else is written, if no point is within the budget.
    """
    settings = read_sweep(file)
    if settings.search is not None:
        require_package("optuna", "a [search] needs Optuna")
    if parquet:
        require_package("pyarrow", "--parquet needs pyarrow")
    run = RunFolder(Path(settings.run)) if settings.run else None
    trained = read_settings(Path(settings.train)) if run is None else run.settings
    stream = stream_of(trained) if run is None else run.stream
    space = space_of(settings.values, trained, _layer_names(trained, stream))
    points = space.points() if settings.search is None else []  # refused before anything is learned
    with sole_writer(folder / LOCK), open_results(folder / RESULTS) as results:
        for row in results.rows.values():
            check_row(row, str(folder / RESULTS), COLUMNS if "sha256" in row else ACCURACY_COLUMN)
        bases = _bases(settings, trained, stream, space, folder, engine)
        runner = Runner(bases, results, engine, settings.budget.part, folder / "networks")
        sweep = _evaluate(settings, space, points, runner, trained)
        _write(sweep, folder, parquet)
    if sweep.chosen is None and settings.budget != Budget():
        raise SettingsError(nearest(sweep.rows, settings.budget, sweep.float_percent))
    return sweep


def told(sweep: Sweep, folder: Path) -> CommandResult:
    """What the command prints: the front as a table, and as data the whole sweep."""
    chosen = "" if sweep.chosen is None else f"smallest within the budget: point {sweep.chosen}\n"
    lines = (
        f"{chosen}{len(sweep.front)} of {len(sweep.rows)} points that no other betters; "
        f"float weights {sweep.float_percent:.2f} %\n{folder}: table.csv, {SUMMARY}, pareto_*.png and .svg, networks/"
    )
    return CommandResult([points_table(sweep, sweep.front), Note(lines)], asdict(sweep))


def _evaluate(settings: SweepSettings, space: Space, points: list[Point], runner: Runner, trained: Settings) -> Sweep:
    float_percent, budget = runner.float_percent(), settings.budget
    if settings.search is not None:
        points = search(space, settings.search, runner.rows, lambda row: beyond_limits(row, budget, float_percent))
    rows = runner.rows(points)
    best = front(rows)
    runner.keep_networks([points[i] for i in best], [rows[i] for i in best])
    numbered = tuple(
        {"point": number} | _knobs(space, point, trained) | row
        for number, (point, row) in enumerate(zip(points, rows, strict=True))
    )
    runs = tuple(base.digest for base in runner.bases.values())
    return Sweep(numbered, runs, float_percent, tuple(best), budget, choose(rows, budget, float_percent))


def _layer_names(settings: Settings, stream: TaskStream) -> tuple[str, ...]:
    body = architecture_of(settings, stream.input_shape)
    return (*(layer.name for layer in body.layers if isinstance(layer, Weighted)), HEAD)


def _bases(
    settings: SweepSettings,
    trained: Settings,
    stream: TaskStream,
    space: Space,
    folder: Path,
    engine: Engine,
) -> dict[float, Base]:
    """A finished run for every keep ratio; those that are not there are learned into the sweep's folder."""
    runs: dict[float, tuple[Settings, Path]] = {}
    for ratio in space.knobs["keep_ratio"]:
        if settings.run and ratio == trained.train.keep_ratio:
            runs[ratio] = trained, Path(settings.run)
        else:
            wanted = replace(trained, train=replace(trained.train, keep_ratio=ratio, transfer=False))
            runs[ratio] = wanted, folder / "runs" / f"keep_{ratio:g}_{settings_digest(wanted)[:8]}"
    source = Path(settings.run) if settings.run else None
    calls = [(wanted, path, source) for wanted, path in runs.values() if not (path / "training.json").is_file()]
    if settings.run:
        calls = [call for call in calls if call[1] != Path(settings.run)]  # it is finished, or refused below
    learned = engine(learn, calls)
    for _ in progress(learned, "runs", len(calls)):
        pass
    return {ratio: base_of(wanted, stream, path) for ratio, (wanted, path) in runs.items()}


def _knobs(space: Space, point: Point, trained: Settings) -> Row:
    """The columns of a point's knobs."""
    variant = point.variant
    bits = {f"bits.{name}": width for name, width in zip(space.layer_names, variant.code_bits, strict=True)}
    return {
        "keep_ratio": point.keep_ratio,
        **bits,
        "activation_bits": trained.formats.act_bits if variant.act_bits is None else variant.act_bits,
        "centroid_bits": variant.centroid_bits,
        "prune_iterations": variant.prune_iterations,
        "prune_drop": variant.prune_drop,
        "qat_epochs": variant.qat_epochs,
    }


def _write(sweep: Sweep, folder: Path, parquet: bool) -> None:
    """The table in all its forms, and pictures."""
    files = {SUMMARY: (json.dumps(asdict(sweep), indent=1) + "\n").encode(), "table.csv": to_csv(sweep.rows)}
    if parquet:
        files["table.parquet"] = to_parquet(sweep.rows)
    for name, data in (files | pictures(sweep)).items():
        write_atomically(folder / name, data)
