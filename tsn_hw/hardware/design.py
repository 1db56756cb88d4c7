"""A network and the units that compute it, every width known: what memories, channels and loads follow from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.folding import HardwareSettings
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.units import ActivationStream, Unit

BUS_BITS = 64


@dataclass(frozen=True)
class Design:
    """A network, its settings, the units of its body in the order of execution, and the unit that gives the logits."""

    net: PackedNetwork
    settings: HardwareSettings
    body: tuple[Unit, ...]
    head: MatrixUnit

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """All units, in the order of execution."""
        return *self.body, self.head

    @property
    def matrices(self) -> list[MatrixUnit]:
        """The units that have weights."""
        return [unit for unit in self.units if isinstance(unit, MatrixUnit)]

    @property
    def max_tasks(self) -> int:
        return max(self.settings.max_tasks, len(self.net.tasks))

    @property
    def input(self) -> ActivationStream:
        return ActivationStream(self.net.input_shape, self.net.input.bits, self.net.input.signed)

    @property
    def container_bits(self) -> int:
        """Bits that an activation takes on the input bus."""
        return 8 if self.input.bits <= 8 else 16

    @property
    def input_beats(self) -> int:
        """Beats of the input bus that an inference takes."""
        return -(-self.input.elements * self.container_bits // BUS_BITS)

    def region(self, unit: Unit, task: int) -> int:
        """The region of the line memory whose words a task reads."""
        return task if unit.is_head else self.net.tasks[task].bank

    def layer_name(self, unit: Unit, task: int) -> str:
        """Name of the layer that a task runs in a unit."""
        return self.net.layers[unit.layers[task]].name
