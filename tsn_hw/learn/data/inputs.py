"""From pixels and values to the integers that a network reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import ActFormat, Ints, quantize
from tsn_hw.core.errors import DataError, SettingsError
from tsn_hw.learn.data.files import Inputs
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.settings import Formats, Settings

FINER = 5
"""Exponents that are tried, from the coarsest that saturates nothing: rare large values may be cut off."""


def real(x: Inputs) -> NDArray[np.float64]:
    """The numbers that inputs stand for: a pixel for pixel / 256, a value for itself."""
    numbers = x.astype(np.float64)
    return numbers / 256.0 if x.dtype == np.uint8 else numbers


def integers(x: Inputs, form: ActFormat) -> Ints:
    """Inputs as a network of this input format reads them.

    >>> integers(np.array([0, 128, 255], np.uint8), ActFormat(4, False, -4)).tolist()
    [0, 8, 15]
    """
    return quantize(real(x), form)


def given(x: NDArray[Any], form: ActFormat) -> NDArray[np.integer]:
    """Inputs of a file as a network of this input format reads them; integers beside pixels are taken as they are.

    Raises DataError for floats that are no numbers, or beyond the reach of a format that is one of pixels.

    >>> given(np.array([-1.0, 0.26]), ActFormat(8, True, -6)).tolist()
    [-64, 17]
    """
    if x.dtype.kind != "f":
        return integers(x, form) if x.dtype == np.uint8 else x
    if not np.isfinite(x).all():
        raise DataError("holds values that are missing or not finite; fill them as in training")
    low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
    if form == ActFormat(form.bits, False, -form.bits) and not 0 <= low <= high <= 1:
        raise DataError(f"holds {low:g}..{high:g}, the network reads 0..1; give pixels of 0..255 as uint8")
    return integers(x, form)


def prepared(settings: Settings, stream: TaskStream) -> Settings:
    """Settings whose input format is all said: that of values is chosen on the first task unless it is given.

    Signed where a value is below 0; the exponent is the one of least squared error.
    """
    formats = settings.formats
    if stream.pixels or formats.input_exponent is not None:
        return settings
    values = real(stream.task(0).x_train)
    signed = formats.input_signed or bool((values < 0).any())
    form = nearest_format(values, formats.input.bits, signed)
    return replace(
        settings,
        formats=replace(formats, input_bits=form.bits, input_signed=form.signed, input_exponent=form.exponent),
    )


def nearest_format(values: NDArray[np.float64], bits: int, signed: bool) -> ActFormat:
    """The format of a number of bits that keeps values best.

    >>> nearest_format(np.array([-1.0, 0.25, 0.75]), 8, signed=True)
    ActFormat(bits=8, signed=True, exponent=-6)
    """
    largest = float(np.abs(values).max())
    if not largest:
        raise SettingsError("the first task's values are all 0: no input format fits; give formats.input_exponent")
    top = ActFormat(bits, signed, 0).range[1]
    coarsest = math.ceil(math.log2(largest / top))
    forms = [ActFormat(bits, signed, exponent) for exponent in range(coarsest, coarsest - FINER, -1)]

    def error(form: ActFormat) -> float:
        return float(np.square(np.ldexp(quantize(values, form).astype(np.float64), form.exponent) - values).mean())

    return min(forms, key=error)


def check_format(formats: Formats, stream: TaskStream) -> None:
    """Refuse an input format that is not meant for what the stream holds."""
    if stream.pixels and formats != replace(formats, input_bits=0, input_signed=False, input_exponent=None):
        raise SettingsError(
            "formats.input_bits, input_signed and input_exponent are for values, and the tasks have pixels (uint8); "
            "leave them out, or give float arrays"
        )
