"""Maps of weight memories: who owns which weight, and how many tasks read it. A pixel is a weight, or some."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image

from tsn_hw.app.output.blocks import BLUE, WHITE
from tsn_hw.app.output.plots import PALETTE
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.network import UNUSED, PackedNetwork

MOST_COLUMNS, MOST_ROWS = 512, 256
"""Pixels of a picture; smaller layers fill them with whole pixels a weight."""
MOST_COLORS, MOST_SWATCHES = 255, 16
"""Owners that a picture tells apart (its palette has 256 colours), and of which the legend shows the colour."""
FREE = "#e8e8e8"


@dataclass(frozen=True, eq=False)
class LayerMap:
    """A body layer in a bank: the owner of every weight (prefix or UNUSED) and its number of readers, (rows, columns).

    Rows are outputs and columns inputs, or the other way round where that is wider than high.
    """

    bank: int
    layer: str
    owner: Ints
    readers: Ints

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of weights that one pixel stands for."""
        rows, columns = self.owner.shape
        return -(-rows // MOST_ROWS), -(-columns // MOST_COLUMNS)


def layer_maps(net: PackedNetwork) -> list[LayerMap]:
    """The maps of all body layers in all banks."""
    maps = []
    for bank, memory in enumerate(net.banks):
        for index in net.body:
            words = memory.layers[index]
            if words is None:
                continue
            steps = [net.tasks[task].steps[index] for task in net.bank_tasks(bank)]
            masks = [step.mask for step in steps if step is not None and step.mask is not None]
            rows = len(words.owner)
            owner = words.owner.astype(np.int64).reshape(rows, -1)
            readers = np.array(masks).sum(axis=0, dtype=np.int64).reshape(rows, -1)
            if rows > owner.shape[1]:
                owner, readers = owner.T, readers.T
            maps.append(LayerMap(bank, net.layers[index].name, owner, readers))
    return maps


def owner_colors(owners: int) -> list[str]:
    """A colour an owner; of many owners, colours that stay in order for every kind of colour vision."""
    if owners <= len(PALETTE):
        return list(PALETTE[:owners])
    return [to_hex(color) for color in colormaps["cividis"](np.linspace(0, 1, owners))]


def owner_picture(layer: LayerMap, owners: int) -> str:
    """PNG as a data address: the colour of the owner of most weights of every block."""
    told = min(owners, MOST_COLORS)
    color = np.where(layer.owner == UNUSED, 0, 1 + layer.owner * told // owners)
    rows, columns = (np.arange(size) // block for size, block in zip(color.shape, layer.block, strict=True))
    block = rows[:, None] * (columns[-1] + 1) + columns
    keys, counts = np.unique(block * (told + 1) + color, return_counts=True)
    at, colors = np.divmod(keys, told + 1)
    order = np.lexsort((colors, -counts, at))  # the most frequent first, of equally frequent ones the earliest owner
    _, first = np.unique(at[order], return_index=True)
    shown = colors[order][first].reshape(rows[-1] + 1, columns[-1] + 1)
    return _png(shown.astype(np.uint8), bytes.fromhex("".join([FREE, *owner_colors(told)]).replace("#", "")))


def readers_picture(layer: LayerMap, tasks: int) -> str:
    """PNG as a data address: from white, read by no task, to blue, read by all."""
    area = _blocks(np.ones_like(layer.owner), layer.block)
    shade = (63 * _blocks(layer.readers, layer.block) // (area * tasks)).astype(np.uint8)
    return _png(shade, np.linspace(WHITE, BLUE, 64).round().astype(np.uint8).tobytes())


def picture(address: str, alternative: str) -> Markup:
    """An image element."""
    return Markup('<img src="{}" alt="{}">').format(address, alternative)


def swatches(names: Sequence[str]) -> Markup:
    """A legend of owners."""
    told = evenly(len(names), MOST_SWATCHES)
    owners = owner_colors(len(names))
    colors = [FREE, *(owners[place] for place in told)]
    entry = Markup('<li><span class="swatch" style="background:{}"></span>{}</li>')
    items = (
        entry.format(color, name)
        for color, name in zip(colors, ["unused", *(names[place] for place in told)], strict=True)
    )
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def evenly(count: int, most: int) -> list[int]:
    """Numbers below a count: all, or so many of them, the last one included.

    >>> evenly(3, 4), evenly(10, 4)
    ([0, 1, 2], [1, 4, 6, 9])
    """
    told = min(count, most)
    return [(place + 1) * count // told - 1 for place in range(told)]


def _blocks(plane: NDArray[np.generic], block: tuple[int, int]) -> Ints:
    """Sums over blocks; the last ones of a row or column may be smaller."""
    rows = np.arange(0, plane.shape[0], block[0])
    columns = np.arange(0, plane.shape[1], block[1])
    sums: Ints = np.add.reduceat(np.add.reduceat(plane.astype(np.int64), rows, axis=0), columns, axis=1)
    return sums


def _png(indices: NDArray[np.uint8], colors: bytes) -> str:
    """PNG as a data address; ``colors``: red, green and blue of every index."""
    rows, columns = indices.shape
    scale = max(1, min(MOST_COLUMNS // columns, MOST_ROWS // rows))
    image = Image.fromarray(indices.repeat(scale, axis=0).repeat(scale, axis=1), "P")
    image.putpalette(colors)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
