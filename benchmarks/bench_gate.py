"""Which task is it? What gates name of the test inputs of a stream, without training its network.

    python benchmarks/bench_gate.py SETTINGS.toml [--kind images] [--bits 8] [--components 4] [--pool 8] [--edges 4]

The settings name the data, as for ``tsn-hw train``. Gates are learned as ``tsn-hw gate`` learns them: from the training
part of every task by itself, with the seed of the settings. Test parts are scored once, with the arithmetic of the
simulator, in integers. The share is of a float32 body of the settings' model; ``--part valid`` looks at the validation
parts instead, for choices. One line a task, and the mean over tasks.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from sim.gate import named_task, scores_of
from tsn_hw.core.gate import Gate
from tsn_hw.core.writing import gate_section
from tsn_hw.learn.config import read_settings, stream_of
from tsn_hw.learn.data.inputs import integers
from tsn_hw.learn.data.tasks import TaskStream
from tsn_hw.learn.gates import GateSettings, learn_gate
from tsn_hw.learn.ready import architecture_of
from tsn_hw.learn.settings import Settings
from tsn_hw.learn.training import seed_of

TOGETHER = 20


def main() -> None:
    """Learn, score, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings")
    parser.add_argument("--kind", choices=["pixels", "images"], default="images")
    parser.add_argument("--part", choices=["test", "valid"], default="test")
    for option, default in (("bits", 8), ("components", 4), ("pool", 8), ("edges", 4)):
        parser.add_argument(f"--{option}", type=int, default=default)
    options = parser.parse_args()
    settings = read_settings(options.settings)
    stream, started = stream_of(settings), time.monotonic()
    how = GateSettings(options.kind, options.bits, options.components, options.pool, options.edges)
    gates = [_gate(settings, stream, number, how) for number in range(len(stream))]
    found = [_named(settings, stream, number, gates, options.part) for number in range(len(stream))]
    for name, gate, (single, together) in zip(stream.names, gates, found, strict=True):
        print(
            f"{name}: {len(gate_section(gate))} bytes, {single:.2f} % of single inputs, {together:.2f} % by {TOGETHER}"
        )
    body = sum(layer.weight_count for layer in architecture_of(settings, stream.input_shape).weighted.values())
    size = sum(len(gate_section(gate)) for gate in gates)
    single, together = np.mean(found, axis=0)
    print(
        f"mean of {len(gates)} tasks, {options.part}: {single:.2f} % of single inputs, {together:.2f} % by {TOGETHER}"
    )
    print(
        f"{size} bytes, {100 * size / (4 * body):.2f} % of {body} float32 weights; {time.monotonic() - started:.0f} s"
    )


def _gate(settings: Settings, stream: TaskStream, number: int, how: GateSettings) -> Gate:
    rng = np.random.default_rng(seed_of(settings.seed, "gate", stream.names[number]))
    return learn_gate(stream.task(number).x_train, settings.formats.input, how, rng)


def _named(settings: Settings, stream: TaskStream, number: int, gates: list[Gate], part: str) -> tuple[float, float]:
    """How many single inputs, and how many groups of them, are named, in percent."""
    data = stream.task(number)
    scores = scores_of(gates, integers(data.x_test if part == "test" else data.x_valid, settings.formats.input))
    single, together = (100 * float((named_task(scores, count) == number).mean()) for count in (1, TOGETHER))
    return single, together


if __name__ == "__main__":
    main()
