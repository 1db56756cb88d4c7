"""The paper's experiments: every run that its tables need, one after the other, resumable.

A *variant* is one training run: the preset with a few settings changed. Every finished run is one line of
``results.jsonl``, with its settings and all that the tables are made of; what has its line is not run again, and an
interrupted run goes on from its checkpoint.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsn_hw.app.learning.demo import dense_accuracies
from tsn_hw.app.learning.runs import SETTINGS, RunFolder
from tsn_hw.app.output import CommandResult, Note
from tsn_hw.app.paper.tables import TABLES, write_tables
from tsn_hw.app.paper.without_rounding import accuracy_without_rounding
from tsn_hw.core.capacity import Capacity, capacity
from tsn_hw.core.errors import FileError, SettingsError
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.core.locks import LOCK, sole_writer
from tsn_hw.core.records import parse_json
from tsn_hw.learn.config import read_settings, settings_from_json, stream_of
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.folder import settings_digest, settings_to_json
from tsn_hw.learn.methods import METHODS
from tsn_hw.learn.run import device_of, train, train_floats
from tsn_hw.learn.settings import Settings

RESULTS = "results.jsonl"
PROBED_BITS = (5, 4, 3, 2)
KEEP_SCALES = (0.25, 0.5, 1.0, 1.5)
"""Keep ratios of the methods that choose by score, against the preset's."""
OWN_SHARES = (0.25, 0.5, 1.0)
"""What all tasks together may own of the body, for the methods that share the body out."""
PACKAGES = ("tsn-hw", "torch", "brevitas", "numpy", "onnxruntime")


def variants(settings: Settings, tables: set[int], tasks: int) -> dict[str, Settings]:
    """The runs that some tables need, by name; ``stl`` is the one that is no run of the loop."""
    found = {"main": settings} if tables - {9} else {}
    if tables & {2, 5}:
        found["unpruned"] = replace(settings, prune=replace(settings.prune, iterations=0))
    if 5 in tables:
        for memory in ("stats", "samples_act", "samples_input"):
            route = replace(settings.route, enabled=True, memory=memory)
            found[f"memory_{memory}"] = replace(settings, route=route)
    if 7 in tables:
        for bits in (4, 8, 16):
            formats = replace(settings.formats, act_bits=bits, centroid_bits=max(bits, 8))
            quantize = replace(settings.quantize, min_bits=min(bits, 8), max_bits=min(bits, 8))
            found[f"format_{bits}"] = replace(settings, formats=formats, quantize=quantize)
    return found | (_methods(settings, tasks) if 9 in tables else {})


def _methods(settings: Settings, tasks: int) -> dict[str, Settings]:
    found = {"stl": settings, "finetune": _baseline(settings, "finetune", keep_policy="constant", keep_ratio=1.0)}
    for scale in KEEP_SCALES:
        table = {name: min(1.0, scale * ratio) for name, ratio in settings.train.keep_table.items()}
        ratios = {"keep_table": table, "keep_ratio": min(1.0, scale * settings.train.keep_ratio)}
        found[f"tsn_{scale}"] = replace(settings, train=replace(settings.train, **ratios))  # type: ignore[arg-type]
        found[f"wsn_{scale}"] = _baseline(settings, "wsn", **ratios)
    for share in OWN_SHARES:
        for method in ("packnet", "ada_qpacknet"):  # the mask follows weights: it has to begin large
            found[f"{method}_{share}"] = _baseline(
                settings, method, keep_policy="constant", keep_ratio=share / tasks, ramp=0.5
            )
    return found


def _baseline(settings: Settings, method: str, **train: Any) -> Settings:
    """The preset with another method; 16-bit activations stand for float ones where weights are float."""
    act_bits = settings.formats.act_bits if METHODS[method].codes else 16
    return replace(
        settings,
        formats=replace(settings.formats, act_bits=act_bits),
        train=replace(settings.train, **{"method": method} | train),
        prune=replace(settings.prune, iterations=0),
    )


def bench_paper(
    preset: Path, out: Path, tables: set[int], seeds: int, device: str, only: Sequence[str] = ()
) -> CommandResult:
    """Run what the tables need and has no result yet, for seeds 0, 1, ...; write results.jsonl and the tables.

    With ``only``, of these runs the named ones alone.
    """
    settings = read_settings(preset)
    settings = replace(settings, quantize=replace(settings.quantize, probe_bits=PROBED_BITS))
    if unknown := tables - set(TABLES):
        raise SettingsError(f"--tables {min(unknown)}: must be within 1..{max(TABLES)}")
    device_of(device)
    stream = stream_of(settings)
    needed = variants(settings, tables, len(stream))
    if strange := [name for name in only if name not in needed]:
        raise SettingsError(f"--only {strange[0]!r}: the tables need {', '.join(needed)}")
    chosen = {name: needed[name] for name in only or needed}
    wanted = [(name, replace(variant, seed=seed)) for seed in range(seeds) for name, variant in chosen.items()]
    shown, text = [], ""
    with sole_writer(out / LOCK):
        results = read_results(out / RESULTS)
        for name, variant in wanted:
            key = {"variant": name, "seed": variant.seed, "settings_digest": settings_digest(variant)}
            found = [result for result in results if key.items() <= result.items()]
            if not found:
                measured = _known(results, key) or _measured(name, variant, out, device)
                found = [{"preset": preset.stem} | measured | key]
                results += found
                lines = "".join(json.dumps(result, sort_keys=True) + "\n" for result in results)
                write_atomically(out / RESULTS, lines.encode())
            shown += found[:1]
            text = write_tables(preset.stem, shown, tables, stream.input_shape, settings, out)  # so far, if killed
    return CommandResult([Note(text)], {"results": str(out / RESULTS), "runs": len(shown)})


def _known(results: list[dict[str, Any]], key: dict[str, Any]) -> dict[str, Any] | None:
    """The same run, if another table asked for it: it is not made twice."""
    for other in results:
        if other["settings_digest"] == key["settings_digest"] and key["variant"] != "stl" != other["variant"]:
            return other
    return None


def _measured(name: str, settings: Settings, out: Path, device: str) -> dict[str, Any]:
    """What a run measures, and what it is made of."""
    digest = settings_digest(settings)
    folder = out / "runs" / f"{name}-seed{settings.seed}"
    if (folder / SETTINGS).exists() and settings_digest(settings_from_json(folder / SETTINGS)) != digest:
        folder = folder.with_name(f"{folder.name}-{digest[:8]}")  # a run of an older preset stays where it is
    measured = run_variant(name, settings, stream_of(settings), folder, device)
    return measured | {"machine": machine(device), "settings": _plain(settings)}


def run_variant(name: str, settings: Settings, stream: TaskStream, folder: Path, device: str) -> dict[str, Any]:
    """Train one variant in its folder, or finish it, and measure it from what it stored."""
    if name == "stl":
        accuracies = dense_accuracies(settings, stream, device)
        return {"acc_percent": float(np.mean(accuracies)), "body_percent": 100.0 * len(stream), "bwt": 0.0}
    if not METHODS[settings.train.method].codes:
        return _float_result(train_floats(settings, stream, folder, device, resume=True))
    train(settings, stream, folder, device, resume=True)
    run = RunFolder(folder)
    records = parse_json(read_bytes(folder / "training.json"), str(folder / "training.json"))
    tested = [(task, stream.task(task)) for task in range(len(stream))]
    without_rounding = [accuracy_without_rounding(run.network, task, data.x_test, data.y_test) for task, data in tested]
    return (
        run.metrics().to_json()
        | {"acc_unrounded_percent": float(np.mean(without_rounding))}
        | _capacity_result(capacity(run.network))
        | _record_result(records)
    )


def _float_result(records: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [record["accuracy_percent"] for record in records]
    matrix = [row + [None] * (len(rows) - len(row)) for row in rows]
    changes = [last - rows[task][task] for task, last in enumerate(rows[-1][:-1])]
    return {
        "acc_percent": float(np.mean(rows[-1])),
        "bwt": float(np.mean(changes)) if changes else 0.0,
        "accuracy_matrix_percent": matrix,
        "body_percent": records[-1]["body_percent"],
    }


def _capacity_result(sizes: Capacity) -> dict[str, Any]:
    dense = 32 * sizes.body_weights
    return {
        "body_percent": sizes.body_percent,
        "total_percent": sizes.total_percent,
        "codes_percent": 100 * sizes.codes_bits / dense,
        "codebooks_percent": 100 * sizes.codebooks_bits / dense,
        "masks_percent": 100 * sizes.masks_bits / dense,
        "memory_percent": sizes.replay_percent,
        "wsn_rule_percent": sizes.wsn_rule_percent,
        "banks": 1 + max(layer.bank for layer in sizes.layers),
        "union_sparsity_percent": 100 - 100 * sum(layer.used for layer in sizes.body) / sizes.body_weights,
        "task_sparsity_percent": float(np.mean([task.sparsity_percent for task in sizes.tasks])),
    }


def _record_result(records: list[dict[str, Any]]) -> dict[str, Any]:
    by_bits = [record["test_accuracy_by_bits"] for record in records]
    return {
        "code_bits": float(np.mean([bits for record in records for bits in record["bits"].values()])),
        "acc_by_bits": {bits: float(np.mean([row[bits] for row in by_bits])) for bits in by_bits[0]},
        "training_s": sum(record["seconds"] - record["prune_seconds"] for record in records),
        "fine_tuning_s": sum(record["prune_seconds"] for record in records),
        "records": records,
    }


def read_results(path: Path) -> list[dict[str, Any]]:
    """The finished runs of a results file; none if there is no file."""
    if not path.exists():
        return []
    try:
        results = [parse_json(line, "a line") for line in read_bytes(path).splitlines()]
    except SettingsError as error:
        raise FileError(f"{path}: is no results file ({error}); move it away to start again") from error
    named = {"variant", "seed", "settings_digest"}
    if not all(isinstance(result, dict) and named <= result.keys() for result in results):
        raise FileError(f"{path}: is no results file (a line names no run); move it away to start again")
    return results


def machine(device: str) -> dict[str, Any]:
    """Where a run was made: versions and hardware."""
    versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    return {"versions": versions, "hardware": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def _processor() -> str:
    """The processor's name where Linux tells it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _plain(settings: Settings) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(settings_to_json(settings))
    for data in plain["data"]:
        del data["path"]
    return plain
