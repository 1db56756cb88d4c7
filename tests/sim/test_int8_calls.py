"""Int8 kernels are called where that pays."""

from typing import Any

import numpy as np
import pytest
from torch import Tensor

import sim.kernels
import sim.plan
from sim import Simulator, int8, proof
from tests.helpers.handmade import U8, linear, requantization
from tests.helpers.networks import adversarial_inputs


@pytest.mark.skipif(not int8.available(), reason="no int8 kernels on this processor")
def test_calls_of_few_products_take_float32_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net, ran = (
        linear(np.tile([[64, -64], [-64, 64]], (32, 128)), requantization(U8, 13, channels=64), U8),
        list[tuple[str, int]](),
    )

    class Noted(proof.Guarded):
        def __init__(self, kernel: proof.Kernel, *parts: Any) -> None:
            super().__init__(kernel, *parts)
            self.kernel = kernel

        def settled(self, batch: int) -> proof.Operation:
            made = super().settled(batch)

            def call(x: Tensor) -> Tensor:
                if x.shape[1] == 256:
                    ran.append((self.kernel.carrier, len(x)))
                return made(x)

            return call

    monkeypatch.setattr(sim.kernels, "Guarded", Noted)
    monkeypatch.setattr(sim.plan, "INT8_MIN_CALL", 9)
    simulator = Simulator(net, 0)
    x = adversarial_inputs(net, 9)
    np.testing.assert_array_equal(simulator(x)[:8], simulator(x[:8]))
    assert ran == []  # while kernels are tried
    np.testing.assert_array_equal(simulator(x)[:8], simulator(x[:8]))
    assert ran == [("int8", 9), ("float32", 8)]
