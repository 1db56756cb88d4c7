"""The folding search: the fastest accelerator that fits a part, or the smallest that reaches a rate.

Every unit has a list of options, one for each legal folding and memory type, and what each takes of the part. For a
number of cycles that no unit may exceed, the search adds unit after unit to partial designs and keeps those that no
other betters in every resource. That is exact while at most :data:`KEPT` are left; of more it keeps the smallest by
either measure below. The fewest cycles are found by bisection over the cycles that options have.

A design is small where the sum of its shares of all resources of the part is small: its area. It is balanced where the
largest of these shares is small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from sim.area import AreaModel, Coefficients, fits_a_dsp, in_dsp, model_of, read_coefficients, shifts
from sim.devices import Device
from sim.memories import is_shallow
from sim.resources import (
    INPUT_PORT,
    OUTPUT_PORT,
    RESOURCE_NAMES,
    RESOURCES,
    Estimate,
    capacities,
    clock_of,
    estimate_resources,
    estimate_unit,
    share,
)
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import FoldingError, SettingsError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Folding, HardwareSettings, Layout, MaskMode, Multiplier, UnitSettings, divisors
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.list_unit import ListUnit
from tsn_hw.hardware.memories import Memory
from tsn_hw.hardware.pipeline import accelerator, refold, refold_unit, unit_names
from tsn_hw.hardware.units import LINES, ActivationStream, Unit

_Tried = tuple[tuple[Layout, ...], tuple[Multiplier, ...]]
"""Layouts and multipliers that a search tries in every unit with weights."""
KEPT = 100
DSP = RESOURCES.index("dsp")
MAX_WORD_BITS = 2048
"""Widest word of a stream that is tried: a converter holds one of either side, and Vitis HLS has at most 4,096 bits."""


@dataclass(frozen=True)
class Found:
    """The result of a search: the accelerator, whose settings are the folding, and its estimate."""

    accelerator: Accelerator
    estimate: Estimate


@dataclass(frozen=True)
class SearchLimits:
    """What a design may take of every resource of a part, its clock (the part's), and the area model (ours).

    layouts: those of words that are tried in every unit; all unless given. multipliers: what may multiply; others than
    "auto" are tried only where nothing but DSPs keeps a design from being faster, or from the target.
    """

    percent: float = 80.0
    clock_mhz: float | None = None
    coefficients: Coefficients | None = None
    layouts: tuple[Layout, ...] = get_args(Layout)
    multipliers: tuple[Multiplier, ...] = get_args(Multiplier)

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise SettingsError(f"limit {self.percent:g} %: must be above 0 and at most 100")


def search_folding(
    net: PackedNetwork,
    device: Device,
    *,
    target_fps: float | None = None,
    mask: MaskMode = "deep",
    max_tasks: int = 0,
    limits: SearchLimits = SearchLimits(),
) -> Found:
    """The smallest accelerator that makes ``target_fps`` inferences a second; without a target, the fastest.

    mask, max_tasks: as in :class:`tsn_hw.hardware.folding.HardwareSettings`.

    Raises FoldingError if there is none: it says which resource binds, and by how much.
    """
    if target_fps is not None and not 0 < target_fps < math.inf:
        raise SettingsError(f"target rate {target_fps:g}: must be above 0")
    units = dict.fromkeys(unit_names(net), UnitSettings(Folding(1), mask))
    design = accelerator(net, HardwareSettings(units, max_tasks))
    coefficients, clock_mhz = limits.coefficients or read_coefficients(), clock_of(device, limits.clock_mhz)
    options = _all_options(design, device, coefficients, (limits.layouts, ("auto",)))
    problem = _Problem(design, device, coefficients, clock_mhz, limits.percent, options)
    found = _attempt(problem, target_fps)
    if limits.multipliers != ("auto",) and _waits_for_dsps(problem, found, target_fps):
        options = _all_options(design, device, coefficients, (limits.layouts, limits.multipliers))
        better = _attempt(replace(problem, options=options), target_fps)
        found = better if isinstance(better, Found) else found
    if isinstance(found, FoldingError):
        raise found
    return found


def _attempt(problem: _Problem, target_fps: float | None) -> Found | FoldingError:
    """The design of a problem, or why there is none."""
    try:
        return _fastest(problem) if target_fps is None else _smallest(problem, target_fps)
    except FoldingError as error:
        return error


def _waits_for_dsps(problem: _Problem, found: Found | FoldingError, target_fps: float | None) -> bool:
    """Whether there would be a design, or a faster one where no rate is asked for, if the part had DSPs without end."""
    if not problem.capacities[DSP] or (isinstance(found, Found) and target_fps is not None):
        return False
    free = _attempt(replace(problem, counts_dsps=False), target_fps)
    if isinstance(found, FoldingError) or isinstance(free, FoldingError):
        return isinstance(free, Found)
    return free.estimate.interval_cycles < found.estimate.interval_cycles


@dataclass(frozen=True, eq=False)
class _Options:
    """What a unit may be: settings, cycles (options,) and counts (options, resources) that each takes of the part."""

    unit: str
    settings: tuple[UnitSettings, ...]
    cycles: Ints
    counts: Ints

    def only(self, indices: Ints) -> _Options:
        chosen = tuple(self.settings[index] for index in indices)
        return _Options(self.unit, chosen, self.cycles[indices], self.counts[indices])

    def within(self, cycles: int) -> _Options:
        """Options of at most so many cycles that no other of them betters."""
        fast = np.flatnonzero(self.cycles <= cycles)
        return self.only(fast[_undominated(self.counts[fast])])


@dataclass(frozen=True)
class _Problem:
    design: Accelerator
    device: Device
    coefficients: Coefficients
    clock_mhz: float
    limit_percent: float
    options: tuple[_Options, ...]
    counts_dsps: bool = True

    @property
    def capacities(self) -> Ints:
        return np.array(capacities(self.device).counts, np.int64)

    @property
    def budget(self) -> Ints:
        """Counts that a design may take."""
        found = np.array([int(count * self.limit_percent / 100) for count in self.capacities], np.int64)
        found[DSP] = found[DSP] if self.counts_dsps else np.iinfo(np.int64).max // 2
        return found

    @property
    def least_cycles(self) -> tuple[int, str]:
        """What an inference takes at least however much is parallel, and the unit or port that takes it."""
        beats, logits = self.estimate(self.design).port_cycles
        units = [(int(options.cycles.min()), options.unit) for options in self.options]
        return max((beats, INPUT_PORT), (logits, OUTPUT_PORT), *units)

    def estimate(self, design: Accelerator) -> Estimate:
        return estimate_resources(design, self.device, clock_mhz=self.clock_mhz, coefficients=self.coefficients)


def _fastest(problem: _Problem) -> Found:
    """Bisect over the cycles that any option has."""
    least, _ = problem.least_cycles
    levels = np.unique(np.maximum(least, np.concatenate([options.cycles for options in problem.options])))
    best, low, high = None, 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        found = _design_within(problem, int(levels[middle]))
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    if best is None:
        raise _nothing_fits(problem, int(levels[-1]), "even at the lowest rate")
    return best


def _smallest(problem: _Problem, target_fps: float) -> Found:
    cycles, wish = int(1e6 * problem.clock_mhz / target_fps), f"at {target_fps:.10g} inferences a second"
    least, where = problem.least_cycles
    if cycles < least:
        rate = 1e6 * problem.clock_mhz / least
        raise FoldingError(
            f"device {problem.device.name!r}: nothing runs {wish} with {problem.clock_mhz:g} MHz; {where!r} takes "
            f"{least} cycles even where all is parallel, that is {rate:.1f} a second"
        )
    found = _design_within(problem, cycles)
    if found is None:
        raise _nothing_fits(problem, cycles, wish)
    return found


def _design_within(problem: _Problem, cycles: int) -> Found | None:
    """The smallest design of at most so many cycles that fits the budget, or None.

    FIFOs depend on several units at once; the options count them at one activation a word. Where the exact estimate of
    what was found is above the budget, what it is above is set aside and the search repeated.
    """
    options = [unit.within(cycles) for unit in problem.options]
    budget = problem.budget
    while True:
        chosen = _choose(options, budget, problem.capacities)
        if chosen is None:
            return None
        units = {unit.unit: unit.settings[index] for unit, index in zip(options, chosen, strict=True)}
        design = refold(problem.design, replace(problem.design.settings, units=units))
        estimate = problem.estimate(design)
        excess = np.maximum(0, np.array(estimate.resources.counts) - problem.budget)
        if not excess.any():
            return Found(design, estimate)
        budget = budget - excess


def _choose(options: list[_Options], budget: Ints, capacities: Ints, balanced: bool = False) -> list[int] | None:
    """An option of every unit: within the budget, and the smallest, or the most balanced, of such."""
    least = np.array([unit.counts.min(axis=0) for unit in options])
    ahead = np.concatenate([np.cumsum(least[::-1], axis=0)[::-1], np.zeros((1, least.shape[1]), np.int64)])
    totals, history = np.zeros((1, len(budget)), np.int64), []
    for index, unit in enumerate(options):
        sums = (totals[:, None] + unit.counts[None]).reshape(-1, len(budget))
        possible = np.flatnonzero((sums + ahead[index + 1] <= budget).all(axis=1))
        kept = possible[_undominated(sums[possible])]
        if len(kept) > KEPT:
            orders = [_in_order(sums[kept] + ahead[index + 1], capacities, measure) for measure in (True, False)]
            kept = kept[np.unique(np.concatenate([order[: KEPT // 2] for order in orders]))]
        if not len(kept):
            return None
        history.append(np.divmod(kept, len(unit.settings)))
        totals = sums[kept]
    place, chosen = int(_in_order(totals, capacities, balanced)[0]), list[int]()
    for parents, own in reversed(history):
        chosen.append(int(own[place]))
        place = int(parents[place])
    return chosen[::-1]


def _in_order(counts: Ints, capacities: Ints, balanced: bool) -> Ints:
    """Indices of rows (designs, resources) from the smallest, or the most balanced, on.

    What a part does not have counts twice as much as what it has one of.
    """
    shares = counts / np.where(capacities, capacities, 0.5)
    measures = shares.max(axis=1), shares.sum(axis=1)
    return np.lexsort(measures[::-1] if balanced else measures)


def _undominated(counts: Ints) -> Ints:
    """Indices of the rows that no other row betters in one column and equals in the others; of equal rows, one."""
    left, kept = np.lexsort(counts.T[::-1]), []
    while len(left):  # nothing that comes later in this order can better the first
        kept.append(left[0])
        left = left[(counts[left] < counts[left[0]]).any(axis=1)]
    return np.array(kept, np.int64)


def _nothing_fits(problem: _Problem, cycles: int, wish: str) -> FoldingError:
    """Which resource binds the most balanced design, and by how much."""
    options = [unit.within(cycles) for unit in problem.options]
    unlimited = np.full(len(RESOURCES), np.iinfo(np.int64).max // 2)
    chosen = _choose(options, unlimited, problem.capacities, balanced=True)
    assert chosen is not None  # nothing limits it
    counts = np.sum([unit.counts[index] for unit, index in zip(options, chosen, strict=True)], axis=0)
    shares = [share(int(count), int(whole)) for count, whole in zip(counts, problem.capacities, strict=True)]
    worst = max(range(len(shares)), key=lambda index: shares[index])
    return FoldingError(
        f"device {problem.device.name!r}: no folding fits {problem.limit_percent:g} % of it {wish}; the least takes "
        f"{counts[worst]} of its {problem.capacities[worst]} {RESOURCE_NAMES[RESOURCES[worst]]} "
        f"({100 * shares[worst]:.0f} %)"
    )


# ---------------------------------------------------------------------------------------------------------- options


def _all_options(
    design: Accelerator, device: Device, coefficients: Coefficients, tried: _Tried
) -> tuple[_Options, ...]:
    """Options of every unit; units that differ in nothing but their name and place share the work."""
    model, fifos = model_of(device, coefficients), design.join_fifos
    known: dict[object, _Options] = {}
    found = []
    for unit in design.units:
        own = fifos.get(unit.number, ())
        key = replace(unit, number=0, name="", layers=(), inputs=()), shifts(design, unit), own
        if key not in known:
            known[key] = _options_of(design, unit, device, (model, tried), own)
        found.append(replace(known[key], unit=unit.name))
    return tuple(found)


def _options_of(
    design: Accelerator,
    unit: Unit,
    device: Device,
    modelled: tuple[AreaModel, _Tried],
    fifos: tuple[Memory, ...],
) -> _Options:
    """The options of a unit, with an area model, and layouts and multipliers that are tried."""
    model, tried = modelled
    settings, cycles, counts = [], [], []
    for own in settings_to_try(design, unit, device, *tried):
        folded = refold_unit(unit, own)
        estimate = estimate_unit(design, folded, device, model, _folded_fifos(fifos, own.folding.pe))
        settings.append(own)
        cycles.append(folded.cycles)
        counts.append(estimate.resources.counts)
    options = _Options(unit.name, tuple(settings), np.array(cycles, np.int64), np.array(counts, np.int64))
    return options.only(_undominated(np.column_stack([options.cycles, options.counts])))


def settings_to_try(
    design: Accelerator,
    unit: Unit,
    device: Device,
    layouts: tuple[Layout, ...] = get_args(Layout),
    multipliers: tuple[Multiplier, ...] = ("auto",),
) -> list[UnitSettings]:
    """Every legal folding of a unit, with every layout, multiplier and type of memory that its words may be of.

    LUTs only where they need no further LUTs to choose among them, because those would slow the clock.
    """
    mask = unit.settings.mask
    foldings = [
        Folding(pe, simd) for pe in _narrow(unit.rows, unit.output) for simd in _narrow(unit.most_simd, unit.sources[0])
    ]
    if not isinstance(unit, MatrixUnit):
        return [UnitSettings(folding, mask) for folding in foldings]
    found = _lists_to_try(design, unit, foldings) if "lists" in layouts else []
    for folding in foldings if "dense" in layouts else ():
        found.append(UnitSettings(folding, mask, "block"))
        if device.capacities.uram:
            found.append(UnitSettings(folding, mask, "ultra"))
        in_luts = UnitSettings(folding, mask, "distributed")
        memories = refold_unit(unit, in_luts).layouts(design.max_tasks)
        if all(is_shallow(layout.memory, device.family) for layout in memories if layout.kind in LINES):
            found.append(in_luts)
    if multipliers == ("auto",):
        return found
    return [one for own in found for one in _with_multipliers(unit, own, device, multipliers)]


def _with_multipliers(
    unit: MatrixUnit, own: UnitSettings, device: Device, multipliers: tuple[Multiplier, ...]
) -> Iterator[UnitSettings]:
    """Settings with every multiplier that takes fewer DSPs of the part than one for every product."""
    plain = refold_unit(unit, own)
    takes_dsps = in_dsp(plain.products[0].first_bits, plain.products[0].second_bits, device)
    for multiplier in multipliers:
        chosen = replace(own, multiplier=multiplier)
        if multiplier == "packed":
            pair = refold_unit(unit, chosen).products[0]
            is_legal = takes_dsps and not plain.unpaired and fits_a_dsp(pair, device)
        else:
            is_legal = multiplier == "auto" or takes_dsps
        if is_legal:
            yield chosen


def _lists_to_try(design: Accelerator, unit: Unit, foldings: list[Folding]) -> list[UnitSettings]:
    """The foldings that lists may have, with room for as many tasks as the accelerator has."""
    found, mask = [], unit.settings.mask
    for folding in foldings:
        own = UnitSettings(folding, mask, "block", "lists")
        made = refold_unit(unit, own)
        if isinstance(made, ListUnit) and mask != "none" and not folding.simd & folding.simd - 1:
            lines = made.lines_for(design.max_tasks) if made.has_room else 0
            found.append(replace(own, lines=lines))
    return found


def _narrow(whole: int, stream: ActivationStream) -> list[int]:
    """Lanes that divide what there is and whose words are no wider than a stream may be."""
    return [lanes for lanes in divisors(whole) if lanes * stream.bits <= MAX_WORD_BITS]


def _folded_fifos(fifos: tuple[Memory, ...], lanes: int) -> tuple[Memory, ...]:
    """FIFOs of one activation a word, as about those of several."""
    return tuple(replace(fifo, depth=-(-fifo.depth // lanes), width_bits=lanes * fifo.width_bits) for fifo in fifos)
