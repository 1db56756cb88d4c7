"""Depthwise convolutions: a kind of matrix unit with no weight that is always 0, and the choice among the kinds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints
from tsn_hw.hardware.folding import Layout
from tsn_hw.hardware.kinds import MatrixUnit
from tsn_hw.hardware.list_unit import ListUnit
from tsn_hw.hardware.memories import MIN_DEPTH


@dataclass(frozen=True)
class DepthwiseUnit(MatrixUnit):
    """A convolution whose row r reads channel r alone: ``pe`` rows and as many channels in a cycle, simd is 1.

    Its windows come as those of a pooling: all pixels of ``pe`` channels, then of the next. So no vector is held.
    """

    @property
    def by_part(self) -> bool:
        return True

    @property
    def most_simd(self) -> int:
        return 1

    @property
    def columns(self) -> int:
        """Weights of a row."""
        return math.prod(self.window.kernel) if self.window else 1

    @property
    def input_depth(self) -> int:
        return MIN_DEPTH

    def words_read(self, words: Ints) -> Ints:
        return words * self.columns

    @property
    def _vectors(self) -> list[tuple[str, int]]:
        return []

    def arrange(self, weights: NDArray[Any]) -> Ints:
        """One integer or truth value a weight, (out, 1, kh, kw), as (rows, columns)."""
        return weights.reshape(self.rows, self.columns).astype(np.int64)


def matrix_kind(layout: Layout, groups: int, channels: int, rows: int) -> type[MatrixUnit]:
    """The kind of unit of a layer with weights; lists leave out what is 0 by themselves."""
    if layout == "lists":
        return ListUnit
    return DepthwiseUnit if 1 < groups == channels == rows else MatrixUnit
