# %% [markdown]
# # Bit-widths against accuracy against area
#
# Every bit of a weight costs memory, every bit of an activation wires. A sweep freezes one trained run at many widths,
# and tells of each how accurate it is, how large its file, and what its accelerator takes of a small part.

# %%
import csv
from pathlib import Path

import matplotlib.pyplot as plt

from sim import device, search_folding
from tsn_hw import load
from tsn_hw.app.cli.main import main

# %% [markdown]
# A small run to begin with. `tsn-hw init` writes a file with all keys; here are the few that differ.

# %%
Path("run.toml").write_text(
    """
[data]
limit = 50
[stream]
tasks = 2
natural_first = true
[model]
hidden = [48]
[train]
epochs = 8
lr = 1e-2
keep_ratio = 0.5
threads = 1
[prune]
iterations = 0
[quantize]
min_bits = 4
max_bits = 4
"""
)
main(["train", "run.toml", "-o", "run", "--quiet"])

# %% [markdown]
# The sweep: every combination of these values is a point. Points are judged by the exact integers, on all test images.

# %%
Path("sweep.toml").write_text(
    """
run = "run"
[values]
code_bits = [1, 2, 4]
activation_bits = [4, 8]
[budget]
accuracy_drop = 3.0
[budget.part]
device = "xc7z010"
target_fps = 100000
"""
)
main(["sweep", "sweep.toml", "-o", "sweep", "--jobs", "1", "--quiet"])

# %% [markdown]
# The table has a row a point. Codes of 1 and 2 bits cost accuracy here, and have the smallest memories; activations of
# 4 bits instead of 8 cost little.

# %%
points = list(csv.DictReader(Path("sweep/table.csv").read_text().splitlines()))
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
for bits, mark in (("4", "o"), ("8", "s")):
    chosen = [point for point in points if point["activation_bits"] == bits]
    accuracy = [float(point["accuracy_percent"]) for point in chosen]
    axes[0].plot([float(point["total_percent"]) for point in chosen], accuracy, mark, label=f"{bits}-bit activations")
    axes[1].plot([int(point["images_bits"]) / 1000 for point in chosen], accuracy, mark)
axes[0].set(xlabel="file, % of float32", ylabel="accuracy, %")
axes[1].set(xlabel="memories of the accelerator, thousand bits")
axes[0].legend()
figure.savefig("bit_widths.png", dpi=100)
plt.close(figure)

# %% [markdown]
# The networks that no other betters are files like any other. What the smallest accelerator of each takes, estimated
# for 100,000 inferences a second:

# %%
for path in sorted(Path("sweep/networks").glob("*.tsn")):
    found = search_folding(load(path), device("xc7z010"), target_fps=100_000).estimate.resources
    print(f"{path.name}: {found.lut} LUTs, {found.ff} flip-flops, {found.bram} block RAMs, {found.dsp} DSPs")
