"""The folder of a C project: what is written, and a self-test that finds every fault."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from benchmarks.nets import random_ds_cnn, random_mlp, random_resnet18
from export.c_code.project import RUNTIME_SOURCES, c_files, scratch_bytes, write_c
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


needs_arm = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")


def told(folder, source):
    """What a program beside the runtime prints."""
    return subprocess.run([compiled(folder, source)], cwd=folder, capture_output=True, text=True, check=True).stdout


def make(folder, *targets):
    return subprocess.run(["make", "-s", *targets], cwd=folder, capture_output=True, text=True, check=True, timeout=120)


@needs_gcc
def test_the_project_compiles_and_tests_itself(tmp_path):
    write_c(NET, tmp_path / "c", golden=golden(NET))
    assert make(tmp_path / "c", "test").stdout.splitlines()[-1] == "PASS: 2 tasks, 6 golden inputs"


@pytest.mark.skipif(shutil.which("riscv64-unknown-elf-gcc") is None, reason="riscv64-unknown-elf-gcc is not installed")
def test_the_project_compiles_for_risc_v_without_a_c_library(tmp_path):
    write_c(NET, tmp_path / "c", golden=golden(NET))
    assert "tsn_linear.o" in make(tmp_path / "c", "riscv").stdout


@needs_arm
def test_code_and_stack_of_the_runtime_are_small_and_tensors_share_the_scratch_buffer(tmp_path):
    """RAM: two of the largest tensors, those of a skip connection a third, and 4 KB for logits, stack and state."""
    write_c(NET, tmp_path / "c", golden=golden(NET))
    command = ["arm-none-eabi-gcc", "-std=c99", "-Os", "-mcpu=cortex-m4", "-mthumb", "-fstack-usage", "-c"]
    subprocess.run([*command, *RUNTIME_SOURCES], cwd=tmp_path / "c", check=True)
    objects = [name.replace(".c", ".o") for name in RUNTIME_SOURCES]
    sizes = subprocess.run(
        ["arm-none-eabi-size", *objects], cwd=tmp_path / "c", capture_output=True, text=True, check=True
    )
    assert sum(int(line.split()[0]) for line in sizes.stdout.splitlines()[1:]) <= 8192
    frames = [int(line.split()[1]) for file in (tmp_path / "c").glob("*.su") for line in file.read_text().splitlines()]
    stack = sum(sorted(frames)[-8:])  # calls are never deeper
    assert stack <= 3072
    nets = [(2, random_mlp((784, 100, 100, 10))), (2, random_ds_cnn(16)), (3, random_resnet18(4))]
    for most, net in nets:
        order = list(net.run_order(0))[:-1]
        largest = sorted((net.format(0, i).bits // 8 * int(np.prod(net.shape(i))) for i, _, _ in order), reverse=True)
        assert scratch_bytes(sections(net, "balanced")) + stack <= sum(largest[:most]) + 4096


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


@needs_arm
@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")
def test_a_cortex_m_gives_the_golden_logits(tmp_path):
    net = random_network(Recipe("resnet", tasks=2, multipliers=True, seed=10))
    write_c(net, tmp_path / "c", golden=golden(net))
    done = make(tmp_path / "c", "qemu", "CPU=cortex-m3")
    assert done.stdout.splitlines()[-1] == "PASS: 2 tasks, 6 golden inputs"
