"""Learning one task: weights, scores and head together, under a mask that follows the scores."""

from __future__ import annotations

import ctypes
import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tsn_hw.core.errors import NetworkError, TrainingError
from tsn_hw.learn.data.tasks import TaskData
from tsn_hw.learn.forward import Interpreter
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import TrainSettings

CALIBRATION_IMAGES = 1024
EVALUATION_BATCH = 1000
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""
FEWEST_DECIDING = 100
"""Validation images on which accuracies are compared; of fewer, one is more than a percentage point."""
WARM_UP, WARM_UP_FROM = 0.3, 0.04
"""Of ``one_cycle``: the share of the steps in which the learning rate rises, and the share of it that it rises from."""


def seed_of(*parts: object) -> int:
    """A 63-bit seed from whatever names a random decision: same names, same seed, everywhere.

    >>> seed_of(0, "epoch", 1) == seed_of(0, "epoch", 1) != seed_of(0, "epoch", 2)
    True
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_of(*parts: object) -> torch.Generator:
    """A CPU generator for the random decision that the parts name."""
    return torch.Generator().manual_seed(seed_of(*parts))


@cache
def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors, which it else gives back and asks for anew in every training step.

    A tenth of the step of an AlexNet went into these pages. The peak of a process stays what it was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        if not mallopt(M_MMAP_THRESHOLD, 1 << 30):
            mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the most that older versions take
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Torch so that the same steps give the same bits: fixed threads (0: as they are), no NNPACK, no TF32.

    NNPACK is no matter of taste: its float32 convolution is wrong far below 2**24.
    """
    keep_freed_memory()
    before, tf32 = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    torch.set_num_threads(threads or before)
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with (
            torch.backends.nnpack.flags(enabled=False),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_num_threads(before)
        torch.backends.cuda.matmul.allow_tf32 = tf32


@dataclass(frozen=True)
class Tensors:
    """A task's inputs and labels on the training device: uint8 or float32 (N, ...) and int64 (N,)."""

    x_train: Tensor
    y_train: Tensor
    x_valid: Tensor
    y_valid: Tensor

    @classmethod
    def of(cls, data: TaskData, device: torch.device) -> Tensors:
        """Move a task's training and validation data to a device."""
        arrays = (data.x_train, data.y_train, data.x_valid, data.y_valid)
        # C order: numpy leaves permuted images with their pixels far apart, and every batch gathers them
        return cls(*(torch.from_numpy(np.array(a, order="C")).to(device) for a in arrays))

    @property
    def deciding(self) -> tuple[Tensor, Tensor]:
        """Images and labels that pruning and code widths are decided on: the validation part where it is large enough.

        One image of a few is a drop of many points, or of none by luck: then training images have a say as well.
        """
        if len(self.x_valid) >= FEWEST_DECIDING:
            return self.x_valid, self.y_valid
        return torch.cat([self.x_valid, self.x_train]), torch.cat([self.y_valid, self.y_train])


def to_real(images: Tensor) -> Tensor:
    """Inputs as the real numbers that they stand for: pixels for pixel / 256, values for themselves."""
    return images if images.is_floating_point() else images.to(torch.float32) / 256


def mirrored_and_moved(images: Tensor, mirror: bool, shift: int, generator: torch.Generator) -> Tensor:
    """Every image (N, channels, height, width) mirrored left to right or not, and moved by up to ``shift`` pixels.

    Half of the images are mirrored; a move is uniform in both directions, and what it leaves bare is 0. The decisions
    are drawn on the CPU, so a seed means the same on every device.

    >>> row = torch.tensor([1, 2, 3, 4], dtype=torch.uint8).view(1, 1, 1, 4)
    >>> mirrored_and_moved(row, True, 0, torch.Generator().manual_seed(1)).tolist()
    [[[[4, 3, 2, 1]]]]
    """
    count, channels, height, width = images.shape
    rows = torch.arange(height).expand(count, height)
    columns = torch.arange(width).expand(count, width)
    if mirror:
        turned = torch.randint(2, (count, 1), generator=generator, dtype=torch.bool)
        columns = torch.where(turned, columns.flip(1), columns)
    if shift:
        rows = rows + torch.randint(2 * shift + 1, (count, 1), generator=generator)
        columns = columns + torch.randint(2 * shift + 1, (count, 1), generator=generator)
        images = F.pad(images, (shift,) * 4)
    pixels = rows[:, :, None] * images.shape[3] + columns[:, None, :]
    pixels = pixels.view(count, 1, -1).expand(count, channels, -1).to(images.device)
    return images.flatten(2).gather(2, pixels).view(count, channels, height, width)


@dataclass
class Fit:
    """Where the training of one task stands; everything that a resumed run needs besides the model itself.

    ``settings`` and ``seed`` (which names the random decisions) are those of the run.
    """

    optimizer: torch.optim.Optimizer
    settings: TrainSettings
    seed: int = 0
    epoch: int = 0
    lr: float = field(init=False)
    wait: int = field(init=False)
    best_loss: float = math.inf
    stopped: bool = False
    best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lr, self.wait = self.settings.lr, self.settings.patience


def start_task(model: SubnetModel, task: int, settings: TrainSettings, tasks: int, seed: int = 0) -> Fit:
    """Prepare the bank for a new task: owned weights at their stored values, fresh optimiser state."""
    for index, layer in model.body_layers(task).items():
        name = model.architecture.layers[index].name
        layer.subnet.start(settings.keep(name, task, tasks), layer.weight.data, layer.grid.real)
        if not layer.subnet.mask().any():
            raise TrainingError(
                f"layer {name!r}: task {task} finds no free weight and borrows none; "
                f"lower train.keep_ratio ({settings.keep(name, task, tasks)})"
            )
        if layer.subnet.committed:
            layer.subnet.scores.data.mul_(settings.inherit)
    head = model.modules_of(task).head
    head.subnet.start(1.0, head.weight.data, head.grid.real)
    return Fit(model.callbacks.optimizer_of(model.parameters_of(task), settings.lr), settings, seed)


def trainable_state(model: SubnetModel, task: int) -> dict[str, Tensor]:
    """The state that training a task changes: its bank and its own modules, not the committed words."""
    frozen = ("owner", "code", "codebooks", "entries", "masks")
    state = _state_of(model, (f"banks.{model.bank_of[task]}", f"tasks.{task}"))
    return {name: tensor for name, tensor in state.items() if name.rsplit(".", 1)[-1] not in frozen}


def _state_of(model: SubnetModel, modules: Iterable[str]) -> dict[str, Tensor]:
    """The part of a state dict that some modules of a model have: other tasks are not walked."""
    state: dict[str, Tensor] = {}
    for name in modules:
        state |= model.get_submodule(name).state_dict(prefix=f"{name}.")
    return state


def restore(model: SubnetModel, state: dict[str, Tensor]) -> None:
    """Put a snapshot of :func:`trainable_state` back."""
    current = _state_of(model, dict.fromkeys(".".join(name.split(".")[:2]) for name in state))
    for name, tensor in state.items():
        current[name].copy_(tensor)  # in place: a state dict shares memory with its model


def fit(model: SubnetModel, task: int, data: Tensors, state: Fit, on_epoch: Callable[[Fit], None]) -> None:
    """Train until the epochs are used up or the validation loss has stopped falling; end in the best state.

    The masks are fixed at the end, recomputed from the restored scores: a mask and the weights it was chosen
    with belong to the same moment.
    """
    settings = state.settings
    while state.epoch < settings.epochs and not state.stopped:
        if settings.ramp:
            _ramp(model, task, state.epoch / settings.epochs / settings.ramp)
        if state.epoch <= settings.epochs // 2:
            model.calibrate(to_real(data.x_train[:CALIBRATION_IMAGES]), task)
        train_epoch(model, task, data, state, generator_of(state.seed, "epoch", task, state.epoch))
        track(state, evaluate(model, task, data.x_valid, data.y_valid).loss, trainable_state(model, task))
        state.epoch += 1
        on_epoch(state)
    if not state.best:
        raise TrainingError(
            f"task {task}: training diverged (epoch {state.epoch} of {settings.epochs}, no validation loss was finite)"
            f"; lower train.lr ({settings.lr:g})"
        )
    restore(model, state.best)
    for layer in model.body_layers(task).values():
        layer.subnet.kept = layer.subnet.target
        layer.subnet.fix(layer.subnet.mask())


@contextmanager
def numbers_held(name: str, state: Fit) -> Iterator[None]:
    """Tell numbers of a trained task that no format of a network holds as what they are: training that diverged."""
    try:
        yield
    except NetworkError as error:
        raise TrainingError(
            f"task {name!r}: training diverged (epoch {state.epoch} of {state.settings.epochs}, least validation loss "
            f"{state.best_loss:.4g}: {error}); lower train.lr ({state.settings.lr:g})"
        ) from error


def train_epoch(model: Interpreter, task: int, data: Tensors, state: Fit, generator: torch.Generator) -> None:
    """One pass over the shuffled training data. A last batch of one image joins the one before (batch norm)."""
    settings = state.settings
    model.train()
    model.dropout_generator = torch.Generator(data.x_train.device).manual_seed(generator.initial_seed())
    order = torch.randperm(len(data.x_train), generator=generator).to(data.x_train.device)
    batches = list(order.split(settings.batch))
    steps = len(batches)
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    for step, chosen in enumerate(batches):
        done = (state.epoch * steps + step) / (settings.epochs * steps)
        _set_lr(state, done)
        if settings.ramp and isinstance(model, SubnetModel):
            _ramp(model, task, done / settings.ramp)
        state.optimizer.zero_grad(set_to_none=True)
        images = data.x_train.index_select(0, chosen)  # faster than indexing
        if settings.mirror or settings.shift:
            images = mirrored_and_moved(images, settings.mirror, settings.shift, generator)
        inputs, augment = to_real(images), model.callbacks.augment
        if augment is not None:
            inputs = augment(inputs, generator)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            loss = model.callbacks.loss_of(model(inputs, task), data.y_train[chosen])
        loss.backward()
        state.optimizer.step()


@dataclass(frozen=True)
class Evaluation:
    """Mean loss (cross-entropy unless the model has another) and accuracy in percent."""

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(model: Interpreter, task: int, x: Tensor, y: Tensor) -> Evaluation:
    """Loss and accuracy of a task in evaluation mode.

    ``x``: uint8 pixels or float32 values (N, ...); ``y``: int64 (N,), classes of the task.
    """
    model.eval()
    loss, correct = 0.0, 0
    for images, labels in zip(x.split(EVALUATION_BATCH), y.split(EVALUATION_BATCH), strict=True):
        logits = model(to_real(images), task)
        loss += model.callbacks.total_loss(logits, labels)
        correct += int((logits.argmax(1) == labels).sum())
    return Evaluation(loss / len(x), 100 * correct / len(x))


def _set_lr(state: Fit, done: float) -> None:
    """``done``: share of all steps that are behind."""
    lr = state.lr if state.settings.schedule == "plateau" else _rate(state.settings, done)
    for group in state.optimizer.param_groups:
        group["lr"] = lr


def _rate(settings: TrainSettings, done: float) -> float:
    """Learning rate of a schedule that follows the steps alone."""
    if settings.schedule != "one_cycle":
        return settings.lr * (1 + math.cos(math.pi * done)) / 2
    if done < WARM_UP:
        return settings.lr * (WARM_UP_FROM + (1 - WARM_UP_FROM) * (1 - math.cos(math.pi * done / WARM_UP)) / 2)
    return settings.lr * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


def _ramp(model: SubnetModel, task: int, progress: float) -> None:
    """Let the keep ratio fall from 1 to its target along a cubic (Zhu and Gupta, 2017)."""
    for layer in model.body_layers(task).values():
        count, target = layer.subnet.scores.numel(), layer.subnet.target
        layer.subnet.kept = target + math.floor((count - target) * max(0.0, 1 - progress) ** 3)


def track(state: Fit, loss: float, tensors: dict[str, Tensor]) -> bool:
    """Remember the best state, and say whether this is it; under ``plateau`` lower the rate and stop at the floor."""
    settings = state.settings
    if state.epoch < settings.ramp * settings.epochs:
        return False  # masks are still larger than they may be
    if loss < state.best_loss:
        state.best_loss, state.wait = loss, settings.patience
        state.best = {name: tensor.clone() for name, tensor in tensors.items()}
        return True
    state.wait -= 1
    if settings.schedule == "plateau" and state.wait == 0:
        state.lr, state.wait = state.lr * settings.decay, settings.patience
        state.stopped = state.lr < settings.lr_floor
    return False
