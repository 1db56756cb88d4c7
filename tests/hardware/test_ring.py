"""The steps between uses of a place of a window's ring, against a loop that takes the schedule step by step."""

import numpy as np
import pytest

from tsn_hw.hardware.ring import ring_steps
from tsn_hw.hardware.window import Window


def uses(window, by_part):
    """(step, place of the ring, whether it is written) of two inferences, in the order of the steps."""
    parts, (rows, columns), source = window.words_per_pixel, window.kernel, window.source
    areas = [(row, column) for row in range(rows) for column in range(columns)]
    order = [(*area, part) for part in range(parts) for area in areas]
    if not by_part:
        order = [(*area, part) for area in areas for part in range(parts)]
    found, step = [], 0
    for _ in range(2):
        loaded = 0
        for row in range(-1, window.output[0]):
            wanted = source[1] if row == window.output[0] - 1 else window.rows_needed(row + 1)
            reads = [] if row < 0 else [(place, *word) for place in range(window.output[1]) for word in order]
            while loaded < wanted * window.words_per_row or reads:
                if reads:
                    place, kernel_row, kernel_column, part = reads.pop(0)
                    y = row * window.stride[0] - window.padding[0] + kernel_row
                    x = place * window.stride[1] - window.padding[1] + kernel_column
                    if 0 <= y < source[1] and 0 <= x < source[2]:
                        word = (y * source[2] + x) * parts + part
                        assert word < loaded  # it has been loaded
                        found.append((step, word % window.buffer_words, False))
                if loaded < wanted * window.words_per_row:
                    found.append((step, loaded % window.buffer_words, True))
                    loaded += 1
                step += 1
        assert step % window.cycles == 0
    return found


def fewest_steps(window, by_part):
    """Between a write and a later read of its place, and between a read and a later write."""
    fewest, last = window.cycles, {}
    for step, place, is_write in uses(window, by_part):
        if (place, not is_write) in last:
            fewest = min(fewest, step - last[place, not is_write])
        last[place, is_write] = step
    return fewest


def random_window(rng):
    def pair(low, high):
        return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))

    while True:
        lanes, parts = int(rng.integers(1, 3)), int(rng.integers(1, 4))
        (height, width), kernel, stride, padding = pair(1, 7), pair(1, 4), pair(1, 5), pair(0, 5)
        sizes = zip((height, width), kernel, stride, padding, strict=True)
        rows, columns = ((size + 2 * p - k) // s + 1 for size, k, s, p in sizes)
        if rows > 0 and columns > 0:
            return Window((lanes * parts, height, width), kernel, stride, padding, (rows, columns), lanes)


@pytest.mark.parametrize("by_part", [False, True])
def test_the_fewest_steps_between_uses_of_a_place_are_those_of_the_schedule(by_part):
    rng = np.random.default_rng(by_part)
    windows = [random_window(rng) for _ in range(150)]
    found = [ring_steps(window, by_part) for window in windows]
    assert found == [fewest_steps(window, by_part) for window in windows]
    assert min(found) >= 1  # no step reads the place that it writes
    assert sum(steps < 4 for steps in found) >= 1


def test_the_windows_of_a_3_x_3_convolution_are_far_behind_what_is_loaded():
    window = Window((16, 32, 32), (3, 3), (1, 1), (1, 1), (32, 32), 4)
    assert ring_steps(window, by_part=False) == 156
    assert ring_steps(Window((16, 4, 4), (4, 4), (4, 4), (0, 0), (1, 1), 4), by_part=True) == 19
    assert ring_steps(Window((1, 3, 1), (1, 1), (1, 1), (0, 0), (3, 1), 1), by_part=False) == 1
