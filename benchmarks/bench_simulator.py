"""Simulator against plain float32 torch inference of the same network, one thread, interleaved in one run.

    python benchmarks/bench_simulator.py

Prints, a network and batch size: samples per second of the plain float network (contiguous, as torch makes it), and
the time of the others over its time: the plain network in channels-last layout, the simulator without and with int8.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from nets import Numbers, random_alexnet, random_inputs, random_mlp
from torch import Tensor, nn

from sim import Simulator
from tsn_hw.core.layers import Conv2d, Flatten, Linear, MaxPool
from tsn_hw.core.network import PackedNetwork

ROUNDS = 15
NETWORKS: dict[str, tuple[PackedNetwork, tuple[int, ...]]] = {
    "MLP 784-256-256-10": (random_mlp((784, 256, 256, 10)), (1, 64, 1024)),
    "MLP, 7-bit centroids": (random_mlp((784, 256, 256, 10), centroid_bits=7), (1, 64, 1024)),
    "MLP, 4-bit activations": (random_mlp((784, 256, 256, 10), act_bits=4), (64,)),
    "MLP, 16-bit activations": (random_mlp((784, 256, 256, 10), act_bits=16), (64,)),
    "AlexNet": (random_alexnet(), (1, 64, 128)),
    "AlexNet, 7-bit centroids": (random_alexnet(Numbers(centroid_bits=7)), (1, 64, 128)),
    "AlexNet, batch norms": (random_alexnet(Numbers(multiplier_bits=12)), (1, 64)),
    "AlexNet, 16-bit activations": (random_alexnet(Numbers(act_bits=16)), (32,)),
}


def float_network(net: PackedNetwork) -> nn.Sequential:
    """The same layers as a user of torch writes them: float32, ReLU between weighted layers."""
    modules: list[nn.Module] = []
    for index, layer, step in net.run_order(0):
        if isinstance(layer, Linear):
            modules.append(nn.Linear(layer.in_features, layer.out_features))
        elif isinstance(layer, Conv2d):
            modules.append(nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding))
        elif isinstance(layer, MaxPool):
            modules.append(nn.MaxPool2d(layer.kernel, layer.stride))
        elif isinstance(layer, Flatten):
            modules.append(nn.Flatten())
        if step.requantization is not None:
            scale = 2.0**-step.requantization.shift
            gain = step.requantization.multiplier.reshape(-1, *[1] * (net.weights(0, index).ndim - 1))
            modules[-1].weight.data = torch.from_numpy(net.weights(0, index) * gain * scale).float()
            modules[-1].bias.data = torch.from_numpy(step.requantization.offset * scale).float()
            if step.requantization.output is not None:
                modules.append(nn.ReLU())
    return nn.Sequential(*modules).eval()


def medians(candidates: list[Callable[[], object]]) -> np.ndarray:
    """Median seconds of every candidate, timed in turn."""
    for candidate in candidates:
        candidate()
    seconds = np.empty((ROUNDS, len(candidates)))
    for row in seconds:
        for column, candidate in enumerate(candidates):
            start = time.perf_counter()
            candidate()
            row[column] = time.perf_counter() - start
    return np.median(seconds, axis=0)


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
    header = f"{'network':28} {'batch':>5} {'float/s':>9} {'last':>6} {'exact':>6} {'int8':>6}  kernels"
    sys.stdout.write(header + "\n")
    for name, (net, batches) in NETWORKS.items():
        kernels = " ".join(plan.kernel for plan in Simulator(net, 0).plan)
        for batch in batches:
            rate, ratios = measure(net, batch)
            sys.stdout.write(f"{name:28} {batch:5} {rate:9.0f} {' '.join(f'{r:6.2f}' for r in ratios)}  {kernels}\n")


if __name__ == "__main__":
    main()
