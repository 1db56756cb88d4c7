"""Other views of the training images: mirrored and moved, drawn anew for every batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mirrored_and_moved(images: Tensor, mirror: bool, shift: int, generator: torch.Generator) -> Tensor:
    """Every image (N, channels, height, width) mirrored left to right or not, and moved by up to ``shift`` pixels.

    Half of the images are mirrored; a move is uniform in both directions, and what it leaves bare is 0. The decisions
    are drawn on the CPU, so a seed means the same on every device.

    >>> row = torch.tensor([1, 2, 3, 4], dtype=torch.uint8).view(1, 1, 1, 4)
    >>> mirrored_and_moved(row, True, 0, torch.Generator().manual_seed(1)).tolist()
    [[[[4, 3, 2, 1]]]]
    """
    count, channels, height, width = images.shape
    rows = torch.arange(height).expand(count, height)
    columns = torch.arange(width).expand(count, width)
    if mirror:
        turned = torch.randint(2, (count, 1), generator=generator, dtype=torch.bool)
        columns = torch.where(turned, columns.flip(1), columns)
    if shift:
        rows = rows + torch.randint(2 * shift + 1, (count, 1), generator=generator)
        columns = columns + torch.randint(2 * shift + 1, (count, 1), generator=generator)
        images = F.pad(images, (shift,) * 4)
    pixels = rows[:, :, None] * images.shape[3] + columns[:, None, :]
    pixels = pixels.view(count, 1, -1).expand(count, channels, -1).to(images.device)
    return images.flatten(2).gather(2, pixels).view(count, channels, height, width)
