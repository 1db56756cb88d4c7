"""The folding search beside brute force on small networks, and what it says where nothing fits."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.nets import random_mlp
from sim.devices import Device, device
from sim.resources import RESOURCES, capacities, estimate_resources
from sim.search import Found, SearchLimits, search_folding, settings_to_try
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET
from tsn_hw.core.errors import FoldingError, SettingsError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, refold, unit_names

PART = device("xc7z010")
MLP = random_network(Recipe(kind="mlp", tasks=2, seed=14))


def part(**counts: int) -> Device:
    """A part with room for everything but what is given."""
    plenty = dict.fromkeys(RESOURCES, 10**6) | {"uram": 0} | counts
    return replace(PART, name="toy", capacities=replace(PART.capacities, **plenty))


def all_designs(net: PackedNetwork, on: Device) -> tuple[np.ndarray, np.ndarray]:
    """Interval and counts of every design that the search may choose."""
    ones = dict.fromkeys(unit_names(net), UnitSettings(Folding(1)))
    design = accelerator(net, HardwareSettings(ones))
    choices = [settings_to_try(design, unit, on) for unit in design.units]
    cycles, counts = [], []
    for chosen in itertools.product(*choices):
        settings = HardwareSettings(dict(zip(unit_names(net), chosen, strict=True)))
        estimate = estimate_resources(refold(design, settings), on)
        cycles.append(estimate.interval_cycles)
        counts.append(estimate.resources.counts)
    return np.array(cycles), np.array(counts)


def area(counts: np.ndarray, on: Device) -> np.ndarray:
    """Sum of the shares of all resources that the part has."""
    whole = np.array(capacities(on).counts)
    return (counts[..., whole > 0] / whole[whole > 0]).sum(axis=-1)


def found_cycles_and_area(found: Found, on: Device) -> tuple[int, float]:
    estimate = found.estimate
    return estimate.interval_cycles, float(area(np.array(estimate.resources.counts), on))


@pytest.mark.parametrize("net", [MLP, NET], ids=["mlp", "every kind of layer"])
def test_the_fastest_and_the_smallest_design_are_those_of_brute_force(net: PackedNetwork) -> None:
    cycles, counts = all_designs(net, part())
    rng = np.random.default_rng(0)
    low, high = counts.min(axis=0), counts.max(axis=0)
    compared = 0
    for _ in range(12):
        share = rng.uniform(0.0, 1.0, len(RESOURCES))
        limits = dict(zip(RESOURCES, (low + share * (high - low)).astype(int).tolist(), strict=True))
        on = part(**{name: limits[name] for name in ("lut", "ff", "bram")} | {"dsp": max(1, limits["dsp"])})
        fits = (counts <= np.array(capacities(on).counts)).all(axis=1)
        if not fits.any():
            with pytest.raises(FoldingError, match="no folding fits 100 % of it even at the lowest rate"):
                search_folding(net, on, limits=SearchLimits(100, multipliers=("auto",)))
            continue
        best = int(cycles[fits].min())
        smallest = float(area(counts[fits & (cycles <= best)], on).min())
        fastest = search_folding(net, on, limits=SearchLimits(100, multipliers=("auto",)))
        assert found_cycles_and_area(fastest, on) == (best, pytest.approx(smallest))
        slow = int(np.median(cycles[fits]))
        relaxed = search_folding(net, on, target_fps=1e8 / slow, limits=SearchLimits(100, clock_mhz=100))
        assert {own.multiplier for own in relaxed.accelerator.settings.units.values()} == {"auto"}
        smallest = float(area(counts[fits & (cycles <= slow)], on).min())
        assert found_cycles_and_area(relaxed, on)[1] == pytest.approx(smallest)
        assert relaxed.estimate.interval_cycles <= slow
        compared += 1
    assert compared >= 4


def test_what_is_found_is_legal_and_within_the_limit() -> None:
    net = random_network(Recipe(kind="residual", tasks=3, banks=2, seed=4))
    found = search_folding(net, PART, limits=SearchLimits(30), max_tasks=5)
    assert accelerator(net, found.accelerator.settings) == found.accelerator
    assert found.accelerator.max_tasks == 5
    assert max(found.estimate.utilization_percent.values()) <= 30
    assert found.estimate == estimate_resources(found.accelerator, PART)


def test_a_lower_limit_gives_a_slower_design() -> None:
    limits = (SearchLimits(limit, multipliers=("auto",)) for limit in (100, 50))
    wide, narrow = (search_folding(MLP, part(dsp=8), limits=limit) for limit in limits)
    assert wide.estimate.resources.dsp <= 8
    assert narrow.estimate.resources.dsp <= 4
    assert wide.estimate.interval_cycles < narrow.estimate.interval_cycles


def test_where_dsps_alone_are_few_products_are_made_of_luts_or_packed() -> None:
    few = part(dsp=8)
    plain = search_folding(MLP, few, limits=SearchLimits(100, multipliers=("auto",)))
    found, plenty = (search_folding(MLP, on, limits=SearchLimits(100)) for on in (few, part()))
    assert found.estimate.interval_cycles < plain.estimate.interval_cycles
    assert found.estimate == estimate_resources(found.accelerator, few)
    assert accelerator(MLP, found.accelerator.settings) == found.accelerator  # the settings are legal
    assert found.estimate.resources.dsp <= 8
    assert {own.multiplier for own in plenty.accelerator.settings.units.values()} == {"auto"}
    rate = 0.9 * plain.estimate.inferences_per_second
    relaxed = search_folding(MLP, few, target_fps=rate, limits=SearchLimits(100))
    assert {own.multiplier for own in relaxed.accelerator.settings.units.values()} == {"auto"}


def test_masks_may_be_those_of_the_task_alone() -> None:
    deep, runtime = (search_folding(MLP, PART, target_fps=100, mask=mask) for mask in ("deep", "runtime"))
    assert {settings.mask for settings in runtime.accelerator.settings.units.values()} == {"runtime"}
    assert runtime.estimate.resources.bram <= deep.estimate.resources.bram


def test_ultra_ram_is_used_where_there_is_some() -> None:
    few = replace(device("zu7ev"), capacities=replace(device("zu7ev").capacities, bram=2, lut=2000))
    styles = {
        unit.ram_style
        for unit in search_folding(MLP, few, limits=SearchLimits(100)).accelerator.settings.units.values()
    }
    assert "ultra" in styles


def test_a_rate_beyond_full_parallelism_is_refused_with_what_takes_longest() -> None:
    with pytest.raises(FoldingError) as error:
        search_folding(MLP, part(), target_fps=1e9)
    assert str(error.value) == (
        "device 'toy': nothing runs at 1000000000 inferences a second with 100 MHz; 's_axis' takes 5 cycles even where "
        "all is parallel, that is 20000000.0 a second"
    )


def test_the_binding_resource_is_named_with_its_count() -> None:
    with pytest.raises(FoldingError) as error:
        search_folding(MLP, part(ff=100), limits=SearchLimits(50))
    assert re.fullmatch(
        r"device 'toy': no folding fits 50 % of it even at the lowest rate; the least takes (\d+) of its 100 "
        r"flip-flops \(\1 %\)",
        str(error.value),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_fps": lambda: 0.0}, "target rate 0: must be above 0"),
        ({"target_fps": lambda: float("nan")}, "target rate nan: must be above 0"),
        ({"limits": lambda: SearchLimits(clock_mhz=-1.0)}, "clock -1 MHz: must be above 0"),
        ({"limits": lambda: SearchLimits(101.0)}, "limit 101 %: must be above 0 and at most 100"),
        ({"limits": lambda: SearchLimits(0.0)}, "limit 0 %: must be above 0 and at most 100"),
    ],
)
def test_requests_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        search_folding(MLP, PART, **{name: make() for name, make in options.items()})
    assert str(error.value) == message


def test_a_sparse_layer_gets_lists_and_a_full_one_stays_dense() -> None:
    """The same rate for fewer DSPs: lists take the weights that are used, but more memory where most are."""
    sparse, full = (random_mlp((256, 64, 10), density=density) for density in (0.05, 1.0))
    found = search_folding(sparse, PART, target_fps=1e5)
    dense = search_folding(sparse, PART, target_fps=1e5, limits=SearchLimits(layouts=("dense",)))
    assert found.accelerator.settings.units["fc0"].layout == "lists"
    assert found.estimate.interval_cycles <= int(1e6 * found.estimate.clock_mhz / 1e5)
    assert found.estimate.resources.dsp < dense.estimate.resources.dsp
    assert search_folding(full, PART, target_fps=1e4).accelerator.settings.units["fc0"].layout == "dense"


def test_lists_of_a_search_with_room_have_lines_for_later_tasks() -> None:
    net = random_mlp((64, 32, 10), density=0.1)
    found = search_folding(net, PART, max_tasks=6, limits=SearchLimits(80, layouts=("lists",)))
    for unit in found.accelerator.matrices:
        assert unit.lines == unit.settings.lines == 6 * unit.list_lines.max()
