"""An abort ends a call whatever it is doing, and nothing of it comes with the calls behind it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from export.rtl.project import write_rtl
from export.rtl.simulation import compile_rtl
from export.rtl.simulators import simulator
from tests.helpers.control_calls import Call, Caller, answers_of_rtl
from tests.helpers.rtl_designs import needs_iverilog
from tests.hls.test_control import design_of
from tests.rtl.test_rtl import RESIDUAL
from tests.rtl.test_rtl_lists import design

ABORTED = 6
DESIGNS = {  # and how often streams stand still; with 90, most are aborted while nobody takes a logit
    "both": (lambda: design_of("both"), (0, 90)),
    "residual, lists and dense": (lambda: design(RESIDUAL, 2, 2, layout="mixed"), (40,)),
}


def drawn(caller: Caller, count: int) -> Iterator[Call]:
    """Calls to be aborted where all is loaded; half of them lack beats, so that nothing else ends them."""
    rng, is_load = caller.rng, [False, False, bool(caller.loads)]
    for number in range(count):
        if is_load[number % 3]:
            task = int(rng.choice(list(caller.loads)))
            call = caller.load(task, caller.loads[task])
        else:
            call = caller.run_tasks()
            call = replace(call, count=call.count + int(rng.integers(2)))
        cut = int(rng.integers(len(call.beats) + 1)) if rng.integers(2) else len(call.beats)
        after = int(rng.choice([rng.integers(1, 60), rng.integers(1, 600)]))
        yield replace(call, beats=call.beats[:cut], abort_after=after)


def check(caller: Caller, calls: list[Call], answers) -> Counter:
    """Answers are those of the model, of aborted calls the first of its words; how many were aborted, and where."""
    seen = Counter()
    for call, answer in zip(calls, answers, strict=True):
        if answer.status == ABORTED:
            assert call.abort_after
            is_run = call.command != 1 and not caller.model.verdict(call.command, call.task)
            longer = [*call.beats, *[0] * 5000] if is_run else []
            words = caller.model(call.command, call.task, call.count, longer)[1] if is_run else []
            assert list(answer.words) == words[: len(answer.words)]
            assert answer.taken <= len(call.beats)
            if call.command == 1 and (caller.model.loads_all or caller.model.loads_task):
                caller.model.loaded.clear()
            seen["with logits" if answer.words else "in its input" if answer.taken else "before its first beat"] += 1
            seen["a load"] += call.command == 1
            continue
        rest = list(call.beats)
        status, words = caller.model(call.command, call.task, call.count, rest)
        assert (answer.status, list(answer.words)) == (status, words)
        assert answer.taken == len(call.beats) - len(rest)
        seen["by itself"] += 1
    return seen


@needs_iverilog
@pytest.mark.parametrize("name", DESIGNS)
def test_an_aborted_call_ends_and_the_next_one_is_exact(tmp_path, name):
    make, stalls = DESIGNS[name]
    made, seen = make(), Counter()
    write_rtl(made, tmp_path)
    compiled = compile_rtl(made, tmp_path, chosen=simulator("icarus"))
    for number, stall_percent in enumerate(stalls):
        caller = Caller(made, seed=7 + number)
        start = [caller.load(task, caller.loads[task]) for task in caller.loads if task in (0xFFFF, 0)]
        calls = [*start, *(call for each in drawn(caller, 18) for call in (each, *start, caller.run_tasks()))]
        seen += check(caller, calls, answers_of_rtl(compiled, calls, stall_percent, seed=number + 1))
    assert min(seen[kind] for kind in ("before its first beat", "in its input", "with logits", "by itself")) >= 1, seen
    assert seen["a load"] >= 1 or not Caller(made, 0).loads
