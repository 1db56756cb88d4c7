"""What a user's own code may change in the loop, and be told by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(logits (batch, classes), labels (batch,)) -> mean loss, a scalar."""


@dataclass(frozen=True)
class Epoch:
    """Where the training of a task stands: epochs done, epochs of the settings, least validation loss so far."""

    task: str
    epoch: int
    epochs: int
    best_loss: float


@dataclass(frozen=True)
class Callbacks:
    """Functions of your own in the loop; what is None is as the settings say.

    loss:      of a batch, in training and on validation data; cross-entropy without it.
    optimizer: (parameters, learning rate) -> a torch optimizer whose state are tensors; Adam without it. The learning
               rate still follows ``train.schedule``.
    augment:   (inputs (batch, ...) as real numbers, generator on the CPU) -> inputs of the same shape, in every step.
    on_epoch:  is told every epoch of training. on_task: is told the record of every finished task.

    A run is the same, byte for byte, also after a kill, where these functions are deterministic: all that they draw at
    random must come from the generator. They are no part of the settings: resume a run with those that it began with.
    """

    loss: Loss | None = None
    optimizer: Callable[[list[nn.Parameter], float], torch.optim.Optimizer] | None = None
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    on_epoch: Callable[[Epoch], None] | None = None
    on_task: Callable[[dict[str, Any]], None] | None = None

    def optimizer_of(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """A fresh optimizer of parameters."""
        if self.optimizer is not None:
            return self.optimizer(parameters, lr)
        return torch.optim.Adam(parameters, lr=lr, fused=True)

    def loss_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch."""
        return F.cross_entropy(logits, labels) if self.loss is None else self.loss(logits, labels)

    def total_loss(self, logits: Tensor, labels: Tensor) -> float:
        """Loss of a batch, summed over its inputs."""
        if self.loss is None:
            return float(F.cross_entropy(logits, labels, reduction="sum"))
        return float(self.loss(logits, labels)) * len(labels)


@dataclass(frozen=True)
class RunOptions:
    """How a run is run: on which device, going on with one that is there, without progress."""

    device: str = "cpu"
    resume: bool = False
    quiet: bool = False
