# %% [markdown]
# # Which task is it?
#
# A network of many tasks must be told which task an image belongs to. Often the device knows: another sensor, another
# product on the line. Where it does not, the network can be asked for all tasks, and the surest answer taken. This
# notebook measures how far that goes.

# %%
import matplotlib.pyplot as plt
import numpy as np

from sim import Simulator
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
# Four tasks: the digits in four orders of pixels.

# %%
settings = Settings(
    data=(DataSettings("digits"),),
    stream=StreamSettings("permuted", tasks=4, natural_first=True),
    model=ModelSettings("mlp", hidden=(64, 32)),
    train=TrainSettings(epochs=4, lr=1e-2, keep_ratio=0.5, inherit=0.1, threads=1),
    prune=PruneSettings(iterations=0),
    quantize=QuantizeSettings(min_bits=4, max_bits=4),
)
stream = stream_of(settings)
net = train(None, stream, settings, "which").network
simulators = [Simulator(net, number) for number in range(len(net.tasks))]


# %% [markdown]
# How sure is a task of an image? The gap between its two largest logits, in units of what that gap is on its own
# training images: logits of different tasks have different scales.


# %%
def gap(simulator, x):
    ordered = np.sort(simulator(integers(x, net.input)), axis=1)
    return (ordered[:, -1] - ordered[:, -2]).astype(float)


usual = [gap(simulator, stream.task(number).x_train[:300]).mean() for number, simulator in enumerate(simulators)]
confusion = np.zeros((len(net.tasks), len(net.tasks)))
right_task = right_class = known = count = 0
for number in range(len(net.tasks)):
    data = stream.task(number)
    sure = np.array([gap(simulator, data.x_test) / scale for simulator, scale in zip(simulators, usual, strict=True)])
    chosen = sure.argmax(axis=0)
    classes = np.array([simulator.predict(integers(data.x_test, net.input)) for simulator in simulators])
    confusion[number] = np.bincount(chosen, minlength=len(net.tasks)) / len(chosen)
    right_task += (chosen == number).sum()
    right_class += (classes[chosen, np.arange(len(chosen))] == data.y_test).sum()
    known += (classes[number] == data.y_test).sum()
    count += len(chosen)
print(f"task found: {100 * right_task / count:.1f} %")
print(f"class right, task told: {100 * known / count:.1f} %; task guessed: {100 * right_class / count:.1f} %")

# %% [markdown]
# Rows are the tasks that images belong to, columns the tasks that were chosen.

# %%
figure, axis = plt.subplots(figsize=(4, 3.4), layout="constrained")
image = axis.imshow(confusion, vmin=0, vmax=1, cmap="Blues")
for (row, column), share in np.ndenumerate(confusion):
    axis.text(column, row, f"{share:.2f}", ha="center", va="center", color="white" if share > 0.5 else "black")
axis.set(xlabel="chosen", ylabel="belongs to", xticks=range(len(confusion)), yticks=range(len(confusion)))
figure.savefig("chosen_task.png", dpi=100)
plt.close(figure)

# %% [markdown]
# One image is little to go by. Several that are known to be of one task, such as the frames of a second, can vote: sum
# the gaps before you choose.

# %%
for together in (1, 3, 10):
    found = 0
    trials = 0
    for number in range(len(net.tasks)):
        x = stream.task(number).x_test
        sure = np.array([gap(simulator, x) / scale for simulator, scale in zip(simulators, usual, strict=True)])
        groups = sure[:, : len(x) // together * together].reshape(len(net.tasks), -1, together).sum(axis=2)
        found += (groups.argmax(axis=0) == number).sum()
        trials += groups.shape[1]
    print(f"{together:>2} images together: the right task in {100 * found / trials:.1f} %")
