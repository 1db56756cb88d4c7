"""Mirrored and moved images."""

import pytest
import torch
from torch import Tensor

from tsn_hw.learn.training import mirrored_and_moved

IMAGES = torch.arange(1, 1 + 40 * 3 * 5 * 4).remainder(251).add(1).to(torch.uint8).view(40, 3, 5, 4)


def views_of(image: Tensor, mirror: bool, shift: int) -> list[Tensor]:
    """Every view of one image (channels, height, width), written out with slices."""
    height, width = image.shape[1:]
    views = []
    for turned in [image, image.flip(2)] if mirror else [image]:
        framed = image.new_zeros(image.shape[0], height + 2 * shift, width + 2 * shift)
        framed[:, shift : shift + height, shift : shift + width] = turned
        views += [framed[:, y : y + height, x : x + width] for y in range(2 * shift + 1) for x in range(2 * shift + 1)]
    return views


@pytest.mark.parametrize(("mirror", "shift"), [(True, 0), (False, 1), (True, 2), (False, 0), (False, 9)])
def test_every_image_becomes_one_of_its_own_views(mirror: bool, shift: int) -> None:
    seen = mirrored_and_moved(IMAGES, mirror, shift, torch.Generator().manual_seed(0))
    assert seen.dtype == torch.uint8
    assert seen.shape == IMAGES.shape
    for image, view in zip(IMAGES, seen, strict=True):
        assert any(torch.equal(view, known) for known in views_of(image, mirror, shift))


def test_all_views_are_equally_likely() -> None:
    image = torch.arange(1, 13, dtype=torch.uint8).view(1, 1, 3, 4)
    seen = mirrored_and_moved(image.expand(18_000, 1, 3, 4), True, 1, torch.Generator().manual_seed(0))
    counts = [int((seen == view).flatten(1).all(dim=1).sum()) for view in views_of(image[0], True, 1)]
    assert sum(counts) == 18_000
    assert all(850 < count < 1150 for count in counts)  # 1000 each, 5 standard deviations


def test_the_views_follow_the_generator_and_leave_the_images_alone() -> None:
    before = IMAGES.clone()
    first, again, other = (mirrored_and_moved(IMAGES, True, 1, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(IMAGES, before)
