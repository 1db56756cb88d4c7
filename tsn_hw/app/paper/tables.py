"""The paper's tables with our figures beside the published ones, from the lines of ``results.jsonl`` alone."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tsn_hw.app.output.plots import accuracy_heat_map, methods_plot
from tsn_hw.core.files import write_atomically
from tsn_hw.core.layers import Shape, Weighted
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.ready import architecture_of
from tsn_hw.learn.settings import Settings

SCENARIOS = {
    "permuted_mnist": "p-mnist",
    "split_cifar100": "s-cifar100",
    "split_tinyimagenet": "tinyimagenet",
    "five_datasets": "5-datasets",
    "split_imagenet100": "imagenet100",
}
"""The paper's scenario of a preset, by the preset's file name."""
Results = list[dict[str, Any]]
Row = tuple[str, float | None, float | None]
"""What it is, ours, published."""


@dataclass(frozen=True)
class PaperTable:
    """One table: rows of a label, our mean over seeds, and the published figure; notes say what to beware of."""

    number: int
    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def cells(self) -> list[list[str]]:
        """Header and rows as text: label, ours, published, difference; a dash is a figure that does not exist."""
        lines = [["", "ours", "published", "difference"]]
        for label, ours, published in self.rows:
            difference = None if ours is None or published is None else ours - published
            lines.append([label, _text(ours), _text(published), _text(difference, sign=True)])
        return lines

    def markdown(self) -> str:
        """The table as Markdown, notes below."""
        header, *rows = (f"| {' | '.join(row)} |" for row in self.cells())
        notes = "".join(f"\n{note}\n" for note in self.notes)
        return "\n".join([f"## Table {self.number}. {self.title}", "", header, "|---|---:|---:|---:|", *rows, notes])

    def csv(self) -> str:
        """The table as comma-separated values."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.cells())
        return text.getvalue()


def _facts(name: str) -> dict[str, Any]:
    return tomllib.loads((files("tsn_hw.app.paper") / name).read_text("utf-8"))


TABLES = {int(number): table for number, table in _facts("tables.toml").items()}
"""Title, rows and note of every table by its number."""


def published(preset: str) -> dict[str, Any]:
    """The paper's figures for a preset, with WSN's under ``wsn``; empty where none are published."""
    facts = _facts("published.toml")
    scenario = SCENARIOS.get(preset, "")
    found: dict[str, Any] = facts.get(scenario, {})
    return found | {"wsn": facts["wsn"].get(scenario, {})}


def flops_million(macs: float, weight_bits: int, act_bits: int, ratio: float = 9.0, density: float = 1.0) -> float:
    """The paper's cost of a network with few bits: FLOPs / ratio * (weight bits / 8) * (activation bits / 8).

    ``ratio`` is what a float operation costs against one of 8 bits: 9, from (24 / 8)**2 bits of the mantissa.

    >>> flops_million(4_500_000, 8, 8), flops_million(4_500_000, 4, 4, density=0.5)
    (1.0, 0.125)
    """
    return 2 * macs / 1e6 / ratio * (weight_bits / 8) * (act_bits / 8) * density


def body_macs(architecture: Architecture) -> int:
    """Multiply-accumulates of one inference of the dense body, products with padding included."""
    shapes, total = architecture.shapes(), 0
    for layer in architecture.layers:
        if isinstance(layer, Weighted):
            source = layer.inputs[0]
            total += layer.macs(architecture.input_shape if source < 0 else shapes[source])
    return total


def _at(values: Any, keys: Sequence[str]) -> Any:
    """What stands at the end of a path of keys; None where it breaks off."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _mean(results: Results, variant: str, *keys: str) -> float | None:
    """Mean over seeds of a figure of one variant; None where it was not run or not measured."""
    values = [_at(result, keys) for result in results if result["variant"] == variant]
    return float(np.mean(values)) if values and None not in values else None


def _ours(results: Results, paths: str) -> float | None:
    """The mean of a figure, or the sum of several: "main.body_percent + main.memory_percent"."""
    means = [_mean(results, *path.split(".")) for path in paths.split(" + ")]
    return None if None in means else sum(mean for mean in means if mean is not None)


def table_of(number: int, results: Results, paper: dict[str, Any], macs: int) -> PaperTable:
    """A table of some results beside a scenario's published figures; ``macs`` of one inference of the body."""
    facts = TABLES[number]
    rows = [(label, _ours(results, ours), _at(paper, theirs.split("."))) for label, ours, theirs in facts["rows"]]
    rows += _flops(results, paper, macs) if number == 6 else _methods(results, paper) if number == 9 else []
    notes = [" ".join(facts["note"].split()).replace("{fwt}", str(paper.get("fwt", "none")))]
    notes += [note for table, note in paper.get("notes", {}).items() if table == str(number)]
    return PaperTable(number, facts["title"], tuple(rows), tuple(notes))


def _flops(results: Results, paper: dict[str, Any], macs: int) -> list[Row]:
    density = _mean(results, "main", "task_sparsity_percent")
    rows: list[Row] = [("float", 2 * macs / 1e6, _at(paper, ["flops", "float"]))]
    for bits in (4, 8, 16):
        rows.append((f"{bits} bits", flops_million(macs, bits, bits), _at(paper, ["flops", str(bits)])))
        pruned = None if density is None else flops_million(macs, bits, bits, density=1 - density / 100)
        rows.append((f"{bits} bits, pruned", pruned, _at(paper, ["flops", f"{bits}p"])))
    return rows


def _methods(results: Results, paper: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for variant in dict.fromkeys(result["variant"] for result in results):
        if method_of(variant) is not None:
            facts = paper["wsn"].get(variant, {}) if variant in ("stl", "finetune") else {}
            rows.append((f"{variant}: ACC, %", _mean(results, variant, "acc_percent"), facts.get("acc")))
            rows.append((f"{variant}: body, %", _mean(results, variant, "body_percent"), facts.get("capacity")))
    return rows


def method_of(variant: str) -> str | None:
    """The method that a variant of Table 9 belongs to."""
    name = variant.rpartition("_")[0] if variant not in ("stl", "finetune") else variant
    return name if name in ("stl", "finetune", "tsn", "wsn", "packnet", "ada_qpacknet") else None


def write_tables(
    preset: str, results: Results, tables: set[int], input_shape: Shape, settings: Settings, out: Path
) -> str:
    """Write tables.md, table_1.csv ... and the pictures; returns the Markdown."""
    macs = body_macs(architecture_of(settings, input_shape))
    paper = published(preset)
    made = [table_of(number, results, paper, macs) for number in sorted(tables)]
    seeds = sorted({result["seed"] for result in results})
    head = f"# {preset}: ours and published\n\nRuns: {len(results)}; seeds: {', '.join(map(str, seeds)) or 'none'}.\n"
    text = "\n".join([head, *(table.markdown() for table in made)])
    write_atomically(out / "tables.md", text.encode())
    for table in made:
        write_atomically(out / f"table_{table.number}.csv", table.csv().encode())
    for result in results:
        if result["variant"] == "main" and 8 in tables:
            matrix = np.array(result["accuracy_matrix_percent"], np.float64)
            names = [str(task) for task in range(len(matrix))]
            picture = accuracy_heat_map(matrix, names, f"{preset}, seed {result['seed']}")
            write_atomically(out / f"accuracy_matrix_seed{result['seed']}.png", picture)
    points = list(method_points(results))
    if points and 9 in tables:
        write_atomically(out / "methods.png", methods_plot(points, preset))
    return text


def method_points(results: Results) -> Iterator[tuple[str, float, float]]:
    """(method, body, accuracy) of every size, means over its seeds, in percent."""
    for variant in dict.fromkeys(result["variant"] for result in results):
        body, accuracy = _mean(results, variant, "body_percent"), _mean(results, variant, "acc_percent")
        if (method := method_of(variant)) is not None and body is not None and accuracy is not None:
            yield method, body, accuracy


def _text(value: float | None, sign: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.2f}" if sign else f"{value:.2f}"
