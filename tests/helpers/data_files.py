"""Small sets of images, and the files they come in."""

import numpy as np
import pytest
from PIL import Image

from tsn_hw.core.errors import DataError
from tsn_hw.learn.data.images import load_data

RNG = np.random.default_rng(0)
X_TRAIN = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
Y_TRAIN = np.array([0, 1, 2, 0, 1, 2], np.uint8)
X_TEST = RNG.integers(0, 256, (3, 5, 4), dtype=np.uint8)
Y_TEST = np.array([2, 1, 0], np.uint8)
ARRAYS = {"x_train": X_TRAIN, "y_train": Y_TRAIN, "x_test": X_TEST, "y_test": Y_TEST}
COLOUR = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)


def refusal(kind, path, **settings_):
    """The one line that loading these files is refused with."""
    with pytest.raises(DataError) as error:
        load_data(kind, path, name="mine", **settings_)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- image folders and tiles -------------------------------------------------------------------------------------


def save(file, pixels, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def write_folder(folder, train, test):
    """Class folders a and b with one image each; ``train`` and ``test`` are pairs of pixels."""
    for part, images in (("train", train), ("test", test)):
        for name, pixels in zip("ab", images, strict=True):
            save(folder / part / name / "0.png", pixels)
    return folder
