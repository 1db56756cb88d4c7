# %% [markdown]
# # Ten tasks on a microcontroller
#
# Ten tasks in one network, as C without libraries: what it takes of flash and RAM, that it computes the same integers,
# and how an eleventh task would come.

# %%
import shutil
import subprocess
from pathlib import Path

from tsn_hw import capacity
from tsn_hw.app.cli.main import main
from tsn_hw.core.errors import EngineError
from tsn_hw.learn import (
    DataSettings,
    ModelSettings,
    PruneSettings,
    QuantizeSettings,
    Settings,
    StreamSettings,
    TrainSettings,
    stream_of,
    train,
)

# %% [markdown]
# Ten tasks, briefly learned: digits of 8 x 8 pixels, in ten orders of pixels.

# %%
settings = Settings(
    data=(DataSettings("digits", limit=50),),
    stream=StreamSettings("permuted", tasks=10, natural_first=True),
    model=ModelSettings("mlp", hidden=(32,)),
    train=TrainSettings(epochs=3, lr=2e-2, keep_ratio=0.3, inherit=0.1, threads=1),
    prune=PruneSettings(iterations=0),
    quantize=QuantizeSettings(min_bits=3, max_bits=3),
)
run = train(None, stream_of(settings), settings, "ten")
sizes = capacity(run.network, Path("ten/net.tsn").read_bytes())
print(f"{len(run.network.tasks)} tasks, {sizes.file_bits // 8:,} bytes")

# %% [markdown]
# The C project: `tsn.h` is all that your program sees, `golden.h` has inputs and the integers that must come out.

# %%
main(["c", "ten/net.tsn", "-o", "c", "--samples", "2", "--quiet"])
for file in sorted(Path("c").iterdir()):
    print(f"{file.stat().st_size:>7,} {file.name}")

# %% [markdown]
# Compiled on this machine, its test runs all golden inputs of all tasks. Where make or a compiler is missing, the
# notebook ends here. On a microcontroller the same files are compiled by `make arm` or `make riscv`.

# %%
for tool in ("make", "gcc"):
    if shutil.which(tool) is None:
        raise EngineError(f"{tool} is not installed")
print(subprocess.run(["make", "-s", "-C", "c", "test"], capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# What it takes, estimated for several cores: `tsn-hw cost --target c` counts flash, RAM and instructions of every
# task.

# %%
main(["cost", "ten/net.tsn", "--target", "c", "--quiet"])

# %% [markdown]
# A later task goes into the same network (`tsn-hw train --resume`), and reaches the device as a patch of its flash:
# `tsn-hw c new.tsn --patch old.tsn -o build/patch` ([microcontrollers](microcontrollers.md)).
