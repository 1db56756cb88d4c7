"""What can be said against a run before its first epoch: all of it, because a run takes long."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tsn_hw.core.errors import SettingsError, TrainingError
from tsn_hw.core.network import MAX_WEIGHTS
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.bodies import body_of
from tsn_hw.learn.data.inputs import check_format
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.methods import METHODS
from tsn_hw.learn.settings import Settings
from tsn_hw.learn.training import FEWEST_DECIDING

BYTES_A_WEIGHT = 48
"""That training takes at least: weight, score, owner, code, two gradients, four moments, the best state, products."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def architecture_of(settings: Settings, input_shape: tuple[int, ...]) -> Architecture:
    """The body that the settings ask for, at the size of the data."""
    architecture = body_of(settings.model, input_shape)
    names = [layer.name for layer in architecture.weighted.values()]
    for name in settings.train.keep_table:
        if name not in names:
            raise SettingsError(f"train.keep_table.{name}: no such layer; there are {', '.join(names)}")
    return architecture


def check_trainable(settings: Settings, stream: TaskStream, device: torch.device) -> None:
    """Refuse a run that cannot end in a network."""
    if not METHODS[settings.train.method].codes:
        raise SettingsError(
            f"train.method = {settings.train.method!r}: keeps float32 weights and ends in no network; "
            "it is a baseline of `tsn-hw bench paper`"
        )
    check_size(settings, stream, device)


def few_to_decide_on(stream: TaskStream) -> list[str]:
    """A line where validation parts are so small that pruning and code widths are decided on more, else none."""
    images, name = min((images, name) for name, (_, images) in zip(stream.names, stream.images, strict=True))
    if images >= FEWEST_DECIDING:
        return []
    return [
        f"task {name!r} has {images} validation images: pruning and code widths are decided on its training images "
        f"too, as of every task with fewer than {FEWEST_DECIDING}; raise stream.validation_share or data.limit"
    ]


def check_size(settings: Settings, stream: TaskStream, device: torch.device) -> None:
    """Refuse a body that no file or no memory holds, and tasks too small for it."""
    _check_inputs(settings, stream)
    architecture = architecture_of(settings, stream.input_shape)
    for layer in architecture.layers:
        if layer.weight_count > MAX_WEIGHTS:
            raise SettingsError(f"model: layer {layer.name!r} has {layer.weight_count} weights, at most {MAX_WEIGHTS}")
    needed, there = architecture.body_weights * (BYTES_A_WEIGHT + len(stream)), memory_bytes(device)
    if needed > there:
        raise SettingsError(
            f"model: {architecture.body_weights} weights take {needed / 1e9:.1f} GB to train, there are "
            f"{there / 1e9:.1f} GB; make the body smaller"
        )
    for name, (images, _) in zip(stream.names, stream.images, strict=True):
        if architecture.batch_norm and images == 1:
            raise SettingsError(f"model.batch_norm: task {name!r} trains on one image, a batch norm needs two")


def _check_inputs(settings: Settings, stream: TaskStream) -> None:
    """Refuse what is for pixels or for images where the tasks have neither."""
    check_format(settings.formats, stream)
    for key, value in (("mirror", settings.train.mirror), ("shift", settings.train.shift)):
        if value and len(stream.input_shape) != 3:
            raise SettingsError(f"train.{key} = {value}: is for images, and inputs are {stream.input_shape}")
    if settings.route.enabled and settings.route.memory == "samples_input" and not stream.pixels:
        raise SettingsError("route.memory = 'samples_input': keeps pixels, and the tasks have values; take another")


def memory_bytes(device: torch.device) -> int:
    """Memory that this process may have on a device: of the machine, its control group, its own limit."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), resource.getrlimit(resource.RLIMIT_AS)[0]]
    if CGROUP_LIMIT.is_file() and (text := CGROUP_LIMIT.read_text().strip()).isdecimal():
        limits.append(int(text))
    return min(limit for limit in limits if limit != resource.RLIM_INFINITY)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Memory that is not there, told as an error of ours; torch has three ways to say it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise TrainingError("out of memory: make the body (model) or train.batch smaller") from error
