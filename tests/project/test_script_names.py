"""Names of files and folders never become part of a script."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export import GoldenRun, write_hls
from export.project.folder import MANIFEST
from export.rtl.project import TOP, write_rtl
from export.rtl.simulation import RtlCall, compile_rtl
from export.rtl.simulators import RtlSimulator
from export.rtl.synthesis import synthesize
from tests.helpers.handmade import U8, linear, requantization
from tests.helpers.networks import adversarial_inputs
from tests.helpers.rtl_designs import different_integers, icarus, needs_iverilog
from tsn_hw.core import reference
from tsn_hw.core.errors import ExportError
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator

NET = linear(np.arange(1, 9).reshape(2, 4), requantization(None, channels=2), U8, head=False)
DESIGN = accelerator(NET, HardwareSettings({"head": UnitSettings(Folding(1, 2))}))
COMMANDS = ["q; exec -- touch pwned; #.sv", "a\ntee -o pwned stat\n.sv", "$(touch pwned).sv", '" -o pwned ".sv', "é.sv"]
NONE = RtlSimulator("none", "none", lambda sources: [], [])
HOSTILE = 'it\'s a "$(touch pwned)"; `touch pwned` #\n[exec touch pwned] & {'


def pwned(folder: Path) -> list[Path]:
    return list(folder.rglob("pwned"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_of_another_in_rtl_is_refused_by_every_program_that_would_take_it(name, tmp_path):
    write_rtl(DESIGN, tmp_path)
    (tmp_path / "rtl" / name).write_text("module other; endmodule\n")
    for program in (lambda: synthesize(tmp_path, "ecp5"), lambda: compile_rtl(DESIGN, tmp_path, chosen=NONE)):
        with pytest.raises(ExportError) as caught:
            program()
        wanted = f"{tmp_path}: {f'rtl/{name}'!r} is no file of the project; move it out of rtl"
        assert (str(caught.value), pwned(tmp_path)) == (wanted, [])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_name_that_a_manifest_was_made_to_list_is_refused(name, tmp_path):
    write_rtl(DESIGN, tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["files"][f"rtl/{name}"] = "0" * 64
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ExportError) as caught:
        synthesize(tmp_path, "ecp5")
    wanted = f"{tmp_path}: {f'rtl/{name}'!r} is no file of the project; move it out of rtl"
    assert (str(caught.value), pwned(tmp_path)) == (wanted, [])


def test_yosys_is_told_names_within_the_project_alone(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    netlist = json.dumps({"modules": {TOP: {"ports": {}, "cells": {"a": {"type": "LUT4", "connections": {}}}}}})
    script = f"printf '%s\\n' \"$@\" >> $TOLD\necho '{netlist}' > synthesis/ecp5.json\necho 'Yosys 1 (x)'\n"
    (tmp_path / "bin/yosys").write_text(f"#!/bin/sh\n{script}")
    (tmp_path / "bin/yosys").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("TOLD", f"{tmp_path}/told")
    write_rtl(DESIGN, tmp_path / HOSTILE)
    assert synthesize(tmp_path / HOSTILE, "ecp5").cells == {"LUT4": 1}
    told = (tmp_path / "told").read_text()
    assert re.findall(r"[^\w\s/.;-]", told.replace('-DTSN_MEMORIES="memories/"', "")) == []
    assert "rtl/tsn_accelerator.sv" in told


@needs_iverilog
def test_a_project_is_simulated_in_a_folder_of_any_name(tmp_path):
    call = RtlCall(0, adversarial_inputs(NET, 3))
    results = icarus(tmp_path / HOSTILE, DESIGN).run([call])
    assert (different_integers(NET, [call], results), pwned(tmp_path)) == (0, [])


@pytest.mark.skipif(None in map(shutil.which, ("make", "clang++")), reason="make or clang++ is not installed")
def test_c_simulation_runs_in_a_folder_of_any_name_and_by_clang(tmp_path):
    x = adversarial_inputs(NET, 3)
    write_hls(DESIGN, tmp_path / HOSTILE, golden=[GoldenRun(0, x, reference.run(NET, 0, x))])
    command = ["make", "-s", "csim", "CXX=clang++", "CXXFLAGS=-O0"]
    done = subprocess.run(command, cwd=tmp_path / HOSTILE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, pwned(tmp_path)) == (0, "", [])  # no warning either
    assert re.fullmatch(r"PASS: \d+ integers, .*; 0 differ\n", done.stdout)
