"""Deep memories as RTL reads them: words that are ``part_words`` apart side by side in a line, the first lowest.

A memory without parts has a word a line, and needs no file but its ``.mem``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from export.memories.formats import described, words_sha256
from tsn_hw.core.arithmetic import Ints
from tsn_hw.hardware.images import MemoryImage


def side_lines(image: MemoryImage, lines: Iterable[int]) -> list[str]:
    """Hexadecimal digits of some lines of a memory in parts."""
    layout = image.layout
    part = layout.memory.part_words
    digits = -(-layout.width_bits * -(-layout.depth // part) // 4)
    found = []
    for line in lines:
        words = [int.from_bytes(limbs.astype("<u8").tobytes(), "little") for limbs in image.limbs[line::part]]
        found.append(f"{sum(word << layout.width_bits * i for i, word in enumerate(words)):0{digits}x}")
    return found


def sides_file(image: MemoryImage) -> bytes:
    """All lines of a memory in parts, for ``$readmemh``."""
    notes = [f"// {note}" for note in described(image.layout, words_sha256(image))]
    lines = side_lines(image, range(image.layout.memory.part_words))
    return "".join(f"{line}\n" for line in (*notes, "@0", *lines)).encode()


def sides_overlay(image: MemoryImage, addresses: Ints) -> bytes:
    """The lines in which words changed, each with its number, for ``$readmemh`` over the earlier content."""
    changed = np.unique(addresses % image.layout.memory.part_words).tolist()
    notes = [f"// {note}" for note in described(image.layout, words_sha256(image))]
    lines = [f"@{number:x} {line}" for number, line in zip(changed, side_lines(image, changed), strict=True)]
    return "".join(f"{line}\n" for line in (*notes, "// only lines that change; the others stay", *lines)).encode()
