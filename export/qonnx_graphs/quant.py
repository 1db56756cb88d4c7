"""The Quant flavour: real values, and Quant nodes that round and saturate them to integers on power-of-two grids.

A tensor holds real values, integer * 2**exponent. The weights of a layer lie on the grid that puts
``acc * multiplier + offset`` on the grid ``2**(exponent of the output - shift)``: where the formats of a network fit
together, it is that of its bank. Constants pass a Quant node too, from which readers take their types.

Multipliers are folded into the weights, and the offset of a convolution is its bias: that is the only way to scale and
shift channels that hls4ml takes, and keeps exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.qonnx_graphs.nodes import DOMAIN, QonnxGraph, stored
from export.qonnx_graphs.plan import QonnxLayer, check_exact, integer_bits
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import ExportError
from tsn_hw.core.layers import Add, Conv2d, Shape

EXPONENTS = (-126, 103)
"""Of the grids on which integers up to 2**24 are normal float32 numbers."""


def quant_format(graph: QonnxGraph, where: str, source: str, output: str, shape: Shape, form: ActFormat) -> str:
    """Add the node that quantizes a tensor to an activation format; gives ``output``."""
    if form.signed and form.bits == 1:
        raise ExportError(f"{where}: is signed with 1 bit, which holds -1 and 0; Quant reads it as -1 and 1")
    return _quant(graph, source, output, shape, (form.bits, form.exponent, form.signed))


def quant_layer(graph: QonnxGraph, layer: QonnxLayer, sources: Sequence[str], output: str) -> str:
    """Add one layer that computes; gives ``output``."""
    check_exact(layer, "its accumulator with multiplier and offset", layer.bound)
    name, shape, form = layer.name, (1, *layer.shape), layer.output
    if form is None and layer.requantization.shift == 0:
        return _value(graph, layer, sources, output)
    value = _value(graph, layer, sources, f"{name}.value")
    if form is None:  # logits that are rounded, and never saturate
        largest = (layer.bound >> layer.requantization.shift) + 1
        grid = integer_bits(-largest, largest), layer.unit + layer.requantization.shift, True
        return _quant(graph, value, output, shape, grid)
    if not form.signed:  # FINN takes an unsigned Quant behind a Relu only
        value = graph.tensor("Relu", [value], f"{name}.relu", shape)
    return quant_format(graph, f"layer {name!r}: its output", value, output, shape, form)


def _value(graph: QonnxGraph, layer: QonnxLayer, sources: Sequence[str], output: str) -> str:
    """Add the nodes for acc * multiplier + offset, on the grid of the layer; gives ``output``."""
    name, shape = layer.name, (1, *layer.shape)
    if isinstance(layer.geometry, Add):
        terms = [_aligned(graph, layer, number, source) for number, source in enumerate(sources)]
        if not layer.requantization.offset.any():
            return graph.tensor("Add", terms, output, shape)
        sums = graph.tensor("Add", terms, f"{name}.sum", shape)
        offset = _constant(graph, layer, "offset", layer.requantization.offset[0], layer.unit)
        return graph.tensor("Add", [sums, offset], output, shape)
    operands = layer.operands * layer.requantization.multiplier.reshape(-1, *[1] * (layer.operands.ndim - 1))
    weights = _constant(graph, layer, "weights", stored(operands), layer.unit - layer.inputs[0].exponent)
    offset = _constant(
        graph, layer, "offset", np.broadcast_to(layer.requantization.offset, layer.shape[:1]), layer.unit
    )
    if isinstance(layer.geometry, Conv2d):
        return graph.product(layer, [sources[0], weights, offset], output)
    sums = graph.product(layer, [sources[0], weights], f"{name}.sum")
    return graph.tensor("Add", [sums, offset], output, shape)


def _aligned(graph: QonnxGraph, layer: QonnxLayer, number: int, source: str) -> str:
    """An operand of an Add on the grid of the layer."""
    factor, exponent = (
        layer.operands[number] * layer.requantization.multiplier[0],
        layer.unit - layer.inputs[number].exponent,
    )
    if factor * 2.0**exponent == 1:
        return source
    constant = _constant(graph, layer, f"factor{number}", factor, exponent)
    return graph.tensor("Mul", [source, constant], f"{layer.name}.aligned{number}", (1, *layer.shape))


def _constant(graph: QonnxGraph, layer: QonnxLayer, what: str, integers: Ints, exponent: int) -> str:
    """Add integers * 2**exponent, quantized to their own grid."""
    low, high = EXPONENTS
    if not low <= exponent <= high:
        raise ExportError(f"layer {layer.name!r}: its {what} have exponent {exponent}, float32 holds {low}..{high}")
    name = f"{layer.name}.{what}"
    values = graph.constant(f"{name}.values", np.ldexp(integers.astype(np.float32), exponent))
    return _quant(graph, values, name, integers.shape, (integer_bits(integers), exponent, True))


def _quant(graph: QonnxGraph, source: str, output: str, shape: Shape, grid: tuple[int, int, bool]) -> str:
    """Add a Quant node; ``grid``: bits, exponent, and whether it is signed."""
    bits, exponent, signed = grid
    inputs = [source, graph.number(2.0**exponent), graph.number(0.0), graph.number(float(bits))]
    attributes = {"signed": int(signed), "narrow": 0, "rounding_mode": "ROUND"}
    return graph.tensor("Quant", inputs, output, shape, domain=DOMAIN, **attributes)
