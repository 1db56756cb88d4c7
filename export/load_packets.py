"""Load packets: what travels over the bus into the units of an accelerator whose masks are "runtime".

Packets consist of 64-bit beats; files hold them lowest byte first. There is one packet a memory word: a header, then
the limbs of the word, the lowest first. The header::

    bit  63              32 31      24 23      16 15             0
         address of the word  limbs      kind       unit

unit: position of the unit in the accelerator. kind: 0 words, 1 codebook, 2 mask, 3 scales, 4 task.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tsn_hw.arithmetic import Ints
from tsn_hw.errors import ExportError
from tsn_hw.images import Kind, MemoryImage, task_images
from tsn_hw.units import Accelerator

Beats = NDArray[np.uint64]

KINDS: tuple[Kind, ...] = get_args(Kind)
KIND_SHIFT, LIMBS_SHIFT, ADDRESS_SHIFT = 16, 24, 32


def word_packets(unit: int, image: MemoryImage, addresses: Ints) -> Beats:
    """The packets that write some words of a memory; ExportError where a header cannot hold its numbers."""
    limbs = image.layout.limbs
    for what, value, bits in (("unit", unit, 16), ("limbs", limbs, 8), ("address", int(addresses.max(initial=0)), 32)):
        if value >> bits:
            raise ExportError(f"memory {image.name!r}: {what} {value} does not fit the {bits} bits of a load packet")
    fields = unit | KINDS.index(image.kind) << KIND_SHIFT | limbs << LIMBS_SHIFT
    headers = np.uint64(fields) | addresses.astype(np.uint64) << np.uint64(ADDRESS_SHIFT)
    return np.concatenate([headers[:, None], image.limbs[addresses]], axis=1).ravel()


def task_packets(accelerator: Accelerator, task: int) -> Beats:
    """All packets that load a task: codebook, mask, scales and task word of every unit whose masks are "runtime"."""
    packets = [
        word_packets(number, image, np.arange(image.depth))
        for number, unit in enumerate(accelerator.units)
        if unit.settings.mask == "runtime"
        for image in task_images(accelerator, unit, task)
    ]
    return np.concatenate([np.zeros(0, np.uint64), *packets])


def packet_bytes(beats: Beats) -> bytes:
    """The content of a file of load packets."""
    return beats.astype("<u8").tobytes()
