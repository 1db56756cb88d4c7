"""An accelerator, complete: processes, memories, loads and all numbers, each computed when it is first asked for.

HLS, RTL, memory files, cost, search and driver render what it says, and decide nothing of it again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from tsn_hw.core.errors import FoldingError
from tsn_hw.core.memory import index_bits
from tsn_hw.hardware.dataflow import Dataflow, dataflow
from tsn_hw.hardware.design import Design
from tsn_hw.hardware.images import MemoryImage, memory_image
from tsn_hw.hardware.loads import ALL_TASKS, Load, load
from tsn_hw.hardware.memories import MIN_DEPTH, Memory, MemoryLayout
from tsn_hw.hardware.units import Parameters, Unit

STAGES = 48
"""Most cycles that a word takes through a unit with its window, converter and FIFOs, besides the steps of loops."""
MAX_BITS = 2**32
"""Most bits of all memories of an accelerator; the largest parts have an eighth of that on chip."""


@dataclass(frozen=True)
class Accelerator(Design):
    """A design and what follows from it; made by :func:`tsn_hw.hardware.pipeline.accelerator`."""

    @cached_property
    def dataflow(self) -> Dataflow:
        """Processes and channels."""
        return dataflow(self)

    @cached_property
    def design_number(self) -> int:
        """What tells it from others; its loads begin with it."""
        return self.dataflow.number

    @cached_property
    def network_number(self) -> int:
        """What tells its network from others, as far as it begins with it: of the memories that nothing loads.

        The first 32 bits of the SHA-256 of their limbs, memory by memory, as little-endian words of 64 bits.
        """
        digest = hashlib.sha256()
        for image in self.images:
            if not image.layout.is_loaded:
                digest.update(image.limbs.astype("<u8").tobytes())
        return int.from_bytes(digest.digest()[:4], "big")

    @cached_property
    def _layouts(self) -> tuple[tuple[MemoryLayout, ...], ...]:
        return tuple(unit.layouts(self.max_tasks) for unit in self.units)

    def layouts_of(self, unit: Unit) -> tuple[MemoryLayout, ...]:
        """What the memories of a unit look like."""
        return self._layouts[unit.number]

    @property
    def layouts(self) -> tuple[MemoryLayout, ...]:
        """The same of all memories, unit by unit."""
        return tuple(layout for layouts in self._layouts for layout in layouts)

    def memories_of(self, unit: Unit) -> list[Memory]:
        """The memories of a unit and the buffers of its inputs."""
        return [*unit.memories(self.max_tasks), *self.join_fifos.get(unit.number, ())]

    @cached_property
    def join_fifos(self) -> dict[int, tuple[Memory, ...]]:
        """By the index of a unit of two inputs, its FIFOs that hold more than others.

        Their depths follow from all units on both ways there.
        """
        if all(len(unit.inputs) == 1 for unit in self.units):
            return {}
        found = {}
        for process in self.dataflow.processes:
            if process.kind == "unit" and len(process.inputs) == 2:
                name, channels = self.units[process.unit].name, self.dataflow.ends(process)[0]
                deep = (channel for channel in channels if channel.depth > MIN_DEPTH)
                found[process.unit] = tuple(Memory(name, "fifo", c.depth, c.width_bits, writable=True) for c in deep)
        return found

    def interval_of(self, task: int) -> int:
        """Cycles between two inferences of a task: what the slowest unit takes, or its beats, or its logits."""
        return max(self.input_beats, self.head.rows, *(unit.cycles_of(task) for unit in self.units))

    @cached_property
    def slots(self) -> int:
        """Places for what is said of an inference when it begins, a power of two; one fewer are under way at most.

        So many that this slows nobody down: in a unit an inference arrives, is worked on and leaves, each in at most
        an interval, and a word takes :data:`STAGES` cycles to the next unit.
        """
        loops = len(self.units)
        interval = min(map(self.interval_of, range(len(self.net.tasks))))
        under_way = 2 + 3 * loops + -(-STAGES * loops // interval)
        return 1 << under_way.bit_length()

    @cached_property
    def control(self) -> Parameters:
        """What the module that carries out calls needs to know."""
        task = next(layout for layout in self.layouts_of(self.head) if layout.kind == "task")
        return {
            "MAX_TASKS": self.max_tasks,
            "LOADS_ALL": ALL_TASKS in self.loads,
            "LOADS_TASK": 0 in self.loads,
            "NETWORK": self.network_number,
            "DESIGN": self.design_number,
            "TASK_BITS": index_bits(self.max_tasks),
            "PARAMETER_BITS": task.width_bits,
            "CLASS_BITS": self.head.class_bits,
            "HEAD": self.head.number,
            "LISTS_TASKS": not task.is_loaded,
            "TASK_STYLE": task.memory.storage,
        } | ({} if task.is_loaded else {"TASK_FILE": f"{task.name}.mem"})

    # ------------------------------------------------------------------------------------------------------- content

    @cached_property
    def images(self) -> tuple[MemoryImage, ...]:
        """The content of all memories, unit by unit; FoldingError where they are larger than any part's."""
        whole = sum(layout.bits for layout in self.layouts)
        if whole > MAX_BITS:
            raise FoldingError(f"the memories of the accelerator have {whole} bits, at most {MAX_BITS} are built")
        of_first, tasks = {image.name: image for image in self.task_images(0)}, range(len(self.net.tasks))
        return tuple(
            of_first[layout.name] if layout.loaded == "task" else memory_image(self, unit, layout, tasks)
            for unit in self.units
            for layout in self.layouts_of(unit)
        )

    @cached_property
    def _task_images(self) -> dict[int, tuple[MemoryImage, ...]]:
        return {}

    def task_images(self, task: int) -> tuple[MemoryImage, ...]:
        """What is loaded when the task changes to this one, unit by unit. Later tasks do not change it."""
        if task not in self._task_images:
            self._task_images[task] = tuple(
                memory_image(self, unit, layout, [task])
                for unit in self.units
                for layout in self.layouts_of(unit)
                if layout.loaded == "task"
            )
        return self._task_images[task]

    @cached_property
    def loads(self) -> tuple[int, ...]:
        """Everything that can be loaded: ALL_TASKS, and every task, as far as there is something to load."""
        kinds = {layout.loaded for layout in self.layouts}
        tasks = range(len(self.net.tasks)) if "task" in kinds else ()
        return *([ALL_TASKS] if "once" in kinds else []), *tasks

    @cached_property
    def _loads(self) -> dict[int, Load]:
        return {}

    def load(self, task: int) -> Load:
        """What loads a task, or with ALL_TASKS what lies in UltraRAM."""
        if task not in self._loads:
            once = tuple(image for image in self.images if image.layout.loaded == "once") if task == ALL_TASKS else ()
            images = once or self.task_images(task)
            numbers = {unit.name: unit.number for unit in self.units}
            self._loads[task] = load(task, [(numbers[image.unit], image) for image in images], self.design_number)
        return self._loads[task]

    @property
    def load_files(self) -> dict[str, bytes]:
        """Path in a project → the beats of everything that can be loaded, in little-endian bytes."""
        return {self.load(task).path: self.load(task).data for task in self.loads}
