"""The simulator against the int64 loop."""

import numpy as np

from sim import Simulator
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.reference import run


def assert_equals_reference(net: PackedNetwork, x: np.ndarray, use_int8: bool = True) -> list[Simulator]:
    """Every layer of every task, and the logits of the fused program, are the integers of the reference."""
    simulators = [Simulator(net, task, int8=use_int8) for task in range(len(net.tasks))]
    for task, simulator in enumerate(simulators):
        expected, taps, logits = run(net, task, x), simulator.taps(x), simulator(x)
        assert list(taps) == list(expected)
        for name, integers in expected.items():
            np.testing.assert_array_equal(taps[name], integers, err_msg=f"task {task}, layer {name}")
        np.testing.assert_array_equal(logits, expected[net.layers[net.head(task)].name])
        np.testing.assert_array_equal(simulator.predict(x), np.argmax(logits, axis=1))
    return simulators
