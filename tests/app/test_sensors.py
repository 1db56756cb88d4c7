"""The example of six sensors, on the file that TSN_HW_SENSORS names."""

import os
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tsn_hw.learn import RunOptions, own_stream, train
from tsn_hw.learn.settings import QuantizeSettings

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples/sensors.py"))


def test_series_are_stretched_over_the_steps_that_they_have_and_channels_stand_in_turn() -> None:
    series = np.array([[[0.0, 1.0, 2.0, np.nan], [5.0, 5.0, 5.0, np.nan]]], np.float32)
    signals = EXAMPLE["resampled"](series)
    assert signals.shape == (1, 12, 128)
    np.testing.assert_allclose(signals[0, 0], np.linspace(0, 2, 128), rtol=1e-6)
    assert (signals[0, 1::2] == 5).all()


def test_six_sensors_become_one_stream_and_one_network(tmp_path: Path) -> None:
    file = os.environ.get("TSN_HW_SENSORS")
    if file is None:
        pytest.skip("TSN_HW_SENSORS names no sensors.npz")
    sets = EXAMPLE["sensors"](Path(file))
    stream = own_stream(sets, valid_share=0.2)
    assert (len(stream), stream.input_shape, stream.pixels) == (6, (12, 1, 128), False)
    settings = replace(
        EXAMPLE["SETTINGS"],
        train=replace(EXAMPLE["SETTINGS"].train, epochs=2),
        quantize=QuantizeSettings(min_bits=4, max_bits=4, qat_epochs=1),
    )
    run = train(EXAMPLE["body"](8), sets[:2], settings, tmp_path, EXAMPLE["CALLBACKS"], RunOptions(quiet=True))
    assert [len(task.classes) for task in run.network.tasks] == [4, 9]
