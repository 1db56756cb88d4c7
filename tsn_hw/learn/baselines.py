"""What subnetworks are measured against: dense float networks, one a task, and methods that keep float weights."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsn_hw.core.errors import TrainingError
from tsn_hw.core.layers import AvgPool, Layer
from tsn_hw.core.masks import encode_masks
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.callbacks import Callbacks
from tsn_hw.learn.forward import Interpreter, draw_uniform, norm_of, parts_of, start_from, sums, with_geometry
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import TrainSettings
from tsn_hw.learn.training import Fit, Tensors, evaluate, generator_of, seed_of, track, train_epoch


class DenseModel(Interpreter):
    """An architecture with plain float layers, biases or batch norm, ReLUs, and one head."""

    def __init__(self, architecture: Architecture, classes: int, generator: torch.Generator) -> None:
        super().__init__(architecture)
        self.weighted, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for index, layer in architecture.weighted.items():
            self.weighted[str(index)] = _float_layer(layer, not architecture.normalizes(layer), generator)
            if architecture.normalizes(layer):
                self.norms[str(index)] = norm_of(layer)
        self.head = _float_layer(architecture.head("head", classes), True, generator)

    @classmethod
    def of(cls, architecture: Architecture) -> DenseModel:
        """The float network of a body's own weights; its head too has those of the module that the body was made of."""
        weights = architecture.weights
        model = cls(architecture, len(weights.get("head.weight", [0])), torch.Generator())
        for index, layer in architecture.weighted.items():
            start_from(weights, layer.name, model.weighted[str(index)].state_dict())
            if str(index) in model.norms:
                start_from(weights, layer.name, parts_of(model.norms[str(index)]))
        start_from(weights, "head", model.head.state_dict())
        return model

    def features(self, x: Tensor) -> Tensor:
        """What the head reads (batch, features)."""
        return self.walk(self.laid_out(x), self._compute)

    def forward(self, x: Tensor, task: int = 0) -> Tensor:
        """Logits (batch, classes). ``task`` is ignored: the network has one."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def _compute(self, index: int, layer: Layer, operands: list[Tensor]) -> Tensor:
        key = str(index)
        value = sums(layer, operands, lambda: self.weighted[key](operands[0]))
        if key in self.norms:
            value = self.norms[key](value)
        if isinstance(layer, AvgPool):
            value = value / math.prod(layer.kernel)
        if layer.computes and layer.name not in self.architecture.signed:
            value = F.relu(value)
        limit = self.architecture.clips.get(layer.name)
        return value if limit is None else value.clamp(-limit, limit)


def fit_dense(
    architecture: Architecture,
    data: Tensors,
    classes: int,
    settings: TrainSettings,
    seed: int,
    callbacks: Callbacks = Callbacks(),
) -> DenseModel:
    """Train one dense float network with the settings of the subnetworks; ends in its best validation state."""
    model = DenseModel(architecture, classes, generator_of(seed, "dense")).to(data.x_train.device)
    model.callbacks = callbacks
    recipe = replace(settings, schedule="cosine", ramp=0.0)
    state = Fit(callbacks.optimizer_of(list(model.parameters()), recipe.lr), recipe)
    while state.epoch < recipe.epochs:
        train_epoch(model, 0, data, state, generator_of(seed_of(seed, "dense epoch", state.epoch)))
        track(state, evaluate(model, 0, data.x_valid, data.y_valid).loss, model.state_dict())
        state.epoch += 1
    if not state.best:
        raise TrainingError(f"dense network: the validation loss was never finite; lower train.lr ({settings.lr})")
    model.load_state_dict(state.best)
    return model


def float_body_percent(model: SubnetModel) -> float:
    """What a method with float32 weights stores of its bodies, in percent of one dense float32 body.

    Every weight that any task uses takes 32 bits; masks take what they take in a .tsn file.
    """
    bits = 0
    for bank in model.banks:
        for layer in bank.values():  # type: ignore[operator]
            planes = layer.subnet.masks.flatten(1).cpu().numpy()
            bits += 32 * int(planes.any(axis=0).sum()) + 8 * len(encode_masks(planes))
    return 100 * bits / (32 * model.architecture.body_weights)


def _float_layer(layer: Layer, bias: bool, generator: torch.Generator) -> nn.Module:
    """A plain torch layer with Kaiming-uniform weights from a generator; its bias, if any, is 0."""
    module: nn.Linear | nn.Conv2d = with_geometry(layer, nn.Linear, nn.Conv2d, {"bias": bias})
    draw_uniform(generator, module.weight.data)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module
