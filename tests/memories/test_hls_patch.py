"""Task patches: old memories and a patch are the new memories, and nothing that earlier tasks read changes."""

import json
import shutil
import subprocess
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples

from export import write_hls
from export.memories.formats import MEMORY_FORMATS, words_sha256, write_memory
from export.memories.patch import _memory_patch, extended, task_patch
from export.memories.patch_files import PATCH, patch_files, patch_json
from export.project.golden import LOAD, RUN, bus_beats
from export.rtl.project import rtl_files
from tests.helpers.compiled_top import CompiledTop, needs_compiler
from tests.helpers.images import decoded, own_images, settings
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, recipes
from tests.helpers.patches import patched
from tests.helpers.small_network import CONV, HEAD_B, MIX, NET, put, scale, step
from tsn_hw.core import reference
from tsn_hw.core.artifact import seal
from tsn_hw.core.errors import ExportError, FoldingError
from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.loads import ALL_TASKS, word_packets
from tsn_hw.hardware.memories import BLOCK_SHAPES, Field, MemoryLayout
from tsn_hw.hardware.pipeline import accelerator
from tsn_hw.hardware.units import LINES

ROOM = {"max_tasks": 2, "code_bits": 2, "max_classes": 3}
OLD = NET.first_tasks(1)


def extension(recipe):
    """A random network, one of its earlier states, and settings with room, masks deep or at run time."""
    net = random_network(recipe)
    count = 1 + recipe.seed % (recipe.tasks - 1)
    mask = ("deep", "runtime")[recipe.seed // 7 % 2]
    room = {"max_tasks": recipe.tasks + recipe.seed % 2, "max_banks": 3, "code_bits": 8, "max_classes": 5}
    layouts = ("dense", "lists", "lists")  # lists among dense units, and both at random
    layout = lambda number: layouts[(recipe.seed + number) % 3]  # noqa: E731
    return net.first_tasks(count), net, settings(net, pe=2, simd=3, mask=mask, layout=layout, **room)


def with_packets(design, images, task, data):
    """Memories after a load, read by the rules of the format alone."""
    head, *beats, crc = np.frombuffer(data, "<u8").tolist()
    assert (head, crc) == (task | len(data) // 8 << 32, zlib.crc32(data[:-8], design.design_number))
    limbs = {image.name: image.limbs.copy() for image in images}
    while beats:
        header = beats.pop(0)
        unit, kind = header & 0xFFFF, ("words", "codebook", "mask", "scales", "task")[header >> 16 & 0xFF]
        count, address = header >> 24 & 0xFF, header >> 32
        memory = limbs[f"{design.units[unit].name}.{kind}"]
        assert count == memory.shape[1]
        memory[address] = beats[:count]
        del beats[:count]
    return limbs


@examples(max_examples=15)
@given(recipes(extremes=False).filter(lambda recipe: recipe.tasks > 1))
def test_old_memories_and_a_patch_are_the_new_memories_byte_for_byte(recipe):
    old, new, room = extension(recipe)
    patch = task_patch(*extended(old, new, room))
    before, after = (accelerator(net, room).images for net in (old, new))
    form = tuple(MEMORY_FORMATS)[recipe.seed % len(MEMORY_FORMATS)]
    for found, image, change in zip(patched(patch_json(patch), before), after, patch.memories, strict=True):
        assert write_memory(form, found) == write_memory(form, image)
        assert change.changed_bits <= found.bits - change.read_bits
    assert patch.new_tasks == tuple(task.name for task in new.tasks[len(old.tasks) :])


@examples(max_examples=12)
@given(recipes(extremes=False).filter(lambda recipe: recipe.tasks > 1))
def test_earlier_tasks_decode_the_same_weights_from_the_new_memories(recipe):
    old, new, room = extension(recipe)
    earlier, later = accelerator(old, room), accelerator(new, room)
    task = recipe.seed % len(old.tasks)
    for unit, same in zip(earlier.units, later.units, strict=True):
        if not isinstance(unit, MatrixUnit) or unit.rows * unit.columns > 600:
            continue
        found = []
        for design, part in ((earlier, unit), (later, same)):
            found.append(decoded(design, part, own_images(design, part, task), task))
        np.testing.assert_array_equal(*found)


@examples(max_examples=12)
@given(recipes(extremes=False).filter(lambda recipe: recipe.tasks > 1))
def test_packets_bring_what_the_bus_writes_to_the_new_state(recipe):
    old, new, room = extension(recipe)
    style = ("ultra", "block")[recipe.seed // 3 % 2]
    room = replace(room, units={name: replace(unit, ram_style=style) for name, unit in room.units.items()})
    design = accelerator(new, room)
    files = patch_files(task_patch(*extended(old, new, room)), design, ["dat"])
    images = {image.name: image for image in design.images}
    if style == "ultra":
        earlier = accelerator(old, room)
        assert earlier.design_number == design.design_number
        data = files.pop("tasks/all.load")
        assert data == design.load_files["tasks/all.load"]  # whole: nothing of what stood there before is left
        loaded = with_packets(design, earlier.images, ALL_TASKS, data)
        for unit in design.units:
            layouts = design.layouts_of(unit) if isinstance(unit, MatrixUnit) else ()
            for kind in [layout.kind for layout in layouts if layout.kind in LINES]:
                np.testing.assert_array_equal(loaded[f"{unit.name}.{kind}"], images[f"{unit.name}.{kind}"].limbs)
    new_tasks = range(len(old.tasks), len(new.tasks)) if design.head.settings.mask == "runtime" else ()
    assert {name for name in files if name.endswith(".load")} == {f"tasks/task_{task:02d}.load" for task in new_tasks}
    for task in new_tasks:
        loaded = with_packets(design, images.values(), task, files[f"tasks/task_{task:02d}.load"])
        for image in design.task_images(task):
            np.testing.assert_array_equal(loaded[image.name], image.limbs)


@needs_compiler
def test_an_accelerator_that_was_built_for_the_old_network_computes_the_new_task_after_a_patch(tmp_path):
    room = settings(NET, pe=2, mask="runtime", **ROOM)
    room = replace(room, units={name: replace(unit, ram_style="ultra") for name, unit in room.units.items()})
    built, design = accelerator(OLD, room), accelerator(NET, room)
    write_hls(built, tmp_path / "hls", golden=[])
    top = CompiledTop(tmp_path / "hls")
    files = patch_files(task_patch(*extended(OLD, NET, room)), design, ["mem"])
    x = adversarial_inputs(NET, 8)

    def load(task, data):
        beats = np.frombuffer(data, "<u8").tolist()
        assert top(LOAD, task, len(beats), beats) == (0, [])

    def logits(task):
        status, words = top(RUN, task, len(x), bus_beats(built, x).ravel().tolist())
        assert status == 0
        return np.array(words, np.uint32).astype(np.int32).reshape(len(x), -1)[:, : len(NET.tasks[task].classes)]

    load(ALL_TASKS, (tmp_path / "hls" / "tasks" / "all.load").read_bytes())
    load(ALL_TASKS, files["tasks/all.load"])
    for task, data in ((1, files["tasks/task_01.load"]), (0, (tmp_path / "hls/tasks/task_00.load").read_bytes())):
        load(task, data)
        expected = reference.run(NET, task, x)[NET.layers[NET.head(task)].name]
        np.testing.assert_array_equal(logits(task), expected)


# what a patch holds -------------------------------------------------------------------------------------------------


def small_patch():
    room = settings(NET, **ROOM)
    return patch_files(task_patch(*extended(OLD, NET, room)), accelerator(NET, room), ["mem", "mif"])


def test_a_patch_lists_free_words_new_owners_and_the_rows_of_the_new_task():
    memories = json.loads(small_patch()[PATCH])["memories"]
    assert {f"{entry['unit']}.{entry['kind']}": entry["words"] for entry in memories if entry["words"]} == {
        "conv.words": [[1, "4"]],  # row 1: owner 1, code 0
        "conv.codebook": [[4, "05"]],  # the centroids of owner 1 begin at 1 << 2
        "conv.mask": [[2, "1"], [3, "1"]],  # task 1 uses both rows
        "conv.task": [[1, "05"]],  # known, region 0, shift 1
        "mix.words": [[2, "6"]],  # weight (1, 0): owner 1, code 2
        "mix.codebook": [[4, "0a"], [5, "14"], [6, "1e"]],
        "mix.mask": [[4, "1"], [6, "1"]],
        "mix.task": [[1, "05"]],
        "add.task": [[1, "00003"]],
        "average.task": [[1, "05"]],
        "head.codebook": [[4, "f9"]],  # region 1: -7
        "head.mask": [[6, "1"], [7, "1"], [8, "1"], [9, "1"], [11, "1"]],
        "head.task": [[1, "303"]],  # known, region 1, shift 0, 3 classes
    }
    entry = memories[0]
    assert (entry["changed_bits"], entry["read_bits"]) == (1, 3)  # task 0 reads one word of 3 bits


def test_only_memories_that_change_are_written_and_none_of_them_in_part():
    files = small_patch()
    changed = [entry for entry in json.loads(files[PATCH])["memories"] if entry["words"]]
    names = [f"{entry['unit']}.{entry['kind']}" for entry in changed]
    assert "conv.scales" not in names
    assert set(files) == {PATCH, "memories/memories.json", *(f"overlay/{name}.mem" for name in names)} | {
        f"memories/{name}.{form}" for name in names for form in ("mem", "mif")
    }
    images = {image.name: image for image in accelerator(NET, settings(NET, **ROOM)).images}
    assert all(files[f"memories/{name}.mif"] == write_memory("mif", images[name]) for name in names)


@pytest.mark.parametrize("blocks", [BLOCK_SHAPES, ((64, 2), (16, 9), (8, 18))])
def test_iverilog_reads_an_overlay_over_the_earlier_content(tmp_path, monkeypatch, blocks):
    """With blocks of few words, small memories have parts side by side: RTL reads those."""
    monkeypatch.setattr("tsn_hw.hardware.memories.BLOCK_SHAPES", blocks)
    iverilog, vvp = shutil.which("iverilog"), shutil.which("vvp")
    if iverilog is None or vvp is None:
        pytest.skip("iverilog is not installed")
    old, new, room = extension(Recipe(kind="mlp", tasks=4, seed=28))
    files = patch_files(task_patch(*extended(old, new, room)), accelerator(new, room), ["mem"])
    before, after = rtl_files(accelerator(old, room)), rtl_files(accelerator(new, room))
    changed = [image.layout for image in accelerator(old, room).images if f"overlay/{image.name}.mem" in files]
    sides = [layout for layout in changed if layout.memory.choices]
    assert bool(sides) == (blocks is not BLOCK_SHAPES)
    memories = [(f"{layout.name}.mem", layout.width_bits, layout.depth) for layout in changed]
    parts = [(layout, layout.memory.part_words) for layout in sides]
    memories += [(layout.file, layout.width_bits * -(-layout.depth // part), part) for layout, part in parts]
    lines = []
    for number, (name, width, depth) in enumerate(memories):
        (tmp_path / f"{number}.old").write_bytes(before[f"memories/{name}"])
        (tmp_path / f"{number}.overlay").write_bytes(files[f"overlay/{name}"])
        lines += [
            f"reg [{width - 1}:0] m{number} [0:{depth - 1}];",
            f'initial begin $readmemh("{number}.old", m{number}); $readmemh("{number}.overlay", m{number});',
            f'$writememh("{number}.new", m{number}); end',
        ]
    (tmp_path / "top.v").write_text("\n".join(["module top;", *lines, "endmodule\n"]))
    subprocess.run([iverilog, "-o", "top.vvp", "top.v"], cwd=tmp_path, check=True)
    subprocess.run([vvp, "-n", "top.vvp"], cwd=tmp_path, check=True, capture_output=True)
    assert len(memories) > 5
    for number, (name, _, _) in enumerate(memories):
        found = (line for line in (tmp_path / f"{number}.new").read_text().splitlines() if not line.startswith("//"))
        expected = after[f"memories/{name}"].decode().partition("@0\n")[2]
        assert "".join(f"{line}\n" for line in found) == expected


def test_packets_hold_unit_kind_limbs_address_and_the_limbs_of_a_word():
    layout = MemoryLayout("fc", "mask", (("line", 3),), 70, (Field("mask", 1),))
    image = MemoryImage(layout, np.array([[1, 2], [3, 4], [2**64 - 1, 63]], np.uint64))
    beats = word_packets(5, image, np.array([0, 2]))
    assert [f"{beat:016x}" for beat in beats.tolist()] == [
        "0000000002020005",
        "0000000000000001",
        "0000000000000002",
        "0000000202020005",
        "ffffffffffffffff",
        "000000000000003f",
    ]


# what is no patch ---------------------------------------------------------------------------------------------------


def other_first_task():
    return put(NET, ("tasks", 0, "steps", CONV, "requantization", "shift"), 3)


def other_routing():
    return put(NET, ("tasks", 0, "routing"), b"else")


def wider_codes():
    book = np.arange(5)
    return put(NET, ("banks", 0, "layers", MIX, "codebooks"), (NET.banks[0].layers[MIX].codebooks[0], book))


def multipliers():
    return put(
        NET, ("tasks", 1, "steps", MIX), step(NET.step(1, MIX).mask, replace(scale(2), multiplier=np.array([2, 3])))
    )


def large_offset():
    return put(NET, ("tasks", 1, "steps", MIX, "requantization", "offset"), np.array([1 << 40, 0]))


def large_shift():
    return put(NET, ("tasks", 1, "steps", MIX, "requantization", "shift"), 50)


def distant_exponents():
    """An Add whose operands stand 9 bits apart: the accumulator of the add holds 8."""
    output = replace(NET.step(1, CONV).requantization.output, exponent=9)
    return put(NET, ("tasks", 1, "steps", CONV, "requantization", "output"), output)


def wider_centroids():
    return put(NET, ("banks", 0, "layers", HEAD_B, "centroid_bits"), 9)


NEEDS, CAN_TAKE = "the new tasks need", "one that can take them is built with"


@pytest.mark.parametrize(
    ("new", "room", "message"),
    [
        (lambda: OLD, {}, "the new network has 1 tasks, the old one 1: there is nothing to add"),
        (
            other_first_task,
            {},
            "task 'a': has the seal {now} in the new network, {was} in the old one",
        ),
        (other_routing, {}, "the first 1 tasks of the new network are not the old one in what seals do not cover"),
        (
            lambda: NET,
            {"max_tasks": 0},
            "max_tasks=0: the new network has 2 tasks; the accelerator must be built with room for them",
        ),
        (
            lambda: NET,
            {"max_classes": 0},
            f"layer 'head': {NEEDS} 3 rows, the accelerator has 2; {CAN_TAKE} max_classes=3",
        ),
        (
            wider_codes,
            {"code_bits": 0},
            f"layer 'mix': {NEEDS} 3 code bits, the accelerator has 1; {CAN_TAKE} code_bits=3",
        ),
        (wider_codes, {}, "layer 'mix': code_bits=2, but it has codes of 3 bits"),
        (multipliers, {}, f"layer 'mix': {NEEDS} 16 multiplier bits, the accelerator has 0"),
        (large_offset, {}, f"layer 'mix': {NEEDS} 42 offset bits, the accelerator has 17"),
        (large_shift, {}, f"layer 'mix': {NEEDS} 51 value bits, the accelerator has 19"),
        (distant_exponents, {}, f"layer 'add': {NEEDS} 18 accumulator bits, the accelerator has 17"),
        (wider_centroids, {}, f"layer 'head': {NEEDS} 9 centroid bits, the accelerator has 8"),
    ],
)
def test_what_an_accelerator_cannot_take_is_refused_with_unit_field_and_widths(new, room, message):
    new = new()
    settled = replace(settings(OLD, **{"max_tasks": 2}), **{**ROOM, **room})
    with pytest.raises((ExportError, FoldingError)) as caught:
        extended(OLD, new, settled)
    assert str(caught.value) == message.format(now=seal(new, 0)[:12], was=seal(OLD, 0)[:12])


def test_a_new_bank_needs_its_region():
    net = random_network(Recipe(kind="mlp", tasks=2, banks=2, seed=5))
    unit = settings(net, max_tasks=2, code_bits=8, max_classes=5)
    message = (
        "^layer 'fc0': the new tasks need 2 regions, the accelerator has 1; "
        "one that can take them is built with max_banks=2$"
    )
    with pytest.raises(ExportError, match=message):
        extended(net.first_tasks(1), net, unit)


def test_a_patch_that_would_change_what_an_earlier_task_reads_is_not_made():
    design = accelerator(OLD, settings(OLD, **ROOM))
    refused = []
    units = {unit.name: unit for unit in design.units}
    for image in design.images:
        for word in range(image.depth):
            for bit in range(image.width_bits):
                limbs = image.limbs.copy()
                limbs[word, 0] ^= np.uint64(1 << bit)
                try:
                    _memory_patch(design, units[image.unit], image, MemoryImage(image.layout, limbs))
                except ExportError as error:
                    refused.append(
                        (f"memory {image.name!r}: word {word}, which earlier tasks read, would change", error)
                    )
    assert all(message == str(error) for message, error in refused)
    # task a: 1 + 2 + 3 words of 3, 3 and 2 bits; its codebooks of 4 entries of 8 bits in conv, mix and head;
    # masks of 2 + 4 + 6 places; offsets of 16 + 16 + 17 + 12 bits in 2 + 2 + 3 rows; 5 task words, the
    # head's with 2 bits of its classes
    words_read = 1 * 3 + 2 * 3 + 3 * 2
    books = 3 * 4 * 8
    masks = 2 + 4 + 6
    scales = 2 * 16 + 2 * 17 + 17 + 12 + 3 * 17
    tasks = 8 + 8 + 19 + 7 + 10
    assert len(refused) == words_read + books + masks + scales + tasks


def test_a_patch_says_which_memories_it_was_made_for_and_what_becomes_of_them():
    patch = task_patch(*extended(OLD, NET, settings(NET, **ROOM)))
    old, new = (accelerator(net, settings(NET, **ROOM)) for net in (OLD, NET))
    for change, before, after in zip(patch.memories, old.images, new.images, strict=True):
        assert (change.before, change.after) == (words_sha256(before), words_sha256(after))
    assert [change.layout.name for change in patch.memories if change.before != change.after] == [
        image.name for image, later in zip(old.images, new.images, strict=True) if (image.limbs != later.limbs).any()
    ]
