"""The C project of a network compiled for a machine, to see the integers of every layer."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from export.c_code.machines import WARNINGS, Machine, host
from export.c_code.project import RUNTIME_HEADERS, RUNTIME_SOURCES, SOURCES, arrays, c_files
from export.c_code.scratch import element_bytes, source_of
from export.c_code.sections import sections
from export.c_code.weights import Optimize
from export.hls.scripts import TEMPLATES
from export.project.golden import GoldenRun
from export.project.tools import run_tool
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import EngineError
from tsn_hw.core.files import read_bytes, write_files
from tsn_hw.core.network import PackedNetwork

HOST = host("gcc", "-O2")


@dataclass(frozen=True, eq=False)
class CompiledC:
    """An engine: the runtime and the constants of a network, compiled. Its folder goes with the object.

    base, patches: the network that is compiled and what is added to it, where ``net`` has further tasks.
    """

    net: PackedNetwork
    optimize: Optimize = "balanced"
    machine: Machine = HOST
    base: PackedNetwork | None = None
    patches: Sequence[bytes] = ()

    @cached_property
    def _folder(self) -> Path:
        """Where the program is; EngineError where it cannot be made."""
        for tool in self.machine.tools:
            if shutil.which(tool) is None:
                raise EngineError(f"{tool} is not installed")
        folder = Path(tempfile.mkdtemp(prefix="tsn-hw-c-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        net = self.base or self.net
        zeros = np.zeros((1, *net.input_shape), np.int64)
        head, outputs = net.layers[net.head(0)].name, len(net.tasks[0].classes)
        golden = [GoldenRun(0, zeros, {head: np.zeros((1, outputs), np.int64)})]  # nobody looks at it here
        most_classes = max(len(task.classes) for task in self.net.tasks)
        files = c_files(net, sections(net, self.optimize, most_classes), golden, self.optimize)
        write_files(folder, files | {"patches.h": self._patches_header} | _templates(["dump.c"]))
        build(self.machine, folder, ["dump.c"])
        return folder

    @property
    def _patches_header(self) -> bytes:
        patches = [*self.patches, b"\0"]  # one of a single byte is the end
        text = arrays([f"patch_{number}" for number in range(len(patches))], "patches", patches)
        return f'#include "tsn.h"\n\n{text}'.encode()

    def compile(self) -> None:
        """Compile it now; EngineError where that cannot be, ExportError where C does not hold the network."""
        _ = self._folder

    def run(self, task: int, inputs: Ints) -> dict[str, Ints]:
        """The integers (batch, ...) of every layer, by name, for inputs (batch, *shape)."""
        return self.run_tasks({task: inputs})[task]

    def run_tasks(self, inputs: Mapping[int, Ints]) -> dict[int, dict[str, Ints]]:
        """The same of several tasks, in one run of the program: task → name → integers."""
        folder, order = self._folder, self.machine.byte_order
        kind = f"{order}{'i' if self.net.input.signed else 'u'}{element_bytes(self.net.input)}"
        with (folder / "inputs").open("wb") as file:
            for task, batch in inputs.items():
                for x in batch:
                    file.write(np.array([task], f"{order}u4").tobytes() + x.astype(kind).tobytes())
        run_tool([*self.machine.run, str(folder / "dump")], folder)
        *values, status = np.fromfile(folder / "integers", f"{order}i4").astype(np.int64)
        if status:
            raise EngineError(f"C, tasks {', '.join(map(str, inputs))}: status {status}")
        counts = [len(batch) * self._integers(task) for task, batch in inputs.items()]
        parts = np.split(np.array(values), np.cumsum(counts)[:-1])
        return {task: self._layers(task, inputs[task], part) for task, part in zip(inputs, parts, strict=True)}

    def _own(self, task: int) -> list[int]:
        """Indices of the layers whose integers the program writes for an input: not those of a Flatten."""
        return [index for index, _, _ in self.net.run_order(task) if source_of(self.net, index) == index]

    def _integers(self, task: int) -> int:
        return sum(math.prod(self.net.shapes[index]) for index in self._own(task))

    def _layers(self, task: int, inputs: Ints, values: Ints) -> dict[str, Ints]:
        """The integers of every layer, out of those that follow one another for each input."""
        indices, own = [index for index, _, _ in self.net.run_order(task)], self._own(task)
        ends = np.cumsum([math.prod(self.net.shapes[index]) for index in own])
        flat = dict(zip(own, np.split(values.reshape(len(inputs), -1), ends[:-1], axis=1), strict=True))
        flat[-1] = inputs
        shaped = {i: flat[source_of(self.net, i)].reshape(len(inputs), *self.net.shapes[i]) for i in indices}
        return {self.net.layers[index].name: found for index, found in shaped.items()}


def build(machine: Machine, folder: Path, program: Sequence[str]) -> None:
    """Compile a program in a folder beside a project, named like its first source; EngineError if that fails."""
    objects = _runtime(machine)
    write_files(folder, _templates(machine.files) | objects)
    sources = [*program, *(name for name in SOURCES if name not in RUNTIME_SOURCES), *objects]
    sources += [name for name in machine.files if name.endswith(".c")]
    output = ["-o", program[0].removesuffix(".c")]
    run_tool([*machine.compiler, *WARNINGS, *output, *sources, *machine.libraries], folder)


@lru_cache(maxsize=32)
def _runtime(machine: Machine) -> dict[str, bytes]:
    """The runtime as object files, which are the same for all networks."""
    with tempfile.TemporaryDirectory(prefix="tsn-hw-c-") as name:
        folder = Path(name)
        write_files(folder, _templates((*RUNTIME_HEADERS, *RUNTIME_SOURCES, *machine.files)))
        run_tool([*machine.compiler, *WARNINGS, "-c", *RUNTIME_SOURCES], folder)
        objects = [source.removesuffix(".c") + ".o" for source in RUNTIME_SOURCES]
        return {name: read_bytes(folder / name) for name in objects}


def _templates(names: Sequence[str]) -> dict[str, bytes]:
    return {name: (TEMPLATES / "c" / name).read_bytes() for name in names}
