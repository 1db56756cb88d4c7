# %% [markdown]
# # From a .tsn file to a simulated accelerator
#
# One network becomes an accelerator in SystemVerilog. Icarus Verilog simulates it, its integers are those of the
# simulator, and you see the signals of its streams.

# %%
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from export import write_rtl
from export.rtl.simulation import RtlCall, compile_rtl
from export.rtl.simulators import simulator
from sim import Simulator, device, search_folding
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
# A tiny network of two tasks.

# %%
settings = Settings(
    data=(DataSettings("digits", limit=40),),
    stream=StreamSettings("permuted", tasks=2, natural_first=True),
    model=ModelSettings("mlp", hidden=(16,)),
    train=TrainSettings(epochs=5, lr=2e-2, keep_ratio=0.5, threads=1),
    prune=PruneSettings(iterations=0),
    quantize=QuantizeSettings(min_bits=4, max_bits=4),
)
stream = stream_of(settings)
net = train(None, stream, settings, "tiny").network

# %% [markdown]
# The smallest design that makes 100,000 inferences a second on a small part: how many rows (PE) and columns (SIMD)
# every unit computes in a cycle.

# %%
design = search_folding(net, device("xc7z010"), target_fps=100_000).accelerator
for unit in design.units:
    print(f"{unit.name}: {unit.pe} rows, {unit.simd} columns, {unit.cycles} cycles")

# %% [markdown]
# Write the project, and compile its test bench with a module more that writes down the signals of the accelerator.
# Where Icarus Verilog is missing, this notebook ends here.

# %%
icarus = simulator("icarus")
folder = Path("rtl")
write_rtl(design, folder)
(folder / "waves.sv").write_text(
    'module waves; initial begin $dumpfile("waves.vcd"); $dumpvars(1, testbench.i_bench); end endmodule\n'
)
recording = replace(
    icarus, compile=lambda sources: [[*command, "-s", "waves", "waves.sv"] for command in icarus.compile(sources)]
)
simulation = compile_rtl(design, folder, chosen=recording)

# %% [markdown]
# Two images, first by one task, then by the other: the task is a register, switched between two calls.

# %%
x = integers(stream.task(0).x_test[:2], net.input).astype(np.int64)
results = simulation.run([RtlCall(0, x), RtlCall(1, x)])
for task, result in enumerate(results):
    expected = Simulator(net, task).taps(x)
    equal = all((values == expected[name]).all() for name, values in result.layers.items())
    print(f"task {task}: {result.cycles} cycles, {len(result.layers)} layers, the simulator's integers: {equal}")


# %% [markdown]
# The waveform: when beats of the image go in, and when logits come out. `waves.vcd` opens in any viewer of waveforms,
# such as GTKWave or Surfer.


# %%
def waves(path, wanted):
    """(times, values) of signals of a value change dump."""
    names, found, now = {}, {name: ([0], [0]) for name in wanted}, 0
    for line in path.read_text().splitlines():
        words = line.split()
        if line.startswith("$var") and words[4] in wanted:
            names[words[3]] = words[4]
        elif line.startswith("#"):
            now = int(line[1:])
        elif line.startswith("b") and words[1] in names:
            times, values = found[names[words[1]]]
            times.append(now)
            values.append(int(words[0][1:].replace("x", "0").replace("z", "0"), 2))
        elif line[:1] in "01" and line[1:] in names:
            times, values = found[names[line[1:]]]
            times.append(now)
            values.append(int(line[0]))
    return {name: ([*times, now], [*values, values[-1]]) for name, (times, values) in found.items()}


signals = ("call", "offered", "taken", "given", "ended")
recorded = waves(folder / "waves.vcd", signals)
figure, axes = plt.subplots(len(signals), 1, figsize=(9, 3.4), sharex=True, layout="constrained")
for axis, name in zip(axes, signals, strict=True):
    axis.plot(*recorded[name], drawstyle="steps-post", linewidth=1)
    axis.set_yticks([])
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
axes[-1].set_xlabel("time, ns")
figure.savefig("waveform.png", dpi=100)
plt.close(figure)
