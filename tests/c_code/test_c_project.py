"""The folder of a C project: what is written, and a self-test that finds every fault."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from export.c_code.project import c_files, write_c
from export.c_code.records import _geometry
from export.c_code.sections import sections
from export.c_code.weights import weight_list
from export.project.folder import manifest_of
from tests.helpers.c_code import compiled, golden, needs_gcc
from tests.helpers.networks import Recipe, random_network
from tests.helpers.small_network import NET
from tsn_hw.core.errors import ExportError
from tsn_hw.core.layers import Flatten

FAULTS = """
#include <stdio.h>
#include "golden.h"
static uint32_t scratch[TSN_SCRATCH_WORDS];
static uint8_t copies[1 << 16];
int main(void) {
    tsn_section sections[64];
    tsn_network network = tsn_constants;
    tsn_net net;
    uint32_t bits = 0, found = 0, used = 0;
    network.sections = sections;
    for (uint32_t s = 0; s < network.section_count; s++) {
        sections[s] = tsn_constants.sections[s];
        for (uint32_t i = 0; i < sections[s].size; i++) { copies[used + i] = tsn_constants.sections[s].data[i]; }
        sections[s].data = &copies[used];
        used += sections[s].size;
    }
    for (uint32_t bit = 0; bit < 8u * used; bit += 23u, bits++) {
        copies[bit / 8u] ^= (uint8_t)(1u << bit % 8u);
        tsn_status status = tsn_init(&net, &network, scratch, sizeof scratch);
        found += (status == TSN_OK ? tsn_self_test(&net, tsn_goldens, 1) : status) != TSN_OK;
        copies[bit / 8u] ^= (uint8_t)(1u << bit % 8u);
    }
    tsn_status whole = tsn_self_test(&net, tsn_goldens, TSN_GOLDENS);
    printf("%u of %u found, then status %d\\n", (unsigned)found, (unsigned)bits, (int)whole);
    return 0;
}
"""


def told(folder, source):
    """What a program beside the runtime prints."""
    return subprocess.run([compiled(folder, source)], cwd=folder, capture_output=True, text=True, check=True).stdout


@needs_gcc
@pytest.mark.parametrize("optimize", ["size", "speed"])
def test_the_project_compiles_and_tests_itself(tmp_path, optimize):
    write_c(NET, tmp_path / "c", golden=golden(NET), optimize=optimize)
    done = subprocess.run(["make", "-s", "test"], cwd=tmp_path / "c", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "PASS: 2 tasks, 6 golden inputs"


@needs_gcc
def test_the_self_test_finds_every_single_bit_that_is_wrong_in_any_section(tmp_path):
    net = random_network(Recipe("residual", tasks=3, mask_kinds=("full", "random"), seed=4))
    write_c(net, tmp_path / "c", golden=golden(net, 1))
    assert len(sections(net, "size").banks) == 1
    found = re.fullmatch(r"(\d+) of (\d+) found, then status 0\n", told(tmp_path / "c", FAULTS))
    assert found
    assert found[1] == found[2]
    assert int(found[2]) >= 500


@needs_gcc
def test_errors_are_codes(tmp_path):
    write_c(NET, tmp_path / "c", golden=golden(NET, 1))
    source = """
        #include <stdio.h>
        #include "golden.h"
        static uint32_t scratch[TSN_SCRATCH_WORDS];
        int main(void) {
            tsn_net net;
            tsn_golden wrong = tsn_goldens[0];
            int32_t logits[TSN_MOST_LOGITS];
            int few = tsn_init(&net, &tsn_constants, scratch, sizeof scratch - 1);
            int none = tsn_init(&net, &tsn_constants, 0, sizeof scratch);
            int right = tsn_init(&net, &tsn_constants, scratch, sizeof scratch);
            wrong.crc ^= 1u;
            printf("%d %d %d ", few, none, right);
            printf("%d %d ", tsn_run(&net, 2, golden_input_0, logits), (int)tsn_classify(&net, 2, golden_input_0));
            printf("%d %s %d ", tsn_self_test(&net, &wrong, 1), tsn_task_name(&net, 1), tsn_task_name(&net, 2) == 0);
            printf("%u %u\\n", (unsigned)tsn_logit_count(&net, 1), (unsigned)tsn_logit_count(&net, 2));
            return 0;
        }"""
    assert told(tmp_path / "c", source) == "-2 -2 0 -1 -1 -8 b 1 3 0\n"


def test_the_same_network_gives_the_same_bytes_and_a_manifest_of_them(tmp_path):
    first, second = (c_files(NET, sections(NET, "size"), golden(NET), "size") for _ in range(2))
    assert first == second
    result = write_c(NET, tmp_path / "c", golden=golden(NET))
    assert set(manifest_of(tmp_path / "c", "tsn-hw c project 1")) == set(first)
    assert result.flash_bytes == sum(map(len, sections(NET, "size").all))


def test_gaps_longer_than_their_field_are_crossed_by_entries_of_value_0():
    weights = np.zeros((1, 600), np.int64)
    weights[0, [3, 599]] = 5, -7
    found = weight_list(weights, "speed")
    assert found.gaps.tolist() == [4, 255, 255, 86]
    assert found.entries.tolist() == [5, 0, 0, -7]
    assert found.data == bytes([4, 5, 255, 0, 255, 0, 86, 249])


def test_a_kind_that_c_does_not_compute_is_refused():
    unknown = type("Unknown", (Flatten,), {})("turn")
    with pytest.raises(ExportError, match=r"^layer 'turn': kind Unknown is not supported by C$"):
        _geometry(unknown)


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")
@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")
@pytest.mark.parametrize("cpu", ["cortex-m3", "cortex-m4"])
def test_a_cortex_m_gives_the_golden_logits(tmp_path, cpu):
    net = random_network(Recipe("resnet", tasks=2, multipliers=True, seed=10))
    write_c(net, tmp_path / "c", golden=golden(net))
    command = ["make", "-s", "qemu", f"CPU={cpu}"]
    done = subprocess.run(command, cwd=tmp_path / "c", capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "PASS: 2 tasks, 6 golden inputs"
