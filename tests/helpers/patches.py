"""Patches put into the memories that they were made for."""

import json

import numpy as np

from export.memories.formats import words_sha256
from tsn_hw.hardware.images import MemoryImage


def patched(text: str, images) -> list[MemoryImage]:
    """The memories after a patch, by what docs/hls.md says of patch.json alone."""
    found = []
    for entry, image in zip(json.loads(text)["memories"], images, strict=True):
        assert (f"{entry['unit']}.{entry['kind']}", entry["before"]) == (image.name, words_sha256(image))
        limbs = image.limbs.copy()
        for address, digits in entry["words"]:
            assert int(digits, 16) < 1 << image.width_bits
            limbs[address] = [int(digits, 16) >> 64 * i & 2**64 - 1 for i in range(limbs.shape[1])]
        found.append(MemoryImage(image.layout, np.array(limbs, np.uint64)))
        assert words_sha256(found[-1]) == entry["after"]
    return found
