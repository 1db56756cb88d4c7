"""How far apart the steps of a window are that use the same place of its ring: what lets them overlap in a pipeline."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from tsn_hw.core.arithmetic import Ints
from tsn_hw.hardware.window import Window


@lru_cache(maxsize=1024)
def ring_steps(window: Window, by_part: bool) -> int:
    """Fewest steps from one that writes a place of the ring to one that reads the word, or from that to the next write.

    by_part: whether a window is sent part by part, as for pooling. It is computed of every word of an inference and of
    the writes of the next one; 1: of two steps, one behind the other.
    """
    words, places = window.source[1] * window.words_per_row, window.buffer_words
    starts, inference = _starts(window)
    written = _written(window, starts)
    first, last = np.full(words, inference), np.full(words, -1)
    rows, offsets = _row_of_windows(window, by_part)
    for row in range(window.output[0]):
        y = row * window.stride[0] - window.padding[0] + rows
        inside = (offsets >= 0) & (y >= 0) & (y < window.source[1])
        word = (y * window.words_per_row + offsets)[inside]
        step = (starts[row + 1] + np.arange(len(rows)))[inside]
        np.minimum.at(first, word, step)
        np.maximum.at(last, word, step)
    read = np.flatnonzero(last >= 0)
    again = inference + written[read % places]
    sooner = read + places < words
    again[sooner] = written[read[sooner] + places]
    return int(min([inference, *(first[read] - written[read]), *(again - last[read])]))


def _starts(window: Window) -> tuple[Ints, int]:
    """The steps in which loading alone and every row of windows begin, and the steps of them all."""
    ends = [window.rows_needed(row) for row in range(window.output[0])] + [window.source[1]]
    sent = window.output[1] * window.words_per_window
    steps = [ends[0] * window.words_per_row]
    steps += [max(sent, (b - a) * window.words_per_row) for a, b in itertools.pairwise(ends)]
    return np.cumsum([0, *steps[:-1]]), sum(steps)


def _written(window: Window, starts: Ints) -> Ints:
    """The step in which each word of an inference is written."""
    ends = [0, *(window.rows_needed(row) for row in range(window.output[0])), window.source[1]]
    parts = zip(starts, itertools.pairwise(ends), strict=True)
    return np.concatenate([start + np.arange((b - a) * window.words_per_row) for start, (a, b) in parts])


def _row_of_windows(window: Window, by_part: bool) -> tuple[Ints, Ints]:
    """Kernel row, and word of its image row, of every word that a row of windows sends; -1: in the padding."""
    sizes = window.output[1], window.kernel[0], window.kernel[1], window.words_per_pixel
    place, row, column, part = np.indices(sizes)
    x = place * window.stride[1] - window.padding[1] + column
    offsets = np.where((x >= 0) & (x < window.source[2]), x * window.words_per_pixel + part, -1)
    order = (0, 3, 1, 2) if by_part else (0, 1, 2, 3)
    return row.transpose(order).ravel(), offsets.transpose(order).ravel()
