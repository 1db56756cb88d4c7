"""What an accelerator hands out is computed once, and a kind of layer without hardware is told."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest

from export import write_hls, write_memories, write_rtl
from export.memories.patch import extended, task_patch
from export.memories.patch_files import patch_files
from export.rtl.top import declared
from tests.helpers.hls import golden_runs
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET, POOL
from tsn_hw.core import layers
from tsn_hw.core.errors import ExportError
from tsn_hw.core.layers import Layer
from tsn_hw.hardware import accelerator as hardware
from tsn_hw.hardware import images
from tsn_hw.hardware.loads import ALL_TASKS
from tsn_hw.hardware.pipeline import accelerator, least_accelerator, obstacles, refold

TASKS = 6


@pytest.fixture
def built(monkeypatch):
    """Counts how often each memory is packed for each list of tasks, by accelerator."""
    found, pack = Counter(), images.memory_image

    def counted(design, unit, layout, tasks):
        found[id(design), layout.name, tuple(tasks)] += 1
        return pack(design, unit, layout, tasks)

    monkeypatch.setattr(hardware, "memory_image", counted)
    return found


def design_of(net, style="auto"):
    made = settings(net, 2, 3, "runtime", max_tasks=TASKS)
    units = {name: replace(unit, ram_style=style) for name, unit in made.units.items()}
    return accelerator(net, replace(made, units=units))


def expected(design) -> Counter:
    """Every memory of a task once a task, all others once."""
    found = Counter()
    tasks = range(len(design.net.tasks))
    for layout in design.layouts:
        for some in [(task,) for task in tasks] if layout.loaded == "task" else [tuple(tasks)]:
            found[id(design), layout.name, some] += 1
    return found


@pytest.mark.parametrize("style", ["block", "ultra"])
def test_memories_are_packed_once_a_task_in_all_exports_together(built, tmp_path, style):
    net = random_network(Recipe(kind="conv", tasks=TASKS, seed=3))
    design = design_of(net, style)
    write_hls(design, tmp_path / "hls", golden=golden_runs(net, 1))
    write_rtl(design, tmp_path / "rtl")
    write_memories(design, tmp_path / "memories")
    assert [design.load(number).task for number in design.loads] == [ALL_TASKS] * (style == "ultra") + list(
        range(TASKS)
    )
    assert built == expected(design)


def test_memories_are_packed_once_a_task_in_a_patch(built):
    net = random_network(Recipe(kind="mlp", tasks=TASKS, seed=3))
    old = net.first_tasks(TASKS - 1)
    before, after = extended(old, net, design_of(net).settings)
    patch_files(task_patch(before, after), after)
    assert max(built.values()) == 1
    packed = {(design, name) for design, name, tasks in built}
    assert packed == {(id(design), layout.name) for design in (before, after) for layout in design.layouts}


def test_nothing_is_packed_for_a_cost_or_another_folding(built):
    design = least_accelerator(NET)
    assert refold(design, design.settings).dataflow == design.dataflow
    assert built == Counter()


def test_an_accelerator_of_another_folding_has_another_number():
    numbers = {design_of(NET).design_number, least_accelerator(NET).design_number}
    assert len(numbers) == 2
    assert design_of(NET).design_number in numbers


@dataclass(frozen=True)
class Mirror(Layer):
    """The channels in the opposite order: a kind that there is no unit for."""

    name: str
    inputs: tuple[int] = (-1,)

    def output_shape(self, *sources):
        return sources[0]


def test_a_kind_of_layer_that_has_no_unit_is_told_with_layer_kind_and_engine(monkeypatch):
    monkeypatch.setitem(layers.LAYER_KINDS, "Mirror", Mirror)
    net = object.__new__(type(NET))
    vars(net).update(vars(NET))
    vars(net)["layers"] = (*NET.layers[:POOL], Mirror("pool", NET.layers[POOL].inputs), *NET.layers[POOL + 1 :])
    message = "layer 'pool': kind Mirror is not supported by hardware"
    assert obstacles(net) == [message]
    with pytest.raises(ExportError) as caught:
        least_accelerator(net)
    assert str(caught.value) == message


def test_a_module_whose_number_nobody_gives_is_told():
    with pytest.raises(ExportError) as caught:
        declared("tsn_copy", {})
    assert str(caught.value) == "module tsn_copy: nothing says what its WIDTH is"
    assert declared("tsn_copy", {"WIDTH": 3, "WORDS": 9}) == {"WIDTH": 3}
