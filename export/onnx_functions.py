"""The model-local functions of our ONNX graphs, as ONNX text: standard operators only, collapsed by viewers.

A graph carries those that it calls, so it needs nothing but a stock runtime. All are free of ``NonZero`` and
``ScatterND``, so that onnxruntime (from 1.17 on) folds every call on constants when it loads a session.

Both lookups also give ``words``: the index that every weight has in the codebook, -1 outside of the mask. A codebook
ends with the entry that stands for 0, so that -1 finds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from onnx import FunctionProto, parser

OPSET = 18
IR_VERSION = 8
DOMAIN = "tsn_hw"
DOMAIN_VERSION = 1

_UNPACK_BITS = """
UnpackBits (bytes) => (bits) {
  one = Constant <value = uint8[1] {1}> ()
  lane = Constant <value = uint8[8] {0, 1, 2, 3, 4, 5, 6, 7}> ()
  last = Constant <value_ints = [-1]> ()
  column = Unsqueeze (bytes, last)
  shifted = BitShift <direction = "RIGHT"> (column, lane)
  lanes = BitwiseAnd (shifted, one)
  bits = Flatten (lanes)
}
"""

_CODEBOOK_LOOKUP = """
CodebookLookup (codes, mask, units, codebook, shape) => (weights, words) {
  last = Constant <value_ints = [-1]> ()
  first = Constant <value_ints = [0]> ()
  axis = Constant <value_int = 1> ()
  mask_bits = UnpackBits (mask)
  count = ReduceProd (shape)
  used_bits = Slice (mask_bits, first, count, last)
  used = Cast <to = 6> (used_bits)
  code_bits = UnpackBits (codes)
  code_sums = MatMulInteger (units, code_bits)
  code_row = Reshape (code_sums, last)
  code = Cast <to = 7> (code_row)
  choices = Concat <axis = 0> (last, code)
  so_far = CumSum (used, axis)
  choice = Mul (so_far, used)
  words = Gather (choices, choice)
  weight_row = Gather (codebook, words)
  weights = Reshape (weight_row, shape)
}
"""

_BANK_LOOKUP = """
BankLookup (codes, masks, units, columns, codebooks, shape) => (weights, words) {
  last = Constant <value_ints = [-1]> ()
  first = Constant <value_ints = [0]> ()
  mask_bits = UnpackBits (masks)
  prefix = ArgMax (mask_bits)
  code_bits = UnpackBits (codes)
  code_sums = MatMulInteger (units, code_bits)
  code = Cast <to = 7> (code_sums)
  row = Mul (prefix, columns)
  address = Add (row, code)
  mask = Gather (mask_bits, last)
  used = Cast <to = 9> (mask)
  padded = Where (used, address, last)
  count = ReduceProd (shape)
  words = Slice (padded, first, count, last)
  weight_row = Gather (codebooks, words)
  weights = Reshape (weight_row, shape)
}
"""

_QLINEAR = """
QLinear (x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, offset) => (y) {
  axes = Constant <value_ints = [0, 2]> ()
  row = Unsqueeze (x, axes)
  image = Transpose <perm = [0, 3, 1, 2]> (row)
  sums = QLinearConv (image, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, offset)
  y_row = Transpose <perm = [0, 2, 3, 1]> (sums)
  y = Squeeze (y_row, axes)
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

_TEXTS = {
    "UnpackBits": _UNPACK_BITS,
    "CodebookLookup": _CODEBOOK_LOOKUP,
    "BankLookup": _BANK_LOOKUP,
    "QLinear": _QLINEAR,
    "Requantize": _REQUANTIZE,
    "RequantizeInteger": _REQUANTIZE_INTEGER,
    "SplitBytes": _SPLIT_BYTES,
}

# Every file carries them: a phrase each, the whole story stands in docs/deploy.md.
_DOCS = {
    "UnpackBits": "Lowest bit first.",
    "CodebookLookup": "codebook[the next code] under the mask, elsewhere its last entry.",
    "BankLookup": "codebooks[prefix, code] under the last mask; prefix = first mask that is set.",
    "QLinear": "Linear layer; the samples are rows of an image.",
    "Requantize": "Saturate to integers, then round half to even: they commute, and runtimes fuse the former.",
    "RequantizeInteger": "value / unit, rounded half to even and saturated; half = max(1, unit / 2).",
    "SplitBytes": "integers = 256 * (high - zero_point) + low.",
}


@cache
def function(name: str) -> FunctionProto:
    """One function of our domain, parsed, with its documentation.

    >>> list(function("Requantize").input)
    ['value', 'low', 'high']
    """
    parsed = parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>{_TEXTS[name]}')
    for node in parsed.node:
        if node.op_type in _TEXTS:
            node.domain = DOMAIN
    if any(node.domain == DOMAIN for node in parsed.node):
        parsed.opset_import.add(domain=DOMAIN, version=DOMAIN_VERSION)
    parsed.doc_string = _DOCS[name]
    return parsed


def functions(called: Iterable[str]) -> list[FunctionProto]:
    """The functions of these names after those that they call: ONNX's reference evaluator reads them in order.

    >>> [f.name for f in functions({"BankLookup", "QLinear"})]
    ['UnpackBits', 'BankLookup', 'QLinear']
    """
    names = set(called)
    inner = {node.op_type for name in names for node in function(name).node if node.domain == DOMAIN}
    return [function(name) for name in [*sorted(inner), *sorted(names - inner)]]
