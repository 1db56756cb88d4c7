"""What one task computes in one layer: the facts that every back end needs to be exact, derived once.

:meth:`tsn_hw.core.network.PackedNetwork.facts` hands them out. A back end chooses from them how it computes; it derives
no format, bound or alignment again. Weights are not among them: only ``PackedNetwork.weights`` decodes words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat, Carrier, Ints
from tsn_hw.core.layers import Layer, Shape, Weighted
from tsn_hw.core.parts import Requantization


@dataclass(frozen=True)
class FloatRequantization:
    """``(acc + bias) * multiplier / 2**shift``, both (channels,): a requantization of one product."""

    multiplier: Ints
    bias: Ints


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

    def float_requantization(self, *, keep_multipliers: bool = False) -> FloatRequantization | str:
        """What float32 computes as the contract's integers, proven at every step of its staircase; or why it does not.

        The multiplier of a channel that no weight reaches becomes 1, so that its offset is a multiple of it;
        ``keep_multipliers``: all stay as they are. Raw logits are not rounded: of them only the bias is asked.
        """
        scales = self.requantization
        vectors = (self.low, self.high, scales.multiplier, scales.offset)
        channels = 1 if self.products is None else self.products.channels
        low, high, multiplier, offset = (np.broadcast_to(vector, (channels,)) for vector in vectors)
        if not keep_multipliers:
            multiplier = np.where((low == 0) & (high == 0), 1, multiplier)
        if not multiplier.all():
            channel = int((multiplier == 0).argmax())
            return f"channel {channel} has multiplier 0, which is no scale and hides every offset"
        bias, rest = np.divmod(offset, multiplier)
        if rest.any():
            channel = int((rest != 0).argmax())
            found = f"offset {offset[channel]}, no multiple of its multiplier {multiplier[channel]}"
            return f"channel {channel} has {found}"
        reach = arithmetic.magnitude(low + bias, high + bias)
        if reach > arithmetic.INT32[1]:
            return f"its accumulator with offset reaches {reach}, must fit int32"
        if self.output is None:
            return FloatRequantization(multiplier, bias)
        exact = arithmetic.exact_in_float32(multiplier, scales.shift, self.output.range, low + bias, high + bias)
        if not exact.all():
            channel = int(exact.argmin())
            scale = f"{multiplier[channel]} / 2**{scales.shift}"
            return f"float32 rounds sums up to {reach} otherwise in channel {channel}, whose scale is {scale}"
        return FloatRequantization(multiplier, bias)

    @property
    def left_shifts(self) -> tuple[int, ...]:
        """How far each operand is shifted left to the finest of their grids: (0,) where there is one operand."""
        finest = min(form.exponent for form in self.inputs)
        return tuple(form.exponent - finest for form in self.inputs)
