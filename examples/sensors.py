"""Six sensors, one network: signals of different channels and lengths, learned one after the other.

    python examples/sensors.py sensors.npz build/sensors
    tsn-hw verify build/sensors/net.tsn
    python benchmarks/bench_sensors.py sensors.npz  # beside one dense float network a sensor

The .npz file holds NAME_x_train (N, channels, steps), NAME_y_train, NAME_x_test and NAME_y_test of every set; steps
that a series does not have are NaN at its end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sim import Simulator
from tsn_hw import capacity
from tsn_hw.learn import (
    Architecture,
    BodyBuilder,
    Callbacks,
    DataSet,
    LayerSettings,
    Preparation,
    PruneSettings,
    QuantizeSettings,
    RouteSettings,
    Settings,
    StreamSettings,
    TrainSettings,
    integers,
    own_data,
    own_stream,
    train,
)

CHANNELS, STEPS = 12, 128
SETTINGS = Settings(
    stream=StreamSettings(validation_share=0.2),
    train=TrainSettings(epochs=100, batch=16, lr=3e-3, keep_ratio=1.0, threads=1),
    prune=PruneSettings(iterations=0),
    quantize=QuantizeSettings(min_bits=2, max_bits=2, qat_bits=2, qat_epochs=30),
    route=RouteSettings(enabled=True),
)


def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy against labels of which a tenth is spread over all classes."""
    return F.cross_entropy(logits, labels, label_smoothing=0.1)


def varied(signals: Tensor, generator: torch.Generator) -> Tensor:
    """Signals moved by up to 8 steps, made larger or smaller by about a tenth, with a little noise."""
    count, steps = len(signals), signals.shape[3]
    moved = torch.arange(steps) + torch.randint(-8, 9, (count, 1), generator=generator)
    places = moved.clamp(0, steps - 1)[:, None, None].expand(-1, *signals.shape[1:3], -1)
    gain = 1 + 0.1 * torch.randn(count, 1, 1, 1, generator=generator)
    return signals.gather(3, places) * gain + 0.05 * torch.randn(signals.shape, generator=generator)


CALLBACKS = Callbacks(loss=smoothed, augment=varied)


def resampled(series: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signals (N, channels, steps) as (N, CHANNELS, STEPS): stretched over what they have, channels in turn."""
    signals = np.zeros((len(series), CHANNELS, STEPS), np.float32)
    for signal, channels in zip(signals, series, strict=True):
        known = int((~np.isnan(channels[0])).sum())
        for number, values in enumerate(signal):
            given = channels[number % len(channels), :known]
            values[:] = np.interp(np.linspace(0, known - 1, STEPS), np.arange(known), given)
    return signals


def sensors(file: Path) -> list[DataSet]:
    """Every set of the file, brought to one shape."""
    arrays = np.load(file, allow_pickle=False)
    names = [key.removesuffix("_x_train") for key in arrays.files if key.endswith("_x_train")]
    parts = {
        name: [(resampled(arrays[f"{name}_x_{p}"]), arrays[f"{name}_y_{p}"]) for p in ("train", "test")]
        for name in names
    }
    return [own_data(name, *parts[name], preparation=Preparation(normalize=True)) for name in names]


def body(width: int = 32) -> Architecture:
    """A residual network along the steps: a stem, three blocks that halve them twice, and four averages a channel."""
    builder = BodyBuilder((CHANNELS, 1, STEPS), batch_norm=True)
    builder.add(LayerSettings("Conv2d", "stem", width=width, kernel=(1, 7), stride=(1, 2), padding=(0, 3)))
    for block, (channels, stride) in enumerate(((width, 1), (2 * width, 2), (2 * width, 2)), start=1):
        source = skip = builder.last
        window = {"width": channels, "stride": (1, stride)}
        if stride != 1:
            skip = builder.add(LayerSettings("Conv2d", f"skip{block}", (source,), kernel=(1, 1), relu=False, **window))
        builder.add(LayerSettings("Conv2d", f"first{block}", (source,), kernel=(1, 5), padding=(0, 2), **window))
        second = {"width": channels, "kernel": (1, 3), "padding": (0, 1)}
        last = builder.add(LayerSettings("Conv2d", f"second{block}", relu=False, **second))
        builder.add(LayerSettings("Add", f"add{block}", (skip, last)))
    builder.add(LayerSettings("AvgPool", "average", kernel=(1, 4), stride=(1, 4)))
    builder.flatten()
    return builder.build()


def main(file: Path, folder: Path) -> None:
    """Learn all sets, and print what each reaches in integers."""
    stream = own_stream(sensors(file), valid_share=SETTINGS.stream.validation_share)
    net = train(body(), stream, SETTINGS, folder, CALLBACKS).network
    for number, task in enumerate(net.tasks):
        data = stream.task(number)
        classes = Simulator(net, number).predict(integers(data.x_test, net.input))
        print(f"{task.name}: {100 * (classes == data.y_test).mean():.1f} %")
    print(f"{capacity(net).body_percent:.1f} % of one dense body")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
