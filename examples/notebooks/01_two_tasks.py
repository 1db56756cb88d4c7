# %% [markdown]
# # Two tasks in five minutes
#
# One network learns to read digits, then the same digits with their pixels shuffled. You see that the first task is
# not forgotten, what both weigh, and that other engines compute the same integers.

# %%
from pathlib import Path

from export import check_folder, write_onnx
from sim import Simulator
from tsn_hw import capacity, load
from tsn_hw.learn import (
    DataSettings,
    ModelSettings,
    PruneSettings,
    QuantizeSettings,
    Settings,
    StreamSettings,
    TrainSettings,
    integers,
    stream_of,
    train,
)

# %% [markdown]
# The settings of a run: where data come from, how they become tasks, the body that tasks share, and how one is
# learned. Every task may use half of the weights. `tsn-hw init` writes the same as a file.

# %%
settings = Settings(
    data=(DataSettings("digits"),),  # scikit-learn's, 8 x 8 pixels
    stream=StreamSettings("permuted", tasks=2, natural_first=True),
    model=ModelSettings("mlp", hidden=(64, 32)),
    train=TrainSettings(epochs=8, lr=1e-2, keep_ratio=0.5, threads=1),
    prune=PruneSettings(iterations=4),
    quantize=QuantizeSettings(min_bits=3, max_bits=4),
)
stream = stream_of(settings)
run = train(None, stream, settings, "two_tasks")
print(run.network.tasks[0].name, "and", run.network.tasks[1].name)

# %% [markdown]
# Training ended in one file of integers. The simulator reads it, a task at a time, and computes what hardware
# computes.

# %%
net = load("two_tasks/net.tsn")
for number, task in enumerate(net.tasks):
    data = stream.task(number)
    classes = Simulator(net, number).predict(integers(data.x_test, net.input))
    print(f"{task.name}: {100 * (classes == data.y_test).mean():.1f} % of {len(classes)} test images")

# %% [markdown]
# Nothing was forgotten: the first task computes what it computed when it was the only one, bit for bit.

# %%
alone = load("two_tasks/tasks/after_00.tsn")
x = integers(stream.task(0).x_test, net.input)
print("the same logits as before the second task:", bool((Simulator(net, 0)(x) == Simulator(alone, 0)(x)).all()))

# %% [markdown]
# Both tasks in one body, as a share of the body in float32:

# %%
sizes = capacity(net, Path("two_tasks/net.tsn").read_bytes())
print(f"{sizes.body_percent:.1f} %")

# %% [markdown]
# For stock onnxruntime, one graph a task. `check_folder` runs them and compares the logits with those that the
# simulator computed when they were written.

# %%
write_onnx(net, "two_tasks/onnx")
for graph in check_folder("two_tasks/onnx"):
    print(graph.path.name, "computes the same logits as", graph.told.task)
