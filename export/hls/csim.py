"""C simulation: an accelerator compiled with g++ and its test bench, and run."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from export.hls.firmware import TEMPLATES
from export.hls.project import rendered_files
from export.project.golden import input_data, read_dump
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import EngineError
from tsn_hw.core.files import read_bytes, write_files
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings, divisors
from tsn_hw.hardware.pipeline import layer_values, least_accelerator

COMPILER = "g++"
FLAGS = ("-std=c++14", "-Wno-unknown-pragmas")
FAST_LANES = 16
"""Rows, and columns, in parallel that simulate about fastest."""


@dataclass(frozen=True)
class CompiledAccelerator:
    """An accelerator, and its test bench as a program."""

    accelerator: Accelerator
    test_bench: Path

    def run(self, task: int, inputs: Ints) -> dict[str, Ints]:
        """The integers (batch, ...) of every layer, by name, for inputs (batch, *shape)."""
        with tempfile.TemporaryDirectory() as folder:
            dump = Path(folder) / "integers.dat"
            done = self.check(input_data(self.accelerator, task, inputs), "--dump", str(dump))
            if done.returncode:
                raise EngineError(f"C simulation, task {task}: {done.stdout.strip() or f'exit code {done.returncode}'}")
            found = read_dump(self.accelerator, task, len(inputs), read_bytes(dump))
        return layer_values(self.accelerator.net, task, inputs, found)

    def check(self, data: bytes, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the test bench on the content of a golden.dat; its exit code is 0 if all is equal."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "golden.dat"
            path.write_bytes(data)
            return _run(str(self.test_bench), str(path), *options)


def compiled(design: Accelerator, ap_types: Path | None = None, compiler: str = COMPILER) -> CompiledAccelerator:
    """Compile an accelerator, once a process; ``ap_types``: folder of the vendor's ap_int.h, to compile against it.

    Raises EngineError without the compiler or where the temporary folder lets no program run, FoldingError where words
    are wider than HLS allows.
    """
    if shutil.which(compiler) is None:
        raise EngineError(f"{compiler} is not installed")
    files = rendered_files(design)
    digest = hashlib.sha256(repr((ap_types, compiler, sorted(files.items()))).encode()).hexdigest()
    folder = _workplace() / digest
    program = folder / "testbench"
    if not program.exists():
        write_files(folder, files)
        source, bench = folder / "firmware" / "accelerator.cpp", _test_bench_object(ap_types, compiler)
        _compile(ap_types, compiler, f"-I{folder / 'firmware'}", str(source), str(bench), "-o", str(program))
    if not os.access(program, os.X_OK):
        raise EngineError(
            f"{_workplace().parent}: no program runs there (mounted noexec?); set TMPDIR to another folder"
        )
    return CompiledAccelerator(design, program)


def fast_settings(net: PackedNetwork) -> HardwareSettings:
    """Settings of all units with which the simulation is fast."""
    units = {}
    for unit in least_accelerator(net).units:
        pe, simd = (max(d for d in divisors(n) if d <= FAST_LANES) for n in (unit.rows, unit.most_simd))
        units[unit.name] = UnitSettings(Folding(pe, simd))
    return HardwareSettings(units)


@cache
def _workplace() -> Path:
    """A folder for what this process compiles."""
    folder = Path(tempfile.mkdtemp(prefix="tsn-hw-csim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _test_bench_object(ap_types: Path | None, compiler: str) -> Path:
    """The test bench compiled: it is the same for all accelerators."""
    path = _workplace() / f"testbench_{compiler}{'' if ap_types is None else '_ap_types'}.o"
    _compile(ap_types, compiler, "-c", str(TEMPLATES / "testbench" / "testbench.cpp"), "-o", str(path))
    return path


def _compile(ap_types: Path | None, compiler: str, *arguments: str) -> None:
    flags = [f"-I{TEMPLATES / folder}" for folder in ("", "firmware", "csim", "testbench")]
    if ap_types is None:
        flags.append("-O2")
    else:  # -O2 takes much longer with them, and saves less than that
        flags += ["-O1", "-DAP_INT_MAX_W=4096", "-isystem", str(ap_types), "-include", str(ap_types / "ap_int.h")]
    done = _run(compiler, *FLAGS, *flags, *arguments)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise EngineError(f"{compiler}: {errors[0] if errors else f'exit code {done.returncode}'}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
