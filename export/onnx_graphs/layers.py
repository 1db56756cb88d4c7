"""The nodes of one layer: how a plan becomes operators, with every integer on its way in a type that holds it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from export.onnx_graphs.nodes import Graph, Tensor, onnx_type
from export.onnx_graphs.plan import BYTE_ZERO, Plan, compact
from tsn_hw.core.layers import Add, Conv2d, Flatten, Linear, MaxPool, Pad, Weighted


def cast(graph: Graph, tensor: Tensor, dtype: str, output: str) -> str:
    """The integers of a tensor in a type that holds them, without zero point."""
    if (tensor.dtype, tensor.zero_point) == (dtype, 0):
        return graph.node("Identity", [tensor.name], output)
    if tensor.zero_point == 0:
        return graph.node("Cast", [tensor.name], output, to=onnx_type(dtype))
    above = graph.node("Cast", [tensor.name], f"{output}.above_zero_point", to=onnx_type(dtype))
    return graph.node("Sub", [above, graph.scalar(tensor.zero_point, dtype)], output)


def _in_type(graph: Graph, tensor: Tensor, dtype: str) -> str:
    """The integers of a tensor in a type that holds them; the cast is written once."""
    if (tensor.dtype, tensor.zero_point) == (dtype, 0):
        return tensor.name
    key = tensor.name, dtype
    if key not in graph.casts:
        graph.casts[key] = cast(graph, tensor, dtype, f"{tensor.name}.{dtype}")
    return graph.casts[key]


def _in_bytes(graph: Graph, tensor: Tensor, *, signed: bool) -> Tensor:
    """The integers of a tensor, at most 8 bits wide, in uint8; the cast is written once."""
    if tensor.dtype == "uint8":
        return tensor
    key, zero_point = (tensor.name, "uint8"), BYTE_ZERO if signed else 0
    if key not in graph.casts:
        source = _in_type(graph, tensor, "float32")
        if signed:
            above = f"{tensor.name}.above_zero_point"
            source = graph.node("Add", [source, graph.scalar(zero_point, "float32")], above)
        graph.casts[key] = graph.node("Cast", [source], f"{tensor.name}.bytes", to=TensorProto.UINT8)
    return Tensor(graph.casts[key], "uint8", zero_point)


def moved(graph: Graph, layer: Flatten | MaxPool | Pad, source: Tensor) -> Tensor:
    """A layer that only moves and compares integers; runtimes have it for uint8 and float32."""
    source, constants = as_features(graph, source), list[str]()
    if source.dtype != "uint8":
        source = Tensor(_in_type(graph, source, "float32"), "float32")
    attributes: dict[str, Any] = {}
    match layer:
        case Flatten():
            attributes = {"axis": 1}
        case MaxPool():
            attributes = {"kernel_shape": layer.kernel, "strides": layer.stride}
        case Pad():  # with what the tensor calls zero
            top, left, bottom, right = layer.padding
            pads = graph.constant(f"{layer.name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
            constants = [pads, graph.scalar(source.zero_point, source.dtype)]
    name = graph.node(layer.kind, [source.name, *constants], f"{layer.name}.out", **attributes)
    return replace(source, name=name)


def _as_image(graph: Graph, tensor: Tensor) -> Tensor:
    """Samples of (features,) as the rows of an image, in which a Linear is a convolution; written once."""
    if tensor.is_image:
        return tensor
    key, name = (tensor.name, "image"), tensor.name.removesuffix(".out")
    if key not in graph.casts:
        rows = graph.node("Unsqueeze", [tensor.name, _image_axes(graph)], f"{name}.rows")
        graph.casts[key] = graph.node("Transpose", [rows], f"{name}.image", perm=[0, 3, 1, 2])
    return replace(tensor, name=graph.casts[key], is_image=True)


def as_features(graph: Graph, tensor: Tensor) -> Tensor:
    """Samples of (features,) out of the rows of an image; written once."""
    if not tensor.is_image:
        return tensor
    key, name = (tensor.name, "features"), tensor.name.removesuffix(".out")
    if key not in graph.casts:
        rows = graph.node("Transpose", [tensor.name], f"{name}.rows", perm=[0, 2, 3, 1])
        graph.casts[key] = graph.node("Squeeze", [rows, _image_axes(graph)], f"{name}.features")
    return replace(tensor, name=graph.casts[key], is_image=False)


def _image_axes(graph: Graph) -> str:
    """Axes of (1, N, 1, features), the layout in which runtimes compute: they drop the transpositions."""
    return graph.shared("image_axes", np.array([0, 2]))


def computed(graph: Graph, plan: Plan, sources: list[Tensor], weights: Tensor | None) -> Tensor:
    """Write one layer; gives its integers: uint8 of the quantized form, else the carrier."""
    if not plan.is_on_rows:
        sources = [as_features(graph, source) for source in sources]
    if isinstance(plan.layer, Add) or weights is None:
        if plan.form == "quantized":
            return _quantized_sum(graph, plan, sources)
        value = _affine(graph, plan, _aligned_sum(graph, plan, sources), plan.carrier)
        return _requantized(graph, plan, value)
    if plan.form == "quantized":
        return _quantized_product(graph, plan, plan.layer, sources[0], weights)
    if plan.form == "float32":
        value = _float32_product(graph, plan, plan.layer, _in_type(graph, sources[0], "float32"), weights)
    else:
        value = _affine(graph, plan, *_integer_product(graph, plan, plan.layer, sources[0], weights))
    return _requantized(graph, plan, value)


def _quantized_product(graph: Graph, plan: Plan, layer: Weighted, source: Tensor, weights: Tensor) -> Tensor:
    """QLinearConv, for a Linear on the rows of an image: bias, scale, rounding and saturation are its own."""
    name, requantized = layer.name, plan.float_requantization
    assert requantized is not None  # what the form stands for
    x = _in_bytes(graph, source, signed=plan.facts.inputs[0].signed)
    scales = np.ldexp(compact(requantized.multiplier).astype(np.float32), -plan.facts.requantization.shift)
    scale = graph.constant(f"{name}.scale", scales if len(scales) > 1 else scales[0])
    offset = _int32(graph, f"{name}.offset", requantized.bias.astype(np.int32))
    if plan.is_gemm:
        return _quantized_gemm(graph, plan, x, weights, scale, offset)
    x = _as_image(graph, x) if plan.is_on_rows else x
    unit, (x_zero, weight_zero) = graph.scalar(1, "float32"), _zero_points(graph, x, weights)
    y = _byte_output(plan)
    inputs = [x.name, unit, x_zero, weights.name, scale, weight_zero, unit, *_zero_points(graph, y), offset]
    graph.node("QLinearConv", inputs, y.name, **({} if isinstance(layer, Linear) else _window(layer)))
    return _in_format(graph, plan, y)


def _quantized_gemm(graph: Graph, plan: Plan, x: Tensor, weights: Tensor, scale: str, offset: str) -> Tensor:
    """Gemm on dequantized bytes, exact as it stands: runtimes make one operator on bytes of it."""
    x_zero, weight_zero = _zero_points(graph, x, weights)
    inputs = [x.name, x_zero, weights.name, weight_zero, scale, offset]
    value = graph.call("ByteGemm", inputs, f"{plan.layer.name}.value")
    if plan.facts.output is None:
        return _requantized(graph, plan, value)
    y = _byte_output(plan)
    graph.node("QuantizeLinear", [value, graph.scalar(1, "float32"), *_zero_points(graph, y)], y.name)
    return _in_format(graph, plan, y)


def _quantized_sum(graph: Graph, plan: Plan, sources: list[Tensor]) -> Tensor:
    """An Add between DequantizeLinear and QuantizeLinear: runtimes make one operator on bytes of it."""
    name, shift = plan.layer.name, plan.facts.requantization.shift
    terms = []
    for number, (source, form) in enumerate(zip(sources, plan.facts.inputs, strict=True)):
        x = _in_bytes(graph, source, signed=form.signed)
        power = plan.facts.left_shifts[number] - shift
        unit = graph.shared(f"2^{power}_f32", np.array(2.0**power, np.float32))
        terms.append(graph.node("DequantizeLinear", [x.name, unit, *_zero_points(graph, x)], f"{name}.operand{number}"))
    y = _byte_output(plan)
    total = graph.node("Add", terms, f"{name}.sum")
    graph.node("QuantizeLinear", [total, graph.scalar(1, "float32"), *_zero_points(graph, y)], y.name)
    return _in_format(graph, plan, y)


def _byte_output(plan: Plan) -> Tensor:
    """The integers of a quantized layer, saturated to 8 bits."""
    form = plan.facts.output
    assert form is not None  # the plan keeps heads out
    name = f"{plan.layer.name}.out" if form.bits == 8 else f"{plan.layer.name}.out_of_8_bits"
    return Tensor(name, "uint8", BYTE_ZERO if form.signed else 0, plan.is_on_rows)


def _in_format(graph: Graph, plan: Plan, y: Tensor) -> Tensor:
    """Integers of 8 bits, saturated to a narrower format."""
    form = plan.facts.output
    assert form is not None  # the plan keeps heads out
    if form.bits == 8:
        return y
    limits = [graph.scalar(limit + y.zero_point, "uint8") for limit in form.range]
    return replace(y, name=graph.node("Clip", [y.name, *limits], f"{plan.layer.name}.out"))


def _float32_product(graph: Graph, plan: Plan, layer: Weighted, source: str, weights: Tensor) -> str:
    """Gemm or Conv on integers in float32; multiplier, offset and shift folded in where that is exact."""
    name = layer.name
    kind, attributes = ("Gemm", {"transB": 1}) if isinstance(layer, Linear) else ("Conv", _window(layer))
    inputs = [source, weights.name]
    if plan.carrier != "float32":
        sums = graph.node(kind, inputs, f"{name}.sum", **attributes)
        return _affine(graph, plan, sums, "float32")
    scale = plan.scaled(compact(plan.facts.requantization.multiplier))
    if (scale != 1).any():
        constant = graph.constant(f"{name}.scale", scale.reshape(-1, *[1] * (len(layer.weight_shape) - 1)))
        inputs[1] = graph.node("Mul", [inputs[1], constant], f"{name}.scaled_weights", doc="multiplier / 2**shift")
    offset = np.broadcast_to(plan.facts.requantization.offset, (layer.channels,))
    if offset.any():
        inputs.append(graph.constant(f"{name}.offset", plan.scaled(offset)))
    return graph.node(kind, inputs, f"{name}.value", **attributes)


def _integer_product(graph: Graph, plan: Plan, layer: Weighted, source: Tensor, weights: Tensor) -> tuple[str, str]:
    """MatMulInteger or ConvInteger on every pair of byte planes; gives the sum and its type."""
    name = layer.name
    if isinstance(layer, Linear):
        weights = replace(weights, name=graph.node("Transpose", [weights.name], f"{name}.transposed", perm=[1, 0]))
    kind, attributes = ("MatMulInteger", {}) if isinstance(layer, Linear) else ("ConvInteger", _window(layer))
    form = plan.facts.inputs[0]
    x_planes = _byte_planes(graph, f"{name}.x", source, signed=form.signed, wide=form.bits > 8)
    weight_planes = _byte_planes(graph, f"{name}.weights", weights, signed=True, wide=plan.has_wide_weights)
    total = ""
    for (x_factor, x), (weight_factor, weight) in itertools.product(x_planes.items(), weight_planes.items()):
        is_whole = len(x_planes) == len(weight_planes) == 1
        output = f"{name}.sum" if is_whole else f"{name}.sum_{x_factor}_{weight_factor}"
        term = graph.node(kind, [x.name, weight.name, *_zero_points(graph, x, weight)], output, **attributes)
        if is_whole:
            return term, "int32"
        term = graph.node("Cast", [term], f"{output}_{plan.carrier}", to=onnx_type(plan.carrier))
        if x_factor * weight_factor > 1:
            factor = graph.scalar(x_factor * weight_factor, plan.carrier)
            term = graph.node("Mul", [term, factor], f"{output}_scaled")
        total = graph.node("Add", [total, term], f"{output}_total") if total else term
    return total, plan.carrier


def _byte_planes(graph: Graph, name: str, tensor: Tensor, *, signed: bool, wide: bool) -> dict[int, Tensor]:
    """One or two uint8 tensors, by the factor that each has in the integers of a tensor."""
    if not wide:
        return {1: _in_bytes(graph, tensor, signed=signed)}
    zero_point = BYTE_ZERO if signed else 0
    inputs = [_in_type(graph, tensor, "float32"), graph.scalar(zero_point, "float32")]
    graph.call("SplitBytes", inputs, f"{name}.high", f"{name}.low")
    return {256: Tensor(f"{name}.high", "uint8", zero_point), 1: Tensor(f"{name}.low", "uint8")}


def _aligned_sum(graph: Graph, plan: Plan, sources: list[Tensor]) -> str:
    """Both operands of an Add on the finer of their grids, added in the carrier."""
    name = plan.layer.name
    terms = [_in_type(graph, source, plan.carrier) for source in sources]
    for number, shift in enumerate(plan.facts.left_shifts):
        if shift:
            factor = graph.scalar(1 << shift, plan.carrier)
            terms[number] = graph.node("Mul", [terms[number], factor], f"{name}.aligned{number}")
    return graph.node("Add", terms, f"{name}.sum")


def _affine(graph: Graph, plan: Plan, sums: str, dtype: str) -> str:
    """(sums * multiplier + offset) / 2**shift in the carrier; an int64 carrier leaves the shift to the rounding."""
    name, value, per_channel = plan.layer.name, sums, (1, -1, *[1] * (len(plan.facts.shape) - 1))
    if dtype != plan.carrier:
        value = graph.node("Cast", [value], f"{name}.sum_{plan.carrier}", to=onnx_type(plan.carrier))
    scale = plan.scaled(compact(plan.facts.requantization.multiplier))
    if (scale != 1).any():
        constant = graph.constant(f"{name}.scale", scale.reshape(per_channel))
        value = graph.node("Mul", [value, constant], f"{name}.scaled_sum")
    if plan.facts.requantization.offset.any():
        constant = graph.constant(f"{name}.offset", plan.scaled(plan.facts.requantization.offset).reshape(per_channel))
        value = graph.node("Add", [value, constant], f"{name}.value")
    return value


def _requantized(graph: Graph, plan: Plan, value: str) -> Tensor:
    """Round half to even and saturate. A head cannot saturate (proven at birth) and keeps its carrier.

    An int64 carrier saturates in float64: the limits are exact, and what is rounded on the way there lies beyond them.
    Clip, Min and Max of int64 are wrong for values beyond 32 bits in onnxruntime 1.31 on x86.
    """
    requantization, carrier, output = plan.facts.requantization, plan.carrier, f"{plan.layer.name}.out"
    is_head = requantization.output is None
    if is_head and requantization.shift == 0:
        return Tensor(value, carrier)
    if is_head and carrier != "int64":
        return Tensor(graph.node("Round", [value], output), carrier)
    saturated = "float64" if carrier == "int64" else carrier
    limits = [graph.scalar(limit, saturated) for limit in requantization.bounds]
    if carrier == "int64":
        unit = 1 << requantization.shift
        divisor = [graph.scalar(unit, carrier), graph.scalar(max(1, unit // 2), carrier)]
        graph.call("RequantizeInteger", [value, *divisor, *limits], output)
    else:
        graph.call("Requantize", [value, *limits], output)
    return Tensor(output, saturated)


def _int32(graph: Graph, name: str, values: NDArray[np.int32]) -> str:
    """A constant vector, stored in 16 bits where that is smaller, the cast included."""
    narrow = values.astype(np.int16)
    if len(values) < 64 or (narrow != values).any():
        return graph.constant(name, values)
    return graph.node("Cast", [graph.constant(name, narrow)], f"{name}_int32", to=TensorProto.INT32)


def _window(layer: Conv2d) -> dict[str, Any]:
    window = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding * 2, "group": layer.groups}
    return window if layer.dilation == (1, 1) else window | {"dilations": layer.dilation}


def _zero_points(graph: Graph, *tensors: Tensor) -> list[str]:
    return [graph.scalar(tensor.zero_point, tensor.dtype) for tensor in tensors]
