"""Memory images that are small enough to be read."""

from hashlib import sha256

import numpy as np

from tsn_hw.hardware.images import MemoryImage
from tsn_hw.hardware.memories import Field, MemoryLayout


def image_of(words, width_bits, unit="fc"):
    """A memory of one field a word."""
    layout = MemoryLayout(unit, "words", (("line", len(words)),), 1, (Field("code", width_bits),))
    limbs = [[value >> 64 * i & 2**64 - 1 for i in range(layout.limbs)] for value in words]
    return MemoryImage(layout, np.array(limbs, np.uint64))


# exact texts --------------------------------------------------------------------------------------------------------

SMALL = image_of([0x01, 0x1F, 0x0A], 5)
DIGEST = sha256(b"\x01\x1f\x0a").hexdigest()
