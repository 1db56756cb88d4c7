"""Vendor scripts run with plain tclsh: the tools' commands are stubs that write down how they were called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

needs_tclsh = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not installed")
SEPARATOR = "\x1f"

HLS_COMMANDS = """open_project set_top add_files open_solution set_part create_clock csim_design csynth_design
cosim_design export_design close_project"""
VIVADO_COMMANDS = """create_project set_property update_ip_catalog create_bd_design create_bd_cell apply_bd_automation
connect_bd_intf_net connect_bd_net assign_bd_address validate_bd_design save_bd_design add_files
update_compile_order launch_runs wait_on_run"""
_PRELUDE = r"""
set log [open $::env(STUB_LOG) w]
fconfigure $log -encoding utf-8
proc record {args} { puts $::log [join $args \x1f] }
namespace eval ipx {}
foreach command $::env(STUB_COMMANDS) { proc $command args "record $command {*}\$args" }
proc current_project {} { return project }
proc ipx::current_core {} { return core }
proc current_fileset {} { return sources_1 }
proc get_bd_cells {name} { return $name }
proc get_bd_pins {name} { return $name }
proc get_bd_intf_pins {name} { return $name }
proc get_files {name} { return /design/$name }
proc get_runs {name} { return $name }
proc make_wrapper {args} { record make_wrapper {*}$args; return /design/wrapper.v }
proc get_property {name object} { return $::env(STUB_$name) }
rename exit leave
proc exit {} { record exit; close $::log; leave 0 }
if {[catch {source [lindex $argv 0]} message]} { puts stderr $message; leave 1 }
puts stderr "the script did not exit"
leave 1
"""


def run_script(script: Path, commands: str, folder: Path, **environment: str) -> tuple[list[list[str]], str]:
    """The recorded calls of a script, and its error (empty: none); variables of the environment may be given."""
    prelude, log = folder / "prelude.tcl", folder / "calls.log"
    prelude.write_text(_PRELUDE)
    stubs = {"STUB_LOG": str(log), "STUB_COMMANDS": " ".join(commands.split())}
    done = subprocess.run(
        ["tclsh", str(prelude), str(script)],
        env={"PATH": os.environ["PATH"], **stubs, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )
    assert bool(done.returncode) == bool(done.stderr), done.stderr
    calls = [line.split(SEPARATOR) for line in log.read_text().splitlines()]
    return calls, done.stderr.strip()
