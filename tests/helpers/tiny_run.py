"""Training runs that take a second: permuted digits, twelve images a class, a dozen hidden units."""

import atexit
import shutil
import tempfile
from pathlib import Path

from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.config import stream_of
from tsn_hw.learn.folder import settings_to_json
from tsn_hw.learn.run import train
from tsn_hw.learn.settings import (
    DataSettings,
    ModelSettings,
    PruneSettings,
    QuantizeSettings,
    RouteSettings,
    Settings,
    StreamSettings,
    TrainSettings,
)

TINY = Settings(
    data=(DataSettings(limit=12),),
    stream=StreamSettings(tasks=2, validation_share=0.25),
    model=ModelSettings(hidden=(12,)),
    train=TrainSettings(epochs=2, batch=32, lr=2e-2, keep_ratio=0.4, threads=1, transfer=True),
    prune=PruneSettings(iterations=2),
    quantize=QuantizeSettings(min_bits=2, max_bits=3, qat_epochs=1),
)
TINY_TOML = """\
[data]
limit = 12
[stream]
tasks = 2
validation_share = 0.25
[model]
hidden = [12]
[train]
epochs = 2
batch = 32
lr = 2e-2
keep_ratio = 0.4
threads = 1
transfer = true
[prune]
iterations = 2
[quantize]
min_bits = 2
max_bits = 3
qat_epochs = 1
"""
EVERYTHING = Settings(
    data=(DataSettings(limit=10),),
    stream=StreamSettings(tasks=3, validation_share=0.3),
    model=ModelSettings(hidden=(10, 8), batch_norm=True, dropout=0.2),
    train=TrainSettings(epochs=3, batch=32, lr=2e-2, keep_ratio=0.4, ramp=0.3, threads=1, transfer=True),
    prune=PruneSettings(iterations=4, tolerated_drop=5.0),
    quantize=QuantizeSettings(min_bits=1, max_bits=2, per_layer=True, share_codebooks=True, qat_epochs=2),
    route=RouteSettings(enabled=True, memory="samples_act", samples=20, threshold=1e-9, max_banks=2),
)
"""Three tasks in two banks, with all that is drawn at random: dropout, pruning, batch norm, QAT, routing samples."""


def learn(settings: Settings, folder: Path, resume: bool = False) -> PackedNetwork:
    """Train into a folder, as the command line does."""
    return train(settings, stream_of(settings), folder, resume=resume, quiet=True)


_FINISHED: dict[str, Path] = {}


def finished_run(settings: Settings = TINY) -> Path:
    """The folder of a finished run, for reading only; trained once a test process."""
    key = settings_to_json(settings)
    if key not in _FINISHED:
        folder = Path(tempfile.mkdtemp(prefix="tsn-hw-tests-"))
        atexit.register(shutil.rmtree, folder)
        learn(settings, folder)
        _FINISHED[key] = folder
    return _FINISHED[key]


def copied_run(folder: Path, settings: Settings = TINY) -> Path:
    """A finished run of a test's own."""
    return Path(shutil.copytree(finished_run(settings), folder))


def networks_of(folder: Path) -> dict[str, bytes]:
    """The content of every .tsn file and every trained task of a run, by its path within the folder."""
    paths = [*folder.rglob("*.tsn"), *folder.rglob("task_*.safetensors")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}
