"""Simulator against plain float32 torch inference of the same network, one thread, interleaved in one run.

    python benchmarks/bench_simulator.py [PART OF A NAME ...]

Prints, a network and batch size: samples per second of the plain float network (contiguous, as torch makes it), and
the time of the others over its time: the plain network in channels-last layout, the simulator without and with int8.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from nets import Numbers, random_alexnet, random_inputs, random_mlp, random_resnet18
from torch import Tensor, nn

from sim import Simulator
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Layer, Linear, MaxPool
from tsn_hw.core.network import PackedNetwork

ROUNDS, SECONDS = 15, 1.0
"""How often all candidates take a turn at least, and how long together where they are quick."""
NETWORKS: dict[str, tuple[PackedNetwork, tuple[int, ...]]] = {
    "MLP 784-256-256-10": (random_mlp((784, 256, 256, 10)), (1, 64, 1024)),
    "MLP, 7-bit centroids": (random_mlp((784, 256, 256, 10), centroid_bits=7), (1, 64, 1024)),
    "MLP, 4-bit activations": (random_mlp((784, 256, 256, 10), act_bits=4), (64,)),
    "MLP, 16-bit activations": (random_mlp((784, 256, 256, 10), act_bits=16), (64,)),
    "AlexNet": (random_alexnet(), (1, 64, 128)),
    "AlexNet, 7-bit centroids": (random_alexnet(Numbers(centroid_bits=7)), (1, 64, 128)),
    "AlexNet, batch norms": (random_alexnet(Numbers(multiplier_bits=12)), (1, 64)),
    "MLP-100, batch norms": (random_mlp((784, 100, 100, 10), multiplier_bits=12), (1, 64, 1024)),
    "ResNet-18, batch norms": (random_resnet18(), (1, 64)),
    "ResNet-18, bn, 7-bit centroids": (random_resnet18(numbers=Numbers(centroid_bits=7, multiplier_bits=12)), (1, 64)),
    "AlexNet, 16-bit activations": (random_alexnet(Numbers(act_bits=16)), (32,)),
}


class FloatNetwork(nn.Module):
    """Layers that read others than the one before."""

    def __init__(self, layers: dict[int, tuple[tuple[int, ...], nn.Module]]) -> None:
        super().__init__()
        self.inputs = {index: inputs for index, (inputs, _) in layers.items()}
        self.made = nn.ModuleDict({str(index): module for index, (_, module) in layers.items()})

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        values = {INPUT: x}
        for index, inputs in self.inputs.items():
            values[index] = x = self.made[str(index)](*(values[source] for source in inputs))
        return x


class Sum(nn.Module):
    """The sum of two tensors, rectified."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Their sum."""
        return (a + b).relu_()


def float_network(net: PackedNetwork) -> nn.Module:
    """The same layers as a user of torch writes them: float32, ReLU between weighted layers."""
    layers = {index: (layer.inputs, float_layer(net, index, layer)) for index, layer, _ in net.run_order(0)}
    in_line = all(inputs == (index - 1,) for index, (inputs, _) in layers.items())
    return (nn.Sequential(*(module for _, module in layers.values())) if in_line else FloatNetwork(layers)).eval()


def float_layer(net: PackedNetwork, index: int, layer: Layer) -> nn.Module:
    """One layer, with the scales of its requantization in its weights."""
    if isinstance(layer, Add):
        return Sum()
    if isinstance(layer, AvgPool):
        return nn.AvgPool2d(layer.kernel, layer.stride)
    if isinstance(layer, MaxPool):
        return nn.MaxPool2d(layer.kernel, layer.stride)
    if isinstance(layer, Flatten):
        return nn.Flatten()
    made: nn.Linear | nn.Conv2d
    if isinstance(layer, Linear):
        made = nn.Linear(layer.in_features, layer.out_features)
    else:
        assert isinstance(layer, Conv2d)
        made = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding)
    scales = net.requantization(0, index)
    scale = 2.0**-scales.shift
    gain = scales.multiplier.reshape(-1, *[1] * (net.weights(0, index).ndim - 1))
    made.weight.data = torch.from_numpy(net.weights(0, index) * gain * scale).float()
    made.bias.data = torch.from_numpy(scales.offset * scale).float()
    return made if scales.output is None or scales.output.signed else nn.Sequential(made, nn.ReLU())


def medians(candidates: list[Callable[[], object]]) -> np.ndarray:
    """Median seconds of every candidate, timed in turn."""
    for candidate in candidates:
        candidate()
    rows: list[list[float]] = []
    begin = time.perf_counter()
    while len(rows) < ROUNDS or time.perf_counter() - begin < SECONDS:
        rows.append([])
        for candidate in candidates:
            start = time.perf_counter()
            candidate()
            rows[-1].append(time.perf_counter() - start)
    return np.median(rows, axis=0)


def measure(net: PackedNetwork, batch: int) -> tuple[float, list[float]]:
    """Samples per second of the plain network, and the ratios of the other candidates to it."""
    x = random_inputs(net, batch)
    floats = torch.from_numpy(x.astype(np.float32))
    plain, channels_last = float_network(net), float_network(net)
    last = floats
    if floats.ndim == 4:
        channels_last = channels_last.to(memory_format=torch.channels_last)
        last = floats.to(memory_format=torch.channels_last)
    exact, fastest = Simulator(net, 0, int8=False), Simulator(net, 0)

    def infer(model: nn.Module, values: Tensor) -> Callable[[], Tensor]:
        return torch.inference_mode()(lambda: model(values))

    base, *others = medians([infer(plain, floats), infer(channels_last, last), lambda: exact(x), lambda: fastest(x)])
    return batch / base, [other / base for other in others]


def main() -> None:
    torch.set_num_threads(1)
    torch.backends.nnpack.set_flags(False)
    header = f"{'network':30} {'batch':>5} {'float/s':>9} {'last':>6} {'exact':>6} {'int8':>6}  kernels"
    sys.stdout.write(header + "\n")
    chosen = sys.argv[1:]  # parts of names; none: all
    for name, (net, batches) in NETWORKS.items():
        if chosen and not any(part in name for part in chosen):
            continue
        kernels = " ".join(plan.kernel for plan in Simulator(net, 0).plan)
        for batch in batches:
            rate, ratios = measure(net, batch)
            sys.stdout.write(f"{name:30} {batch:5} {rate:9.0f} {' '.join(f'{r:6.2f}' for r in ratios)}  {kernels}\n")


if __name__ == "__main__":
    main()
