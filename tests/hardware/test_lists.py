"""Lists of used weights: decoded again line by line, and what they cost in cycles and bits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hardware.test_images import expected
from tests.helpers.images import decoded, field, own_images, settings, word
from tests.helpers.networks import random_network, recipes
from tests.helpers.small_network import NET
from tsn_hw.core.errors import FoldingError
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.list_unit import ListUnit
from tsn_hw.hardware.lists import fewest_lines, gap_widths, gaps_of, list_lines, schedule
from tsn_hw.hardware.pipeline import accelerator, least_accelerator, refold_unit, unit_names


def lists(number: int) -> str:
    return "lists"


@given(recipes())
def test_lists_hold_the_used_weights_of_every_task_and_nothing_else(recipe):
    net = random_network(recipe)
    pe, mask = recipe.seed % 3 + 1, ("deep", "runtime")[recipe.seed % 2]
    room = {"max_tasks": recipe.tasks + recipe.seed % 3, "max_banks": 3} if recipe.seed % 5 else {}
    design = accelerator(net, settings(net, pe=pe, simd=2 * pe, mask=mask, layout=lists, **room))
    task = recipe.seed % recipe.tasks
    for unit in design.matrices:
        assert isinstance(unit, ListUnit)
        if unit.rows * unit.columns < 2000:
            own = own_images(design, unit, task)
            np.testing.assert_array_equal(decoded(design, unit, own, task), expected(net, unit, task))


@given(recipes())
def test_scales_stand_in_the_order_in_which_rows_end(recipe):
    net = random_network(recipe)
    design = accelerator(net, settings(net, pe=recipe.seed % 3 + 1, simd=4, layout=lists))
    task = recipe.seed % recipe.tasks
    for unit in design.matrices:
        step, widths = net.requantization(task, unit.layers[task]), unit.scales
        scales, places = own_images(design, unit, task)["scales"], set()
        for turn in range(unit.row_folds):
            line = word(scales, task * unit.row_folds + turn)
            for q in range(unit.pe):
                low = q * (widths.bits + unit.place_bits)
                row = field(line, low + widths.bits, unit.place_bits) * unit.pe + q
                if row < len(step.offset):
                    multiplier = field(line, low, widths.multiplier_bits, signed=True) if widths.multiplier_bits else 1
                    offset = field(line, low + widths.multiplier_bits, widths.offset_bits, signed=True)
                    assert (multiplier, offset) == (step.multiplier[row], step.offset[row])
                    places.add(row)
        assert places == set(range(len(step.offset)))


@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from((1, 2, 4)), st.integers(1, 40), st.floats(0, 1))
def test_narrow_gaps_need_escapes_and_say_the_same(seed, folds, simd, columns, density):
    rng, pe = np.random.default_rng(seed), 2
    mask = rng.random((folds * pe, columns)) < density
    code = rng.integers(0, 16, mask.shape)
    for gap_bits in gap_widths(columns):
        rows, _, gaps = gaps_of(mask)
        entries = np.bincount(rows, gaps // ((1 << gap_bits) - 1) + 1, len(mask)).astype(np.int64)
        found = schedule(entries, pe, simd)
        lines = list_lines(found, pe * simd, gap_bits, mask, code, code)
        assert lines.gap.max() < 1 << gap_bits
        assert sorted(found.rows.tolist()) == list(range(len(mask)))
        base, seen, turns = np.zeros(pe * simd, np.int64), np.full(mask.shape, -1), iter(found.places.tolist())
        waiting = [list[tuple[int, int, int]]() for _ in range(simd)]
        for gap, codes, ends in zip(lines.gap, lines.code, lines.ends, strict=True):
            used = gap != (1 << gap_bits) - 1
            for lane in np.flatnonzero(used).tolist():
                waiting[lane // pe].append((lane % pe, base[lane] + gap[lane], codes[lane]))
            base += gap + used
            if ends:
                places, team = next(turns), ends - 1
                for q, column, its_code in waiting[team]:
                    seen[places[q] * pe + q, column] = its_code
                waiting[team], base[team * pe : (team + 1) * pe] = [], 0
        assert next(turns, None) is None
        np.testing.assert_array_equal(seen, np.where(mask, code, -1))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.sampled_from((1, 2, 4, 16)))
def test_teams_work_without_a_gap_and_no_two_turns_end_in_a_line(lengths, simd):
    found = schedule(np.array(lengths), 1, simd)
    assert fewest_lines(np.array(lengths), 1, simd) <= found.lines <= sum(max(1, n) for n in lengths) + len(lengths)
    assert len(set(found.ends.tolist())) == len(lengths)
    assert (np.diff(found.ends) > 0).all()
    took = found.ends - found.begins + 1
    assert (took >= np.maximum(1, np.array(lengths)[found.places[:, 0]])).all()
    for team in range(simd):
        begins, ends = found.begins[found.teams == team], found.ends[found.teams == team]
        assert begins.tolist() == [0, *(ends + 1).tolist()][: len(begins)]


def test_teams_end_together_where_rows_are_of_different_length():
    lengths = np.arange(64)  # dealt in turn, the longest first, the first of 4 teams would take 63 + 47 + 31 + 15
    assert schedule(lengths, pe=4, simd=4).lines <= fewest_lines(lengths, 4, 4) + 3


def test_a_list_takes_a_line_a_turn_at_least():
    assert schedule(np.zeros(8, np.int64), pe=2, simd=4).lines == 4


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (UnitSettings(Folding(1, 3), layout="lists"), "simd=3, must be a power of two"),
        (
            UnitSettings(Folding(1), "none", layout="lists"),
            "mask='none' is for a dense unit; choose 'deep' or 'runtime'",
        ),
        (UnitSettings(Folding(1), layout="lists", lines=1), "lines=1, but the lists take {taken}"),
    ],
)
def test_settings_that_lists_cannot_have_are_refused(own, message):
    head = least_accelerator(NET).head
    unit = refold_unit(head, own)
    taken = refold_unit(head, UnitSettings(Folding(1), layout="lists")).lines
    with pytest.raises(FoldingError) as caught:
        unit.check_layout()
    assert str(caught.value) == "layer 'head': layout='lists': " + message.format(taken=taken)


def test_lists_without_room_for_later_tasks_are_refused_with_the_lines_that_give_it():
    names = unit_names(NET)
    units = dict.fromkeys(names, UnitSettings(Folding(1))) | {names[-1]: UnitSettings(Folding(1), layout="lists")}
    with pytest.raises(FoldingError, match=r"give lines=[0-9]+ for twice the tasks") as caught:
        accelerator(NET, HardwareSettings(units, max_tasks=2 * len(NET.tasks)))
    lines = int(str(caught.value).split("lines=")[1].split()[0])
    units[names[-1]] = replace(units[names[-1]], lines=lines)
    assert accelerator(NET, HardwareSettings(units, max_tasks=2 * len(NET.tasks))).head.lines == lines


def test_the_first_list_keeps_its_lines_and_widths_when_tasks_come():
    names, room = unit_names(NET), {"max_tasks": 8, "max_banks": 4, "max_classes": 4}
    units = dict.fromkeys(names, UnitSettings(Folding(1))) | {
        names[-1]: UnitSettings(Folding(1, 2), layout="lists", lines=4000)
    }
    earlier, later = (accelerator(net, HardwareSettings(units, **room)) for net in (NET.first_tasks(1), NET))
    for width in ("gap_bits", "place_bits", "line_bits", "result_banks", "input_depth"):
        assert getattr(earlier.head, width) == getattr(later.head, width)
    one, both = (next(i for i in d.images if i.name == f"{names[-1]}.words") for d in (earlier, later))
    end = int(earlier.head.list_lines[0])
    assert (one.limbs[:end] == both.limbs[:end]).all()
    assert not one.limbs[end:].any()
    assert both.limbs[end:].any()


def test_the_picture_of_the_format_shows_lists_as_they_are(monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.syspath_prepend(root / "benchmarks")
    from draw_lists import drawn

    assert (root / "docs" / "lists.svg").read_text(encoding="utf-8") == drawn()
