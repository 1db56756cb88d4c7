"""C projects of random networks, compiled and compared with the int64 loop."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export import GoldenRun
from export.c_code.host import CompiledC, build
from export.c_code.machines import Machine, host
from tests.helpers.networks import adversarial_inputs
from tsn_hw.core import reference

GCC = host("gcc", "-O1", "-I.")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
SANITIZED = host("gcc", "-O1", "-I.", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def needs(machine: Machine):
    """Skip where a program is missing that a machine needs."""
    for tool in machine.tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def golden(net, count=3):
    """Inputs of every task and what the int64 loop gives for them."""
    inputs = [adversarial_inputs(net, count, seed=task) for task in range(len(net.tasks))]
    return [GoldenRun(task, x, reference.run(net, task, x)) for task, x in enumerate(inputs)]


def assert_equal_integers(net, count=6, optimize="balanced", machine=GCC, base=None, patches=()):
    """Every layer of every task gives the integers of the int64 loop; how many there were."""
    engine, integers = CompiledC(net, optimize, machine, base, patches), 0
    inputs = {task: adversarial_inputs(net, count, seed=task) for task in range(len(net.tasks))}
    for task, got in engine.run_tasks(inputs).items():
        wanted = reference.run(net, task, inputs[task])
        assert list(got) == list(wanted)
        for name, values in wanted.items():
            np.testing.assert_array_equal(got[name], values, err_msg=f"task {task}, layer {name}")
            integers += values.size
    return integers


def compiled(folder, source, machine=GCC):
    """A program beside the runtime and the constants in the folder of a project; what is to run it."""
    (folder / "program.c").write_text(source)
    build(machine, folder, ["program.c"])
    return folder / "program"


def mutate(folder, patch, count, repaired, machine=SANITIZED):
    """(unchanged, refused, added) of mutations of a patch that are added to the network of a project."""
    (folder / "patch.bin").write_bytes(patch)
    program = compiled(folder, (Path(__file__).parent / "mutate_patch.c").read_text(), machine)
    command = [program, "patch.bin", str(count), "1", str(int(repaired))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stderr}"
    return tuple(int(word) for word in done.stdout.split() if word.isdigit())
