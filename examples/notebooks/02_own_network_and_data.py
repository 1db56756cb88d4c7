# %% [markdown]
# # Your own network and data
#
# Two machines, each with a vibration sensor: the first task is to hear a worn bearing, the second a loose belt. The
# data are arrays of yours, the body is a torch module of yours, and one network learns both.

# %%
import numpy as np
import torch
from torch import nn

from sim import Simulator
from tsn_hw.learn import (
    Preparation,
    PruneSettings,
    QuantizeSettings,
    Settings,
    TrainSettings,
    body,
    integers,
    own_data,
    own_stream,
    train,
)

# %% [markdown]
# Data: anything that gives inputs and labels. Here signals (N, channels, steps) with labels as text; a worn bearing
# adds a high tone, a loose belt a slow beat. `Preparation` normalizes them and keeps a part for testing.


# %%
def machine(name, fault, frequency, seed):
    rng = np.random.default_rng(seed)
    time, worn = np.arange(64) / 64, rng.integers(0, 2, 300)
    phase = rng.uniform(0, 2 * np.pi, (300, 2, 1))
    hum = np.sin(2 * np.pi * 5 * time + phase) + rng.normal(0, 0.5, (300, 2, 64))
    signals = hum + worn[:, None, None] * np.sin(2 * np.pi * frequency * time + phase)
    return own_data(name, (signals, np.where(worn, fault, "fine")), preparation=Preparation(True, test_share=0.3))


stream = own_stream([machine("pump", "bearing", 20, 1), machine("fan", "belt", 2, 2)])
print(stream.names, stream.input_shape)

# %% [markdown]
# The body: a torch module, whose last Linear becomes the head that every task has of its own. It is traced with a
# batch of the shape of your data; what has no counterpart is told at once.

# %%
module = nn.Sequential(
    nn.Conv1d(2, 8, 5, stride=2, padding=2),
    nn.ReLU(),
    nn.Conv1d(8, 16, 5, stride=2, padding=2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(256, 32),
    nn.ReLU(),
    nn.Linear(32, 2),
)
architecture = body(module, torch.zeros(1, 2, 64))
print([layer.name for layer in architecture.layers])

# %% [markdown]
# Learn both, one after the other, and look at what hardware would compute.

# %%
settings = Settings(
    train=TrainSettings(epochs=6, lr=1e-2, keep_ratio=0.5, threads=1),
    prune=PruneSettings(iterations=0),
    quantize=QuantizeSettings(min_bits=4, max_bits=4),
)
net = train(architecture, stream, settings, "machines").network
for number, task in enumerate(net.tasks):
    data = stream.task(number)
    x = integers(data.x_test, net.input)
    found = Simulator(net, task.name).predict(x)
    example = task.classes[found[0]]
    print(f"{task.name}: {100 * (found == data.y_test).mean():.1f} %, the first signal is {example!r}")

# %% [markdown]
# From here every command works: `tsn-hw verify machines/net.tsn`, `tsn-hw c machines/net.tsn -o build/c`. More ways to
# bring a body or data along stand in [your own data](own-data.md) and [a network of your own](own-network.md).
