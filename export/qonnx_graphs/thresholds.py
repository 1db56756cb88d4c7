"""The MultiThreshold flavour: integers in float32, and nodes that count the thresholds which an accumulator reaches.

Multiplier, offset, shift, rounding and saturation of a layer are all in its integer thresholds: the n-th is the
smallest accumulator that the requantization takes to at least the n-th output above the lowest. Every tensor carries
its integer type, so that FINN starts from such a file where it would end its own conversion and streamlining.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.qonnx_graphs.nodes import DOMAIN, QonnxGraph, stored
from export.qonnx_graphs.plan import QonnxLayer, check_exact, integer_bits
from tsn_hw.core import arithmetic
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import ExportError
from tsn_hw.core.layers import Add

MAX_BITS = 8
"""Of an activation: the number of thresholds doubles with every bit, and FINN converts no wider ones by default."""


def integer_type(form: ActFormat) -> str:
    """The name that qonnx has for the integers of a format.

    >>> integer_type(ActFormat(4, signed=False, exponent=-4))
    'UINT4'
    """
    return f"{'' if form.signed else 'U'}INT{form.bits}"


def threshold_layer(graph: QonnxGraph, layer: QonnxLayer, sources: Sequence[str], output: str) -> str:
    """Add one layer that computes; gives ``output``."""
    name, shape, form = layer.name, (1, *layer.shape), layer.output
    if form is None:
        return _logits(graph, layer, sources[0], output)
    if form.bits > MAX_BITS:
        raise ExportError(
            f"layer {name!r}: {form.bits}-bit activations need {2**form.bits - 1} thresholds a channel, "
            f"at most {MAX_BITS} bits"
        )
    check_exact(layer, "its largest threshold", arithmetic.magnitude(layer.low, layer.high + 1))
    steps = _constant(graph, f"{name}.thresholds", thresholds(layer, form))
    attributes = {
        "out_dtype": integer_type(form),
        "out_scale": 1.0,
        "out_bias": float(form.range[0]),
        "data_layout": "NCHW" if len(shape) == 4 else "NC",
    }
    inputs = [_accumulator(graph, layer, sources), steps]
    graph.tensor("MultiThreshold", inputs, output, shape, domain=DOMAIN, **attributes)
    graph.types[output] = integer_type(form)
    return output


def thresholds(layer: QonnxLayer, form: ActFormat) -> Ints:
    """Thresholds (channels, 2**bits - 1): the smallest accumulators that give the outputs above the lowest.

    Found by bisection of the requantization itself, which grows with the accumulator. A threshold that no accumulator
    reaches is one above the largest; one that all reach is the smallest.
    """
    bottom, top = form.range
    wanted = np.arange(bottom + 1, top + 1)
    multiplier, offset, low, high = (
        v[:, None] for v in (layer.requantization.multiplier, layer.requantization.offset, layer.low, layer.high)
    )
    below, enough = (np.broadcast_to(v, (len(v), len(wanted))) for v in (low - 1, high + 1))
    while (enough - below > 1).any():
        middle = (below + enough) // 2
        reached = arithmetic.requantize(middle, multiplier, offset, layer.requantization.shift, form.range) >= wanted
        below, enough = np.where(reached, below, middle), np.where(reached, middle, enough)
    return enough


def _logits(graph: QonnxGraph, layer: QonnxLayer, source: str, output: str) -> str:
    """Add acc * multiplier + offset, which is no matter of thresholds."""
    name, shape = layer.name, (1, *layer.shape)
    check_exact(layer, "its accumulator with multiplier and offset", layer.bound)
    if layer.requantization.shift:
        raise ExportError(
            f"layer {name!r}: its logits are shifted by {layer.requantization.shift} bits, MultiThreshold needs 0"
        )
    value = _accumulator(graph, layer, [source])
    multiplier = layer.requantization.multiplier
    if (multiplier != 1).any():
        factor = _constant(graph, f"{name}.multiplier", multiplier)
        value = graph.tensor("Mul", [value, factor], f"{name}.product", shape)
        graph.types[value] = f"INT{integer_bits(layer.low * multiplier, layer.high * multiplier)}"
    graph.tensor("Add", [value, _constant(graph, f"{name}.offset", layer.requantization.offset)], output, shape)
    graph.types[output] = f"INT{integer_bits(-layer.bound, layer.bound)}"
    return output


def _accumulator(graph: QonnxGraph, layer: QonnxLayer, sources: Sequence[str]) -> str:
    """Add the nodes that sum up."""
    output = f"{layer.name}.sum"
    if isinstance(layer.geometry, Add):
        terms = [_aligned(graph, layer, number, source) for number, source in enumerate(sources)]
        graph.tensor("Add", terms, output, (1, *layer.shape))
    else:
        graph.product(layer, [sources[0], _constant(graph, f"{layer.name}.weights", stored(layer.operands))], output)
    graph.types[output] = f"INT{integer_bits(layer.low, layer.high)}"
    return output


def _aligned(graph: QonnxGraph, layer: QonnxLayer, number: int, source: str) -> str:
    """An operand of an Add on the common grid."""
    factor = int(layer.operands[number])
    if factor == 1:
        return source
    constant = _constant(graph, f"{layer.name}.factor{number}", np.array(factor))
    output = graph.tensor("Mul", [source, constant], f"{layer.name}.aligned{number}", (1, *layer.shape))
    graph.types[output] = f"INT{integer_bits(*(factor * limit for limit in layer.inputs[number].range))}"
    return output


def _constant(graph: QonnxGraph, name: str, integers: Ints) -> str:
    """Add integers with their type."""
    graph.types[name] = f"INT{integer_bits(integers)}"
    return graph.constant(name, integers.astype(np.float32))
