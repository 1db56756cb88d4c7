"""The model-local functions of our ONNX graphs, as ONNX text: standard operators only, collapsed by viewers.

A graph carries those that it calls, so it needs nothing but a stock runtime. All are free of ``NonZero`` and
``ScatterND``, so that onnxruntime (from 1.17 on) folds every call on constants when it loads a session.
"""

from __future__ import annotations

from functools import cache

from onnx import FunctionProto, parser

OPSET = 18
IR_VERSION = 8
DOMAIN = "tsn_hw"
DOMAIN_VERSION = 1

_CODEBOOK_LOOKUP = """
CodebookLookup (codes, mask, codebook, shape) => (weights) {
  zero = Constant <value_floats = [0.0]> ()
  one = Constant <value = uint8[1] {1}> ()
  lane = Constant <value = uint8[8] {0, 1, 2, 3, 4, 5, 6, 7}> ()
  last = Constant <value_ints = [-1]> ()
  first = Constant <value_ints = [0]> ()
  rows = Constant <value_ints = [0, -1]> ()
  from = Constant <value_int = 0> ()
  step = Constant <value_int = 1> ()
  unit = Constant <value = uint32[1] {1}> ()

  mask_bytes = Unsqueeze (mask, last)
  mask_lanes = BitShift <direction = "RIGHT"> (mask_bytes, lane)
  mask_bits = BitwiseAnd (mask_lanes, one)
  mask_row = Reshape (mask_bits, last)
  count = ReduceProd <keepdims = 1> (shape)
  used_bits = Slice (mask_row, first, count)
  used = Cast <to = 6> (used_bits)

  code_bytes = Unsqueeze (codes, last)
  code_lanes = BitShift <direction = "RIGHT"> (code_bytes, lane)
  code_bits = BitwiseAnd (code_lanes, one)
  planes = Reshape (code_bits, rows)
  plane_values = Cast <to = 1> (planes)
  plane_count = Shape <start = 0, end = 1> (codes)
  plane_end = Squeeze (plane_count)
  plane_numbers = Range (from, plane_end, step)
  plane_shifts = Cast <to = 12> (plane_numbers)
  plane_units = BitShift <direction = "LEFT"> (unit, plane_shifts)
  plane_weights = Cast <to = 1> (plane_units)
  code_values = MatMul (plane_weights, plane_values)
  code = Cast <to = 7> (code_values)

  centroids = Cast <to = 1> (codebook)
  survivors = Gather (centroids, code)
  choices = Concat <axis = 0> (zero, survivors)
  survivors_so_far = CumSum (used, from)
  choice = Mul (survivors_so_far, used)
  weight_row = Gather (choices, choice)
  weights = Reshape (weight_row, shape)
}
"""

_QLINEAR = """
QLinear (x, x_scale, x_zero_point, weights, scale, zero_point, y_scale, y_zero_point, offset) => (y) {
  image_axes = Constant <value_ints = [0, 2]> ()
  kernel_axes = Constant <value_ints = [2, 3]> ()
  image = Unsqueeze (x, image_axes)
  image_channels_first = Transpose <perm = [0, 3, 1, 2]> (image)
  kernel = Unsqueeze (weights, kernel_axes)
  y_channels_first = QLinearConv (image_channels_first, x_scale, x_zero_point, kernel, scale, zero_point,
                                  y_scale, y_zero_point, offset)
  y_image = Transpose <perm = [0, 2, 3, 1]> (y_channels_first)
  y = Squeeze (y_image, image_axes)
}
"""

_REQUANTIZE = """
Requantize (value, low, high) => (integers) {
  saturated = Clip (value, low, high)
  integers = Round (saturated)
}
"""

_REQUANTIZE_INTEGER = """
RequantizeInteger (value, unit, half, low, high) => (integers) {
  two = Constant <value_int = 2> ()
  rest = Mod (value, unit)
  multiple = Sub (value, rest)
  quotient = Div (multiple, unit)
  odd = Mod (quotient, two)
  above = Add (rest, odd)
  is_up = Greater (above, half)
  up = Cast <to = 7> (is_up)
  rounded = Add (quotient, up)
  integers = Clip (rounded, low, high)
}
"""

_SPLIT_BYTES = """
SplitBytes (integers, zero_point) => (high, low) {
  base = Constant <value_float = 256.0> ()
  scaled = Div (integers, base)
  quotient = Floor (scaled)
  high_value = Add (quotient, zero_point)
  high = Cast <to = 2> (high_value)
  multiple = Mul (quotient, base)
  low_value = Sub (integers, multiple)
  low = Cast <to = 2> (low_value)
}
"""

_DOCS = {
    "CodebookLookup": (
        "Weights of one layer as one task sees them, integers in float32. mask: one bit a weight, in C order, lowest "
        "bit of a byte first. codes: a row of packed bits for every bit of a code, least significant row first; only "
        "weights under the mask have a code. codebook: the centroid of every code. A weight outside of the mask is 0."
    ),
    "QLinear": (
        "A fully connected layer with the inputs of QLinearConv: x (batch, in), weights (out, in), offset (out), y "
        "(batch, out). It is a convolution by 1 x 1 over an image of one column that has a row for every sample: "
        "runtimes that compute channels last drop the transpositions and multiply matrices."
    ),
    "Requantize": (
        "Saturate to low..high and round half to even; the value is an exact multiple of a power of two. "
        "The limits are integers, so the steps commute; saturation comes first because runtimes fuse it into a Conv."
    ),
    "RequantizeInteger": (
        "value / unit, rounded half to even and saturated to low..high, where float64 would not be exact: int64 "
        "throughout. unit = 2**shift, half = max(1, unit / 2)."
    ),
    "SplitBytes": (
        "integers = 256 * (high - zero_point) + low, both uint8. Signed integers take zero_point = 128, unsigned 0."
    ),
}


@cache
def function(name: str) -> FunctionProto:
    """One function of our domain, parsed, with its documentation.

    >>> list(function("Requantize").input)
    ['value', 'low', 'high']
    """
    text = {
        "CodebookLookup": _CODEBOOK_LOOKUP,
        "QLinear": _QLINEAR,
        "Requantize": _REQUANTIZE,
        "RequantizeInteger": _REQUANTIZE_INTEGER,
        "SplitBytes": _SPLIT_BYTES,
    }[name]
    parsed = parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>{text}')
    parsed.doc_string = _DOCS[name]
    return parsed
