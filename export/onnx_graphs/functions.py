"""The model-local functions of our ONNX graphs, as ONNX text: standard operators only, collapsed by viewers.

A graph carries those that it calls, so it needs nothing but a stock runtime. All are free of ``NonZero`` and
``ScatterND``, so that onnxruntime (from 1.17 on) folds every call on constants when it loads a session.

Bits are stored as *planes*: uint8 (planes, 1, bytes). Bit j of byte i is that of element ``j * bytes + i``: so a plane
unpacks in eight long strokes. Both lookups also give ``words``: the index that every weight has in the codebook, -1
outside of the mask and in the padding at the end. A codebook ends with the entry that stands for 0, so that -1 finds
it. Every file carries these texts, so their names are short.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from onnx import FunctionProto, parser

OPSET = 19
IR_VERSION = 9
DOMAIN = "tsn_hw"
DOMAIN_VERSION = 1

_UNPACK_BITS = """
UnpackBits (planes) => (bits) {
  lane = Constant <value = uint8[8, 1] {1, 2, 4, 8, 16, 32, 64, 128}> ()
  held = BitwiseAnd (planes, lane)
  set = Sign (held)
  bits = Flatten (set)
}
"""

_READ_CODES = """
ReadCodes (planes, units) => (codes) {
  bits = UnpackBits (planes)
  codes = MatMulInteger (units, bits)
}
"""

_PLACE = """
Place (mask, values) => (placed) {
  none = Constant <value = int32[1] {-1}> ()
  axis = Constant <value_int = 1> ()
  bits = UnpackBits (mask)
  used = Cast <to = 6> (bits)
  count = CumSum (used, axis)
  choice = Mul (count, used)
  row = Squeeze (values)
  choices = Concat <axis = 0> (none, row)
  placed = Gather (choices, choice)
}
"""

_ESCAPE = """
Escape (codes, escapes, further, columns) => (wider) {
  one = Constant <value = int32 {1}> ()
  placed = Place (escapes, further)
  row = Add (placed, one)
  start = Mul (row, columns)
  wider = Add (codes, start)
}
"""

_CODEBOOK_LOOKUP = """
CodebookLookup (codes, mask, codebook, shape) => (weights, words) {
  words = Place (mask, codes)
  found = Gather (codebook, words)
  weights = Reshape (found, shape)
}
"""

_BANK_LOOKUP = """
BankLookup (codes, masks, units, columns, codebooks, shape) => (weights, words) {
  none = Constant <value = int32[1] {-1}> ()
  lane = Constant <value = uint8[8, 1] {1, 2, 4, 8, 16, 32, 64, 128}> ()
  held = BitwiseAnd (masks, lane)
  sets = Flatten (held)
  first = ArgMax (sets)
  prefix = Cast <to = 6> (first)
  kept = BitwiseAnd (codes, lane)
  ones = Sign (kept)
  bits = Flatten (ones)
  code = MatMulInteger (units, bits)
  row = Mul (prefix, columns)
  word = Add (row, code)
  own = Gather (sets, none)
  used = Cast <to = 9> (own)
  words = Where (used, word, none)
  found = Gather (codebooks, words)
  weights = Reshape (found, shape)
}
"""

_BYTE_GEMM = """
ByteGemm (x, x_zero, w, w_zero, scale, offset) => (y) {
  one = Constant <value_float = 1.0> ()
  a = DequantizeLinear (x, one, x_zero)
  b = DequantizeLinear (w, scale, w_zero)
  c = DequantizeLinear (offset, scale)
  y = Gemm <transB = 1> (a, b, c)
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
  real = Cast <to = 11> (rounded)
  integers = Clip (real, low, high)
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
    "ReadCodes": _READ_CODES,
    "Place": _PLACE,
    "Escape": _ESCAPE,
    "CodebookLookup": _CODEBOOK_LOOKUP,
    "BankLookup": _BANK_LOOKUP,
    "ByteGemm": _BYTE_GEMM,
    "Requantize": _REQUANTIZE,
    "RequantizeInteger": _REQUANTIZE_INTEGER,
    "SplitBytes": _SPLIT_BYTES,
}

# Every file carries them: a phrase each, the whole story stands in docs/deploy.md.
_DOCS = {
    "UnpackBits": "All lowest bits, then the next.",
    "ReadCodes": "Bit planes to integers.",
    "Place": "The next value where the mask is set, elsewhere -1.",
    "Escape": "codes + columns * (the next of further, plus 1) where escapes is set.",
    "CodebookLookup": "codebook[the next code] under the mask, elsewhere its last entry.",
    "BankLookup": "codebooks[first set mask, code] under the last mask.",
    "ByteGemm": "Exact; runtimes make one operator of it.",
    "Requantize": "Saturate to integers, then round half to even: they commute, and runtimes fuse the former.",
    "RequantizeInteger": "value / unit, rounded half to even and saturated in float64; half = max(1, unit / 2).",
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

    >>> [f.name for f in functions({"CodebookLookup", "SplitBytes"})]
    ['UnpackBits', 'Place', 'CodebookLookup', 'SplitBytes']
    """
    ordered: dict[str, FunctionProto] = {}
    for name in sorted(called):
        inner = functions({node.op_type for node in function(name).node if node.domain == DOMAIN})
        ordered |= {f.name: f for f in [*inner, function(name)]}
    return list(ordered.values())
