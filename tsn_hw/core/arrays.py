"""Arrays that nobody writes to, of exactly the values that were given."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.errors import NetworkError

Scalar = TypeVar("Scalar", bound=np.generic)


def frozen(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """A read-only, C-contiguous array that nobody else can write to."""
    if array.flags.writeable or not array.flags.owndata or not array.flags.c_contiguous:
        array = np.array(array, order="C")
        array.setflags(write=False)
    return array


def exactly(array: NDArray[Any], dtype: type[Scalar], what: str) -> NDArray[Scalar]:
    """A frozen array of a dtype; an error if a value would change."""
    if isinstance(array, np.ndarray) and array.dtype == dtype:
        return frozen(array)
    with np.errstate(invalid="ignore"):
        cast = np.asarray(array).astype(dtype)
    if not np.array_equal(cast, array) or (cast.dtype.kind == "i" and ((cast < 0) != (np.asarray(array) < 0)).any()):
        raise NetworkError(f"{what}: holds values that are no {np.dtype(dtype).name}")
    return frozen(cast)
