"""Estimates of an accelerator's speed under FINN's names, from the cycles of its units.

Every unit works on another inference, so that the slowest one sets the throughput; an inference passes all units of the
longest way, which bounds its latency from above, because a unit may begin before the one in front of it has ended.
"""

from __future__ import annotations

from tsn_hw.layers import INPUT
from tsn_hw.units import Accelerator, Stream

BEAT_BITS = 64
INPUT_PORT, OUTPUT_PORT = "s_axis", "m_axis"


def container_bits(stream: Stream) -> int:
    """Width of the integer that holds an activation on its way to the accelerator."""
    return 8 if stream.bits <= 8 else 16


def input_beats(stream: Stream) -> int:
    """Beats of the input port for one inference."""
    return -(-stream.elements * container_bits(stream) // BEAT_BITS)


def layer_cycles(accelerator: Accelerator) -> dict[str, int]:
    """Cycles between two inferences of every unit and of both ports: ``estimate_layer_cycles.json``."""
    ports = {INPUT_PORT: input_beats(accelerator.input), OUTPUT_PORT: accelerator.head.rows}
    return ports | {unit.name: unit.cycles for unit in accelerator.units}


def network_performance(accelerator: Accelerator, clock_mhz: float) -> dict[str, float | str]:
    """What limits the network, and its speed at a clock: ``estimate_network_performance.json``."""
    cycles = layer_cycles(accelerator)
    slowest = max(cycles, key=lambda name: cycles[name])
    ends = {INPUT: cycles[INPUT_PORT]}
    for number, unit in enumerate(accelerator.units):
        ends[number] = unit.cycles + max(ends[source] for source in unit.inputs)
    longest = ends[len(accelerator.units) - 1] + cycles[OUTPUT_PORT]
    return {
        "critical_path_cycles": longest,
        "max_cycles": cycles[slowest],
        "max_cycles_node_name": slowest,
        "estimated_throughput_fps": 1e6 * clock_mhz / cycles[slowest],
        "estimated_latency_ns": 1e3 * longest / clock_mhz,
    }
