"""Sweep files: which run, which values of which knob, and what a good point must keep. See docs/sweep.md."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tsn_hw.app.hardware.platform import Platform, platform
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.files import read_bytes
from tsn_hw.core.records import build, read_toml
from tsn_hw.learn.settings import ActBits

MAX_CODE_BITS = 8
FILES = ("device_file", "coefficients")


@dataclass(frozen=True)
class Values:
    """The values of every knob. A knob that is left out stays as the run has it."""

    code_bits: tuple[int, ...] = ()
    """Code widths of all layers of the body."""
    layers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Code widths of single layers, by name, the heads' as ``head``; they overrule ``code_bits``."""
    activation_bits: tuple[ActBits, ...] = ()
    """Widths of all activations, whose grids are chosen anew."""
    centroid_bits: tuple[int, ...] = ()
    """Bits of the integers that codebooks hold."""
    keep_ratio: tuple[float, ...] = ()
    """Share of a layer's weights that a task may use: every value is a training run of its own."""
    prune_iterations: tuple[int, ...] = ()
    """Steps of post-pruning beyond what the run did."""
    prune_drop: tuple[float, ...] = ()
    """Points of validation accuracy that these steps may cost."""
    qat_epochs: tuple[int, ...] = ()
    """Epochs of training on with the codebooks in the loop, from the trained weights."""

    def __post_init__(self) -> None:
        _check("code_bits", self.code_bits, 1, MAX_CODE_BITS)
        for layer, widths in self.layers.items():
            _check(f"layers.{layer}", widths, 1, MAX_CODE_BITS)
        _check("activation_bits", self.activation_bits, 4, 16)
        _check("centroid_bits", self.centroid_bits, 4, 16)
        _check("keep_ratio", self.keep_ratio, 1e-6, 1)
        _check("prune_iterations", self.prune_iterations, 0, 10**4)
        _check("prune_drop", self.prune_drop, 0, 100)
        _check("qat_epochs", self.qat_epochs, 0, 10**4)


def _check(name: str, values: Sequence[float], low: float, high: float) -> None:
    if len(set(values)) < len(values):
        raise SettingsError(f"{name} = {list(values)}: holds a value twice")
    for value in values:
        if not low <= value <= high:
            raise SettingsError(f"{name} = {list(values)}: {value} is outside {low:g}..{high:g}")


@dataclass(frozen=True)
class Search:
    """Let Optuna choose ``points`` of all combinations of values, instead of evaluating each of them."""

    points: int = 50
    """Points that are evaluated."""
    seed: int = 0
    """Of the choice; the same seed chooses the same points."""

    def __post_init__(self) -> None:
        if self.points < 1:
            raise SettingsError(f"points = {self.points}: must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed = {self.seed}: must be within 0..{2**32 - 1}")


@dataclass(frozen=True)
class DeviceBudget:
    """An accelerator of every point on one part: the smallest of a rate, within a share of every resource."""

    device: str
    """The part; ``tsn-hw cost --devices`` lists them."""
    target_fps: float = 1.0
    """Inferences a second that it must make."""
    limit_percent: float = 80.0
    """Share of every resource of the part that it may take."""
    device_file: str = ""
    """TOML file with further parts, or changes to ours; empty: none."""
    coefficients: str = ""
    """File of ``tsn-hw calibrate`` that area is estimated with; empty: ours."""

    def __post_init__(self) -> None:
        if not 0 < self.target_fps < math.inf:
            raise SettingsError(f"target_fps = {self.target_fps:g}: must be above 0")
        if not 0 < self.limit_percent <= 100:
            raise SettingsError(f"limit_percent = {self.limit_percent:g}: must be above 0 and at most 100")

    @cached_property
    def platform(self) -> Platform:
        """The part and the coefficients that the names stand for; an error in one line if there are none."""
        return platform(self.device, None, self.device_file or None, self.coefficients or None)

    def to_json(self) -> dict[str, Any]:
        """What results on it follow from: of files their content, and nothing where there is none."""
        files = {name: getattr(self, name) for name in FILES}
        digests = {name: hashlib.sha256(read_bytes(file)).hexdigest() for name, file in files.items() if file}
        return {name: value for name, value in asdict(self).items() if name not in FILES} | digests


@dataclass(frozen=True)
class Budget:
    """What the chosen point must keep; a limit that is left out is none."""

    accuracy_drop: float | None = None
    """Points of mean test accuracy below the trained float weights."""
    total_percent: float | None = None
    """Bits of the .tsn file, in percent of one dense float32 network with all heads."""
    part: DeviceBudget | None = None
    """The part that the accelerator must fit."""


@dataclass(frozen=True)
class SweepSettings:
    """One sweep, over a finished run or over one that is learned first."""

    values: Values
    """The values of every knob."""
    run: str = ""
    """Folder of a finished run; this or ``train``."""
    train: str = ""
    """Settings file of a run that is learned first, into the sweep's folder."""
    search: Search | None = None
    """Let Optuna choose; without it every combination is a point."""
    budget: Budget = Budget()
    """What the chosen point must keep."""

    def __post_init__(self) -> None:
        if bool(self.run) == bool(self.train):
            raise SettingsError("needs one of run (the folder of a finished run) and train (a settings file)")


def read_sweep(path: Path) -> SweepSettings:
    """Read a sweep file; relative paths start at its folder."""
    settings = build(SweepSettings, read_toml(path), str(path))
    run, train = (_beside(path, name) for name in (settings.run, settings.train))
    part = settings.budget.part
    if part is not None:
        device_file, coefficients = (_beside(path, name) for name in (part.device_file, part.coefficients))
        part = replace(part, device_file=device_file, coefficients=coefficients)
        try:
            _ = part.platform  # refused before anything is learned
        except SettingsError as error:
            raise SettingsError(f"{path}: budget: part: {error}") from error
    return replace(settings, run=run, train=train, budget=replace(settings.budget, part=part))


def _beside(path: Path, name: str) -> str:
    return str((path.parent / name).resolve()) if name else ""
