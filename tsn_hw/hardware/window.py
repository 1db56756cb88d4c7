"""The sliding window in front of a convolution or a pooling, and its schedule."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

from tsn_hw.core.layers import Pair, Shape
from tsn_hw.hardware.memories import MIN_DEPTH


@dataclass(frozen=True)
class Window:
    """A sliding window over a stream of pixels, ``lanes`` channels a word, and its schedule.

    It loads the rows that its first output row needs, and the first row in any case: where padding comes first, what it
    sends must still wait for the call whose input it is. Then, for every output row, it sends the windows of that row
    while it loads what the next row needs (after the last row: what is left). Rows lie in a ring of
    ``kernel[0] + stride[0]`` rows. Every step takes one cycle, and loads and sends at most one word.
    """

    source: Shape
    kernel: Pair
    stride: Pair
    padding: Pair
    output: Pair
    lanes: int

    @property
    def words_per_pixel(self) -> int:
        return self.source[0] // self.lanes

    @property
    def words_per_row(self) -> int:
        return self.source[2] * self.words_per_pixel

    @property
    def words_per_window(self) -> int:
        return math.prod(self.kernel) * self.words_per_pixel

    @property
    def buffer_words(self) -> int:
        """Words of ``lanes`` activations in the ring of rows."""
        return (self.kernel[0] + self.stride[0]) * self.words_per_row

    @property
    def input_depth(self) -> int:
        """Words that may wait for it while its writer goes on: the rows that it loads at once."""
        return max(MIN_DEPTH, max(self.kernel[0], self.stride[0]) * self.words_per_row)

    def rows_needed(self, row: int) -> int:
        """Input rows that must have arrived before an output row is sent."""
        return min(self.source[1], max(1, row * self.stride[0] - self.padding[0] + self.kernel[0]))

    @property
    def parameters(self) -> dict[str, int]:
        """The numbers of the module that makes the windows."""
        pairs = {"KERNEL": self.kernel, "STRIDE": self.stride, "PADDING": self.padding, "OUTPUT": self.output}
        sizes = {f"{key}_{axis}": pair[i] for key, pair in pairs.items() for i, axis in enumerate(("ROWS", "COLUMNS"))}
        return {"HEIGHT": self.source[1], "WIDTH": self.source[2], "PARTS": self.words_per_pixel} | sizes

    @cached_property
    def cycles(self) -> int:
        """Cycles of one inference."""
        ends = [self.rows_needed(row) for row in range(self.output[0])] + [self.source[1]]
        sent = self.output[1] * self.words_per_window
        return ends[0] * self.words_per_row + sum(
            max(sent, (after - before) * self.words_per_row) for before, after in itertools.pairwise(ends)
        )
