"""The paper's tables with our figures beside the published ones, from the lines of ``results.jsonl`` alone."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
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
class Table:
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


def published(preset: str) -> dict[str, Any]:
    """The paper's figures for a preset, with WSN's under ``wsn``; empty where none are published."""
    facts = tomllib.loads((files("tsn_hw.app.paper") / "published.toml").read_text("utf-8"))
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


def _mean(results: Results, variant: str, *keys: str) -> float | None:
    """Mean over seeds of a figure of one variant; None where it was not run or not measured."""
    values = []
    for result in results:
        if result["variant"] == variant:
            value: Any = result
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            values.append(value)
    return float(np.mean(values)) if values and None not in values else None


def _capacity_shares(results: Results, paper: dict[str, Any], settings: Settings, macs: int) -> Table:
    rows: list[Row] = [
        ("weights, % of dense", _mean(results, "main", "codes_percent"), paper.get("weights")),
        ("codebooks, % of dense (published: < 0.1)", _mean(results, "main", "codebooks_percent"), None),
        ("masks, % of dense", _mean(results, "main", "masks_percent"), paper.get("masks")),
    ]
    notes = (
        "Published masks cost ceil(log2 tasks) bits a weight: an owner index, which cannot describe sharing. Published "
        'codebooks "< 0.1" hold for one codebook a layer for all tasks, not for one a task. Ours are the sections of '
        "the file.",
    )
    return Table(1, "Capacity shares", tuple(rows), notes)


def _sparsity(results: Results, paper: dict[str, Any], settings: Settings, macs: int) -> Table:
    rows: list[Row] = []
    for variant, when in (("unpruned", "before"), ("main", "after")):
        union = _mean(results, variant, "union_sparsity_percent")
        rows.append((f"sparsity {when} post-pruning, all tasks, %", union, paper.get(f"sparsity_{when}")))
        rows.append(
            (f"sparsity {when} post-pruning, one task, %", _mean(results, variant, "task_sparsity_percent"), None)
        )
    rows.append(("code bits, mean", _mean(results, "main", "code_bits"), paper.get("bits")))
    notes = ("No rule connects the published sparsity and bits with the published weights of Table 1.",)
    return Table(2, "Sparsity and bit-width", tuple(rows), notes)


def _code_bits(results: Results, paper: dict[str, Any], settings: Settings, macs: int) -> Table:
    rows: list[Row] = [
        (f"ACC with {bits}-bit codes, %", _mean(results, "main", "acc_by_bits", str(bits)), acc)
        for bits in (5, 4, 3, 2)
        for acc in [paper.get("acc_by_bits", {}).get(str(bits))]
    ]
    notes = ("Ours: the same trained network at every width, codebooks fitted after training, mean over tasks.",)
    return Table(3, "Accuracy by code bits", tuple(rows), notes)


def _times(results: Results, paper: dict[str, Any], settings: Settings, macs: int) -> Table:
    rows: list[Row] = [
        ("training, s", _mean(results, "main", "training_s"), paper.get("training_s")),
        ("post-pruning, s", _mean(results, "main", "fine_tuning_s"), paper.get("fine_tuning_s")),
    ]
    notes = ("Published on an A100; ours on the hardware that results.jsonl names.",)
    return Table(4, "Time", tuple(rows), notes)


def _capacity(results: Results, paper: dict[str, Any], settings: Settings, macs: int) -> Table:
    published = paper.get("capacity", {})
    rows: list[Row] = [
        ("without post-pruning, %", _mean(results, "unpruned", "body_percent"), published.get("without_post_pruning")),
        ("with post-pruning, %", _mean(results, "main", "body_percent"), published.get("with_post_pruning")),
    ]
    for memory in ("stats", "samples_act", "samples_input"):
        parts = [_mean(results, f"memory_{memory}", key) for key in ("body_percent", "memory_percent")]
        total = None if None in parts else sum(part for part in parts if part is not None)
        rows.append((f"with routing memory {memory}, %", total, published.get("with_memory")))
    rows.append(("whole file, % of the dense network with heads", _mean(results, "main", "total_percent"), None))
    notes = ("Bits of the stored file: codes, codebooks and masks of the body; memory is what routing keeps.",)
    return Table(5, "Body capacity", tuple(rows), notes)


def _flops(results: Results, paper: dict[str, Any], settings: Settings, macs: int) -> Table:
    density = _mean(results, "main", "task_sparsity_percent")
    rows: list[Row] = [("float", 2 * macs / 1e6, paper.get("flops", {}).get("float"))]
    for bits in (4, 8, 16):
        rows.append((f"{bits} bits", flops_million(macs, bits, bits), paper.get("flops", {}).get(str(bits))))
        pruned = None if density is None else flops_million(macs, bits, bits, density=1 - density / 100)
        rows.append((f"{bits} bits, pruned", pruned, paper.get("flops", {}).get(f"{bits}p")))
    notes = (
        "Ours: one inference of the body, 2 FLOPs a MAC. The published float figures are no inference: they fit one "
        "training step of a batch. Published low-bit figures follow from them: / 9 (p-MNIST: / 9.5) * (bits / 8)**2, "
        "pruned times 0.60, 0.88, 0.85.",
    )
    return Table(6, "MFLOPs", tuple(rows), notes)


def _formats(results: Results, paper: dict[str, Any], settings: Settings, macs: int) -> Table:
    rows: list[Row] = [
        (f"ACC at <{bits}, {bits}>, %", _mean(results, f"format_{bits}", "acc_percent"), acc)
        for bits in (4, 8, 16)
        for acc in [paper.get("acc_by_format", {}).get(str(bits))]
    ]
    rows.append(("ACC of the preset, %", _mean(results, "main", "acc_percent"), None))
    rows.append(
        ("the same networks, activations not rounded, %", _mean(results, "main", "acc_unrounded_percent"), None)
    )
    notes = (
        "Ours: codes of min(bits, 8) bits, centroids of max(bits, 8) bits, activations of exactly so many bits, images "
        "of at most 8. The published 4 bits allow up to 31 levels.",
    )
    return Table(7, "Accuracy with weights and activations of few bits", tuple(rows), notes)


def _transfer(results: Results, paper: dict[str, Any], settings: Settings, macs: int) -> Table:
    rows: list[Row] = [
        ("ACC, %", _mean(results, "main", "acc_percent"), paper.get("acc")),
        ("BWT, points", _mean(results, "main", "bwt"), paper.get("bwt")),
        ("FWT, points", _mean(results, "main", "fwt"), None),
    ]
    notes = (
        "The published code copies old rows of the accuracy matrix, so its BWT is 0 by construction; ours is measured "
        f"from the networks stored after each task. The published FWT ({paper.get('fwt', 'none')}) is the accuracy of "
        "untrained heads; ours is the gain over learning a task alone.",
    )
    return Table(8, "Accuracy and transfer", tuple(rows), notes)


def _methods(results: Results, paper: dict[str, Any], settings: Settings, macs: int) -> Table:
    rows: list[Row] = []
    for variant in dict.fromkeys(result["variant"] for result in results):
        if method_of(variant) is None:
            continue
        facts = paper["wsn"].get(method_of(variant), {}) if variant in ("stl", "finetune") else {}
        rows.append((f"{variant}: ACC, %", _mean(results, variant, "acc_percent"), facts.get("acc")))
        rows.append((f"{variant}: body, %", _mean(results, variant, "body_percent"), facts.get("capacity")))
    notes = (
        "Baselines are likenesses in our own loop. Published: the WSN paper. A suffix scales the preset's keep ratios "
        "(tsn, wsn), or is the share of the body that all tasks together may own (packnet, ada_qpacknet).",
    )
    return Table(9, "Methods", tuple(rows), notes)


TABLES: dict[int, Callable[[Results, dict[str, Any], Settings, int], Table]] = {
    1: _capacity_shares,
    2: _sparsity,
    3: _code_bits,
    4: _times,
    5: _capacity,
    6: _flops,
    7: _formats,
    8: _transfer,
    9: _methods,
}


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
    made = [_with_notes(TABLES[number](results, paper, settings, macs), paper) for number in sorted(tables)]
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
    points = [(m, r["body_percent"], r["acc_percent"]) for r in results if (m := method_of(r["variant"])) is not None]
    if points and 9 in tables:
        write_atomically(out / "methods.png", methods_plot(points, preset))
    return text


def _with_notes(table: Table, paper: dict[str, Any]) -> Table:
    """What is known of the published figures of one scenario, as a further note."""
    note = paper.get("notes", {}).get(str(table.number))
    return replace(table, notes=(*table.notes, note)) if note else table


def _text(value: float | None, sign: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.2f}" if sign else f"{value:.2f}"
