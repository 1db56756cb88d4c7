"""What an RTL project brings for who builds it into a system is true of its RTL."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.rtl.integration import FOLDERS, IP_TEMPLATES
from export.rtl.project import write_rtl
from export.rtl.top import RTL_TEMPLATES
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tests.helpers.rtl_designs import folded
from tsn_hw.core import reference

needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="needs verilator")
NET = random_network(
    Recipe(kind="mlp", tasks=3, multipliers=True, signed_input=True, widths=(13, 8), classes=4, seed=4)
)


HOOKS = """
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
uint32_t bench_read(uintptr_t address);
void bench_write(uintptr_t address, uint32_t value);
#ifdef __cplusplus
}
#endif
#define TSN_READ32(address) bench_read(address)
#define TSN_WRITE32(address, value) bench_write(address, value)
"""
# After each step of driver_bench.cpp: the port, bit 9 of the control register, the register of events.
INTERRUPTS = ["000", "000"]
INTERRUPTS += ["111", "000", "112", "000"]  # done enabled: acknowledged; ready toggled by hand, and again
INTERRUPTS += ["112", "113", "111", "000"]  # ready enabled: done toggled by hand, ready acknowledged, then done
INTERRUPTS += ["113", "112", "000", "000"]  # both
INTERRUPTS += ["113", "003"]
BENCH = Path(__file__).parents[1] / "helpers" / "driver_bench.cpp"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("integration") / "rtl"
    write_rtl(folded(NET, np.random.default_rng(0)), folder)
    return folder


@pytest.mark.skipif(importlib.util.find_spec("peakrdl_cheader") is None, reason="needs peakrdl-cheader")
@pytest.mark.parametrize("name", ["tsn_registers", "tsn_mapped"])
def test_the_header_is_what_the_registers_say(name, tmp_path):
    made = tmp_path / f"{name}.h"
    command = [sys.executable, "-m", "peakrdl", "c-header", str(IP_TEMPLATES / f"{name}.rdl"), "-o", str(made)]
    subprocess.run([*command, "--std", "gnu99"], check=True, capture_output=True)
    assert made.read_text() == (IP_TEMPLATES / f"{name}.h").read_text()


def test_the_registers_are_those_of_the_rtl():
    said = dict(re.findall(r"\} (\w+) @ (0x[0-9A-F]+);", (IP_TEMPLATES / "tsn_registers.rdl").read_text()))
    control = (RTL_TEMPLATES / "tsn_control.sv").read_text()
    built = {
        name.lower().removesuffix("_print"): int(value, 16)
        for name, value in re.findall(r"([A-Z_]+) = 7'h([0-9A-F]+)", control)
    }
    assert {name: int(address, 16) for name, address in said.items()} == {
        "task" if name == "task_id" else name: address for name, address in built.items()
    }


def test_the_streams_as_registers_lie_where_their_description_says():
    said = re.findall(
        r"^    \} (\w+)(?:\[32\])? @ 0x(\w+);", (IP_TEMPLATES / "tsn_mapped.rdl").read_text(), re.MULTILINE
    )
    built = re.findall(r"([A-Z]+) = 9'h(\w+)", (IP_TEMPLATES / "tsn_mapped.sv").read_text())
    assert [(name.upper(), int(address, 16)) for name, address in said] == [
        (name, int(address, 16)) for name, address in built
    ]


@needs_verilator
def test_the_accelerator_with_its_streams_as_registers_leaves_no_port_open(project):
    files = [*sorted(project.glob("rtl/*.sv")), project / "integration/tsn_mapped.sv"]
    command = ["verilator", "--lint-only", "-Wall", "--top-module", "tsn_mapped", '-DTSN_MEMORIES="memories/"']
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, cwd=project)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_instance_names_every_port_of_the_accelerator(project):
    port = r"^    (?:input|output) wire (?:\[(\d+:\d+)\] )?(\w+),?"
    accelerator = (project / "rtl/tsn_accelerator.sv").read_text().partition("`endif")[2].partition(");")[0]
    instance = (project / "integration/tsn_instance.sv").read_text()
    assert re.findall(port, instance, re.MULTILINE) == re.findall(port, accelerator, re.MULTILINE)
    assert re.findall(r"\.(\w+)\((\w+)\)", instance) == [(name, name) for _, name in re.findall(port, instance, re.M)]


def test_a_readme_and_all_fixed_files_are_there_and_constraints_name_the_clock(project):
    readme = (project / "README.md").read_text()
    assert "Input: 13 activations an inference, 8 bits, signed, each in 8 bits of a beat" in readme
    assert "tsn_pack(beats, activations, 13, 8);" in readme
    for name, folder in FOLDERS.items():
        assert (project / folder / name).read_bytes() == (IP_TEMPLATES / name).read_bytes()
    for name in re.findall(r"^\| `(\S+?)`", readme, re.MULTILINE):
        assert (project / name).exists()
    for path in (project / "constraints").iterdir():
        assert re.search(r'\[get_ports aclk\]|PORT "aclk"', path.read_text())


@needs_verilator
def test_the_driver_runs_tasks_on_the_model(project, tmp_path):
    (tmp_path / "hooks.h").write_text(HOOKS)
    driver = tmp_path / "driver.o"
    # Verilator calls a port otherwise that is called as something of C++.
    flags = [f"-I{project / 'driver'}", "-include", str(tmp_path / "hooks.h"), "-DTSN_INTERRUPT=__SYM__interrupt"]
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
    for name, out in (("tsn_classify", "/dev/null"), ("tsn_driver", str(driver))):
        command = ["gcc", *strict, *flags, "-c", str(project / f"driver/{name}.c"), "-o", out]
        subprocess.run(command, check=True)
    sources = sorted(map(str, project.glob("rtl/*.sv")))
    command = ["verilator", "--cc", "--exe", "--build", "-O1", "--top-module", "tsn_accelerator", "-Wno-fatal"]
    command += ["--Mdir", str(tmp_path / "model"), "-CFLAGS", " ".join(["-O1", *flags]), *sources, str(driver)]
    command += [str(BENCH), '-DTSN_MEMORIES="memories/"']
    subprocess.run(command, check=True, capture_output=True, cwd=project)
    inputs = [(task, adversarial_inputs(NET, 3, seed=task)[2]) for task in (0, 2, 1, 0)] + [(9, np.zeros(13, np.int64))]
    calls = "".join(f"{task} 8 4 {' '.join(map(str, x))}\n" for task, x in inputs)
    (tmp_path / "calls.txt").write_text(calls)
    run = [str(tmp_path / "model/Vtsn_accelerator"), str(tmp_path / "calls.txt")]
    done = subprocess.run(run, check=True, capture_output=True, text=True, cwd=project)
    prints, interrupts, abort, *told = done.stdout.splitlines()
    assert prints == "0 253 254"
    assert interrupts.split() == INTERRUPTS
    assert abort == "0 255 6 the call was aborted"
    lines = [list(map(int, line.split())) for line in told]
    for (task, x), (begun, again, early, status, cycles, largest, *logits) in zip(inputs[:-1], lines, strict=False):
        wanted = list(reference.run(NET, task, x[None]).values())[-1][0].tolist()
        assert (begun, again, early, status, logits) == (0, 255, 255, 0, wanted)
        assert largest == wanted.index(max(wanted))
        assert 0 < cycles < 1000
    assert lines[-1][3:4] + lines[-1][6:] == [1]
