# %% [markdown]
# # Bit-widths against accuracy against area
#
# Every bit of a weight costs memory, every bit of an activation wires. A sweep freezes one trained run at many widths,
# and tells of each how accurate it is, how large its file, and what its accelerator takes of a small part.

# %%
import csv
from pathlib import Path

import matplotlib.pyplot as plt

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
# The table has a row a point. Fewer bits of a code cost accuracy first at 1 or 2; fewer bits of an activation save
# logic.

# %%
points = list(csv.DictReader(Path("sweep/table.csv").read_text().splitlines()))
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
for bits, mark in (("4", "o"), ("8", "s")):
    chosen = [point for point in points if point["activation_bits"] == bits]
    accuracy = [float(point["accuracy_percent"]) for point in chosen]
    axes[0].plot([float(point["total_percent"]) for point in chosen], accuracy, mark, label=f"{bits}-bit activations")
    axes[1].plot([float(point["device_percent"]) for point in chosen], accuracy, mark)
axes[0].set(xlabel="file, % of float32", ylabel="accuracy, %")
axes[1].set(xlabel="of the scarcest resource of an xc7z010, %")
axes[0].legend()
figure.savefig("bit_widths.png", dpi=100)
plt.close(figure)
