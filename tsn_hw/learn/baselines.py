"""What subnetworks are measured against: dense float networks, one a task, and methods that keep float weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsn_hw.core.errors import TrainingError
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Linear, MaxPool, Weighted
from tsn_hw.core.masks import encode_masks
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.dropout import dropped
from tsn_hw.learn.models import SubnetModel
from tsn_hw.learn.settings import TrainSettings
from tsn_hw.learn.train import Tensors, evaluate, generator_of, seed_of, train_epoch


class DenseModel(nn.Module):
    """An architecture with plain float layers, biases or batch norm, ReLUs, and one head."""

    def __init__(self, architecture: Architecture, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.architecture = architecture
        self.weighted, self.norms = nn.ModuleDict(), nn.ModuleDict()
        self.dropout_generator: torch.Generator | None = None
        for index, layer in enumerate(architecture.layers):
            if isinstance(layer, Weighted):
                self.weighted[str(index)] = _float_layer(layer, not architecture.batch_norm, generator)
                if architecture.batch_norm:
                    norm = nn.BatchNorm2d if isinstance(layer, Conv2d) else nn.BatchNorm1d
                    self.norms[str(index)] = norm(layer.channels)
        self.head = _float_layer(Linear("head", architecture.features, classes), True, generator)

    def forward(self, x: Tensor, task: int = 0) -> Tensor:
        """Logits (batch, classes). ``task`` is ignored: the network has one."""
        outputs = {INPUT: x}
        for index, layer in enumerate(self.architecture.layers):
            value, key = outputs[layer.inputs[0]], str(index)
            if isinstance(layer, Weighted):
                value = self.weighted[key](value)
                value = self.norms[key](value) if key in self.norms else value
            elif isinstance(layer, Add):
                value = value + outputs[layer.inputs[1]]
            elif isinstance(layer, AvgPool):
                value = F.avg_pool2d(value, layer.kernel, layer.stride)
            elif isinstance(layer, MaxPool):
                value = F.max_pool2d(value, layer.kernel, layer.stride)
            elif isinstance(layer, Flatten):
                value = value.flatten(1)
            if isinstance(layer, Weighted | Add) and layer.name not in self.architecture.signed:
                value = F.relu(value)
            share = self.architecture.dropout.get(layer.name, 0.0)
            if self.training and share and self.dropout_generator is not None:
                value = dropped(value, share, self.dropout_generator)
            outputs[index] = value
        logits: Tensor = self.head(outputs[len(self.architecture.layers) - 1])
        return logits


def fit_dense(
    architecture: Architecture, data: Tensors, classes: int, settings: TrainSettings, seed: int
) -> DenseModel:
    """Train one dense float network with the settings of the subnetworks; ends in its best validation state."""
    model = DenseModel(architecture, classes, generator_of(seed, "dense")).to(data.x_train.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
    steps = math.ceil(len(data.x_train) / settings.batch)
    best_loss, best = math.inf, model.state_dict()
    for epoch in range(settings.epochs):

        def before_step(step: int, epoch: int = epoch) -> None:
            done = (epoch * steps + step) / (settings.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * (1 + math.cos(math.pi * done)) / 2

        generator = generator_of(seed_of(seed, "dense epoch", epoch))
        train_epoch(model, 0, data, optimizer, settings, generator, before_step)
        loss = evaluate(model, 0, data.x_valid, data.y_valid).loss
        if loss < best_loss:
            best_loss, best = loss, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if not math.isfinite(best_loss):
        raise TrainingError(f"dense network: the validation loss was never finite; lower train.lr ({settings.lr})")
    model.load_state_dict(best)
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


def _float_layer(layer: Weighted, bias: bool, generator: torch.Generator) -> nn.Module:
    """A plain torch layer with Kaiming-uniform weights from a generator."""
    module: nn.Linear | nn.Conv2d
    if isinstance(layer, Linear):
        module = nn.Linear(layer.in_features, layer.out_features, bias)
    else:
        module = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel,
            layer.stride,
            layer.padding,
            groups=layer.groups,
            bias=bias,
        )
    bound = 1 / math.sqrt(module.weight[0].numel())
    with torch.no_grad():
        module.weight.copy_(torch.rand(module.weight.shape, generator=generator).mul_(2 * bound).sub_(bound))
        if module.bias is not None:
            module.bias.zero_()
    return module
