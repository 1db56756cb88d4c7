"""A network that every flavour of QONNX holds."""

import numpy as np

from tests.helpers.handmade import network, requantization
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool

FLAVOURS = ("quant", "multithreshold")
U1, U2, U4, U16 = (ActFormat(bits, signed=False, exponent=0) for bits in (1, 2, 4, 16))
S1, S4 = (ActFormat(bits, signed=True, exponent=0) for bits in (1, 4))


def finer(form, exponent):
    return ActFormat(form.bits, form.signed, exponent)


def fitting():
    """Every kind of layer, with formats that fit together as a trained network's do: hls4ml takes it as a whole."""
    rng = np.random.default_rng(1)

    def weights(*shape):
        return rng.integers(-7, 8, shape) * (rng.random(shape) < 0.6)

    unsigned = ActFormat(5, signed=False, exponent=-2)
    layers = [
        (
            Conv2d("conv", 1, 2, (3, 3), (2, 1), (1, 0)),
            weights(2, 1, 3, 3),
            requantization(finer(U4, -2), 4, [8, -13], [3, -2], 2),
        ),
        (MaxPool("pool", (1, 2), (1, 1), (0,)), None, None),
        (Conv2d("mix", 2, 2, (1, 1), inputs=(1,)), weights(2, 2, 1, 1), requantization(finer(S4, -3), 2, 2, 1, 2)),
        (Add("add", (1, 2)), None, requantization(unsigned, 1)),
        (AvgPool("average", (2, 1), (1, 1), (3,)), None, requantization(unsigned, 1)),
        (Flatten("flatten", (4,)), None, None),
        (Linear("head", 4, 3, (5,)), weights(3, 4), requantization(None, 0, [-90, 5, 77], channels=3)),
    ]
    return network((1, 4, 5), ActFormat(6, signed=False, exponent=-6), layers, head=False)
