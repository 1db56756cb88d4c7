"""What one task computes in one layer: the facts that every back end needs to be exact, derived once.

:meth:`tsn_hw.core.network.PackedNetwork.facts` hands them out. A back end chooses from them how it computes; it derives
no format, bound or alignment again. Weights are not among them: only ``PackedNetwork.weights`` decodes words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat, Carrier, Ints
from tsn_hw.core.layers import Layer, Shape, Weighted
from tsn_hw.core.parts import Requantization


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """A layer that computes, as a task runs it.

    inputs, sources: format and shape of every tensor that it reads; shape: of its output.
    low, high: smallest and largest accumulator, (channels,) or (1,); no partial sum, in any order, leaves them.
    """

    layer: Layer
    inputs: tuple[ActFormat, ...]
    sources: tuple[Shape, ...]
    shape: Shape
    requantization: Requantization
    low: Ints
    high: Ints

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.layer.name

    @property
    def output(self) -> ActFormat | None:
        """Format of the output; None for raw logits."""
        return self.requantization.output

    @cached_property
    def products(self) -> Weighted | None:
        """The layer as a sum of products, average pooling as a grouped convolution with ones; None for an Add."""
        return self.layer.products(self.sources[0])

    @cached_property
    def accumulator(self) -> int:
        """The largest magnitude of an accumulator."""
        return arithmetic.magnitude(self.low, self.high)

    @cached_property
    def bound(self) -> int:
        """The largest magnitude of ``acc * multiplier + offset``."""
        scales = self.requantization
        return arithmetic.requantization_magnitude(self.low, self.high, scales.multiplier, scales.offset)

    @property
    def sum_carrier(self) -> Carrier:
        """The cheapest type that holds every accumulator."""
        return arithmetic.carrier(self.accumulator)

    @property
    def carrier(self) -> Carrier:
        """The cheapest type that holds ``acc * multiplier + offset``."""
        return arithmetic.carrier(self.bound)

    @property
    def left_shifts(self) -> tuple[int, ...]:
        """How far each operand is shifted left to the finest of their grids: (0,) where there is one operand."""
        finest = min(form.exponent for form in self.inputs)
        return tuple(form.exponent - finest for form in self.inputs)
