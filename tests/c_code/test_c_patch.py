"""Tasks that are added to C in flash: the integers of a new export, refusals, and faults that are found."""

import re
import subprocess
import zlib

import pytest

from export import write_c, write_c_patch
from export.c_code.patch import task_patch
from export.c_code.sections import network_digest, sections
from export.project.folder import manifest_of
from tests.helpers.c_code import assert_equal_integers, compiled, golden, mutate, needs_gcc
from tests.helpers.networks import Recipe, random_network
from tsn_hw.core.errors import ExportError
from tsn_hw.core.network import PackedNetwork

RECIPES = {
    "mlp": Recipe("mlp", tasks=4, mask_kinds=("random", "full", "empty", "one weight"), seed=1),
    "mlp that shares its words": Recipe("mlp", tasks=5, density=0.9, widths=(60, 40, 20), seed=2),
    "mlp of 16 bits": Recipe("mlp", tasks=3, act_bits=16, centroid_bits=16, density=0.9, signed_input=True, seed=3),
    "banks": Recipe("conv", tasks=4, banks=2, multipliers=True, seed=5),
    "residual": Recipe("residual", tasks=3, density=0.9, extremes=True, multipliers=True, seed=8),
    "resnet": Recipe("resnet", tasks=3, density=0.9, signed_input=True, seed=10),
}
SHARING = random_network(RECIPES["mlp that shares its words"])

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "patch/golden.h"
static uint32_t scratch[TSN_SCRATCH_WORDS];
static tsn_section room[4];
static tsn_net net;
static uint8_t *files[8];
static uint32_t sizes[8];
void begin(uint32_t count) {
    if (tsn_init(&net, &tsn_constants, scratch, sizeof scratch) != TSN_OK) { exit(1); }
    tsn_give_room(&net, room, count);
}
int add(uint32_t i) { return tsn_add_task(&net, files[i], sizes[i]); }
static void read_files(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        files[i] = (uint8_t *)malloc(1 << 16);
        sizes[i] = (uint32_t)fread(files[i], 1, 1 << 16, file);
        fclose(file);
    }
}
int main(int argc, char **argv) {
    read_files(argc, argv);
    BODY
    return 0;
}
"""
REFUSALS = """
    begin(0);
    printf("%d ", add(1));
    begin(1);
    printf("%d %u ", add(1), (unsigned)tsn_task_count(&net));
    begin(4);
    printf("%d ", add(2));
    printf("%d ", add(3));
    printf("%d ", tsn_add_task(&net, 0, 0));
    printf("%d ", tsn_add_task(&net, files[1], sizes[1] - 1));
    net.scratch_bytes = 8;
    printf("%d ", add(1));
    begin(4);
    printf("%d ", add(1));
    printf("%d ", add(1));
    printf("%u %s %s ", (unsigned)tsn_task_count(&net), tsn_task_name(&net, 4), tsn_digest(&net));
    printf("%d", tsn_self_test(&net, tsn_goldens, TSN_GOLDENS));
"""
FAULTS = """
    static uint8_t copies[1 << 17];
    static uint32_t starts[16];
    tsn_section parts[16];
    tsn_network network = tsn_constants;
    uint32_t used = 0, bits = 0, found = 0, own = network.section_count;
    for (uint32_t s = 0; s < own; s++) {
        parts[s] = tsn_constants.sections[s];
        memcpy(copies + used, parts[s].data, parts[s].size);
        parts[s].data = copies + used;
        used += parts[s].size;
    }
    memcpy(copies + used, files[1], sizes[1]);
    network.sections = parts;
    starts[0] = used;
    used += sizes[1];
    tsn_init(&net, &network, scratch, sizeof scratch);
    tsn_give_room(&net, room, 4);
    int status = tsn_add_task(&net, copies + starts[0], sizes[1]);
    for (uint32_t bit = 0; bit < 8 * used; bit += 41, bits++) {
        copies[bit / 8] ^= (uint8_t)(1u << bit % 8);
        found += tsn_self_test(&net, tsn_goldens, 1) != TSN_OK;
        copies[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (uint32_t s = 0, at = 0; s < own; at += parts[s++].size) {
        status |= memcmp(copies + at, tsn_constants.sections[s].data, parts[s].size) != 0;
    }
    printf("%d %u of %u, then %d %d", status, (unsigned)found, (unsigned)bits,
           memcmp(copies + starts[0], files[1], sizes[1]), tsn_self_test(&net, tsn_goldens, TSN_GOLDENS));
"""

pytestmark = needs_gcc


def program(folder, body, *patches):
    """What a program tells in the folder of a project, where files[1], files[2] ... are patches."""
    names = [f"{number}.bin" for number in range(1, len(patches) + 1)]
    for name, patch in zip(names, patches, strict=True):
        (folder / name).write_bytes(patch)
    command = [compiled(folder, PROGRAM.replace("BODY", body)), *names]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def patched_folder(folder, base, new):
    """A project of ``base`` and, in its folder patch, what ``new`` adds; the patch."""
    write_c(base, folder, golden=golden(base, 1), max_classes=max(len(task.classes) for task in new.tasks))
    write_c_patch(base, new, folder / "patch", golden=golden(new, 1)[len(base.tasks) :])
    return (folder / "patch" / "patch.bin").read_bytes()


@pytest.mark.parametrize(
    ("name", "optimize"),
    [
        *(("mlp that shares its words", optimize) for optimize in ("size", "balanced", "speed")),
        *zip([name for name in RECIPES if "shares" not in name], ["balanced", "speed"] * 3, strict=False),
    ],
)
def test_added_tasks_give_the_integers_of_a_new_export(name, optimize):
    new = random_network(RECIPES[name])
    base = new.first_tasks(1)
    patch = b"".join(task_patch(base, base, new, optimize))
    assert assert_equal_integers(new, optimize=optimize, base=base, patches=[patch]) > 0


@pytest.mark.parametrize("optimize", ["balanced", "speed"])
def test_a_patch_may_follow_a_patch(optimize):
    base, first, second = (SHARING.first_tasks(count) for count in (2, 3, 4))
    steps = [(base, first), (first, second), (second, SHARING)]
    patches = [b"".join(task_patch(base, old, new, optimize)) for old, new in steps]
    assert assert_equal_integers(SHARING, optimize=optimize, base=base, patches=patches) > 0


def test_words_that_the_firmware_has_are_masked_and_the_others_listed():
    base = SHARING.first_tasks(4)
    (small,) = task_patch(base, base, SHARING, "size")
    (whole,) = task_patch(base, base, SHARING, "speed")
    assert len(sections(base, "size").banks) == 1
    assert len(small) < len(whole) / 3


def test_what_cannot_be_added_is_refused_by_a_code_and_leaves_the_network_as_it_is(tmp_path):
    base = SHARING.first_tasks(3)
    patch = patched_folder(tmp_path, base, SHARING)
    first = SHARING.first_tasks(4)
    (last,) = task_patch(base, first, SHARING, "balanced")
    (other_base,) = task_patch(SHARING.first_tasks(2), base, first, "balanced")
    told = program(tmp_path, REFUSALS, patch, last, other_base)
    refused = "-10 -10 3 -11 -11 -5 -5 -2"  # no room twice, foreign twice, two sizes, no scratch
    assert told == f"{refused} 0 -11 5 task4 {network_digest(SHARING)} 0"


def test_more_logits_than_there_is_room_for_are_refused(tmp_path):
    wide = random_network(Recipe("mlp", tasks=2, widths=(9, 8), classes=3, seed=4))
    narrow = wide.first_tasks(1)
    (patch,) = task_patch(narrow, narrow, wide, "balanced")
    patched_folder(tmp_path, narrow, wide)
    assert program(tmp_path, 'begin(1); printf("%d", add(1));', patch) == "0"
    wrong = patch[:24] + b"\x04" + patch[25:]  # outputs
    told = program(tmp_path, 'begin(1); printf("%d", add(1));', resealed(wrong))
    assert told == "-10"


def resealed(section):
    """A section with the CRC-32 of what it holds."""
    return section[:8] + zlib.crc32(section[12:]).to_bytes(4, "little") + section[12:]


def test_the_self_test_finds_every_single_bit_that_is_wrong_after_tasks_were_added(tmp_path):
    patch = patched_folder(tmp_path, SHARING.first_tasks(2), SHARING)
    told = re.fullmatch(r"0 (\d+) of (\d+), then 0 0", program(tmp_path, FAULTS, patch))
    assert told
    assert told[1] == told[2]
    assert int(told[2]) >= 500


@pytest.mark.parametrize("name", ["mlp that shares its words", "resnet"])
def test_mutations_of_a_patch_are_refused_and_none_leads_out_of_bounds(tmp_path, name):
    new = random_network(RECIPES[name])
    patch = patched_folder(tmp_path, new.first_tasks(1), new)
    unchanged, refused, added = mutate(tmp_path, patch, 500, repaired=False)
    assert (unchanged + refused, added) == (500, 0)
    unchanged, refused, added = mutate(tmp_path, patch, 500, repaired=True)
    assert unchanged + refused + added == 500
    assert refused > 300  # by their numbers alone


def test_a_patch_for_another_network_is_not_made(tmp_path):
    other = random_network(RECIPES["mlp"])
    with pytest.raises(ExportError, match=r"^task 'task0': has the seal"):
        write_c_patch(other.first_tasks(1), SHARING, tmp_path / "patch", golden=golden(SHARING, 1))
    with pytest.raises(ExportError, match=r"^the new network has 5 tasks, the old one 5: there is nothing to add$"):
        write_c_patch(SHARING, SHARING, tmp_path / "patch", golden=golden(SHARING, 1))


def test_a_patch_is_a_folder_of_three_files_with_a_manifest(tmp_path):
    base = SHARING.first_tasks(4)
    made = write_c_patch(base, SHARING, tmp_path, golden=golden(SHARING, 1)[4:])
    assert set(manifest_of(tmp_path, "tsn-hw c patch 1")) == {"patch.bin", "golden.h", "README.md"}
    assert made.new_tasks == ("task4",)
    assert (tmp_path / "patch.bin").read_bytes() == task_patch(base, base, SHARING, "balanced")[0]


def test_digests_of_many_tasks_take_the_network_apart_once(monkeypatch):
    monkeypatch.setattr(PackedNetwork, "first_tasks", None)
    assert len(sections(SHARING, "size").tasks) == 5
