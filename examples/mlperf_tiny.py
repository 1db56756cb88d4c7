"""The four networks of MLPerf Tiny as torch modules, and the bodies that tsn-hw makes of them.

    python examples/mlperf_tiny.py

Shapes and widths are those of the benchmark's reference models, with padding that is the same on both sides.
"""

from __future__ import annotations

import itertools
import sys

import torch
from torch import Tensor, nn

from tsn_hw.learn import Architecture, body


def norm_conv(inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, groups: int = 1) -> nn.Module:
    """A convolution that keeps the size of its map up to its stride, a batch norm, a ReLU."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, (width - 1) // 2)
    conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class DepthwiseSeparable(nn.Sequential):
    """A depthwise convolution, and one of kernel 1 that mixes its channels."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(norm_conv(inputs, inputs, 3, stride, groups=inputs), norm_conv(inputs, outputs, 1))


def ds_cnn(classes: int = 12) -> nn.Module:
    """Keyword spotting: 49 frames of 10 coefficients, a stem of stride 2, four depthwise separable blocks of 64."""
    blocks = [DepthwiseSeparable(64, 64) for _ in range(4)]
    return nn.Sequential(
        norm_conv(1, 64, (10, 4), 2), nn.Dropout(0.2), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), nn.Linear(64, classes),
    )  # fmt: skip


def mobilenet(classes: int = 2) -> nn.Module:
    """Visual wake words: MobileNetV1 of a quarter of its width, for images of 96 x 96 pixels."""
    widths = [(8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)]
    widths += [(128, 128, 1)] * 5 + [(128, 256, 2), (256, 256, 1)]
    blocks = [DepthwiseSeparable(*sizes) for sizes in widths]
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(norm_conv(3, 8, 3, 2), *blocks, pool, nn.Flatten(), nn.Linear(256, classes))


class Residual(nn.Module):
    """Two convolutions of kernel 3, and what went in."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = norm_conv(inputs, outputs, 3, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        return torch.relu(self.second(self.first(x)) + self.skip(x))


def resnet8(classes: int = 10) -> nn.Module:
    """Image classification: three residual blocks for images of 32 x 32 pixels."""
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    return nn.Sequential(norm_conv(3, 16, 3), *blocks, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, classes))


def autoencoder(outputs: int = 640) -> nn.Module:
    """Anomaly detection: the fully connected stack of 640 inputs and a bottleneck of 8."""
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    layers: list[nn.Module] = []
    for inward, outward in itertools.pairwise(widths):
        layers += [nn.Linear(inward, outward), nn.BatchNorm1d(outward), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, outputs))


NETWORKS = {
    "ds_cnn": (ds_cnn, (1, 49, 10)),
    "mobilenet": (mobilenet, (3, 96, 96)),
    "resnet8": (resnet8, (3, 32, 32)),
    "autoencoder": (autoencoder, (640,)),
}
"""Every network by its name: what makes its module, and the shape of its inputs."""


def body_of(name: str, *, pretrained: bool = False) -> Architecture:
    """The body of one of these networks."""
    make, shape = NETWORKS[name]
    return body(make(), torch.rand(2, *shape), pretrained=pretrained)


if __name__ == "__main__":
    for name in NETWORKS:
        made = body_of(name)
        sys.stdout.write(f"{name}: {len(made.layers)} layers, {made.body_weights} weights\n")
