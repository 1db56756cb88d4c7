"""The model-local functions of our ONNX graphs, as ONNX text: standard operators only, collapsed by viewers.

A graph carries those that it calls, so it needs nothing but a stock runtime. All are free of ``NonZero`` and
``ScatterND``, so that onnxruntime (from 1.17 on) folds every call on constants when it loads a session.

Bits are stored as *planes*: uint8 (planes, 1, bytes). Bit j of byte i is that of element ``j * bytes + i``: so a plane
unpacks in eight long strokes, and fields of 2 or 4 bits likewise in four or two. Runtimes keep all that they decode
until they have decoded everything, so functions have few steps and few wide integers. ``BankLookup`` takes planes as
uint8 (1, planes, bytes) and also gives ``words``, the index of every weight in the codebook, and ``used``: whether it
is under the mask, and not in the padding at the end. Every file carries these texts, so their names are short.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from onnx import FunctionProto, parser

OPSET = 19
IR_VERSION = 9
DOMAIN = "tsn_hw"
DOMAIN_VERSION = 1

_TEXTS = {
    block.split("\n", 1)[1].split(" ")[0]: block
    for block in (files(__package__) / "functions.txt").read_text("utf-8").split("\n\n")
}
"""By name: a line that says what it does, and the function. Every file carries them: docs/deploy.md tells more."""


@cache
def function(name: str) -> FunctionProto:
    """One function of our domain, parsed, with its documentation.

    >>> list(function("Requantize").input)
    ['value', 'low', 'high']
    """
    doc, text = _TEXTS[name].split("\n", 1)
    parsed = parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n{text}')
    for node in parsed.node:
        if node.op_type in _TEXTS:
            node.domain = DOMAIN
    if any(node.domain == DOMAIN for node in parsed.node):
        parsed.opset_import.add(domain=DOMAIN, version=DOMAIN_VERSION)
    parsed.doc_string = doc.removeprefix("# ")
    return parsed


def functions(called: Iterable[str]) -> list[FunctionProto]:
    """The functions of these names after those that they call: ONNX's reference evaluator reads them in order.

    >>> [f.name for f in functions({"CodebookLookup", "SplitBytes"})]
    ['Place', 'CodebookLookup', 'SplitBytes']
    """
    ordered: dict[str, FunctionProto] = {}
    for name in sorted(called):
        inner = functions({node.op_type for node in function(name).node if node.domain == DOMAIN})
        ordered |= {f.name: f for f in [*inner, function(name)]}
    return list(ordered.values())
