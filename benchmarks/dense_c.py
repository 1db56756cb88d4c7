"""A task of a network as straightforward C: every weight is an int8, and every layer a loop over all of its products.

What C for microcontrollers is measured against. Shapes, multipliers and offsets are constants of the compiler.
"""

import math

from export.c_code.project import _numbers
from export.c_code.scratch import element_bytes, source_of
from tsn_hw.core.layers import INPUT, Add, AvgPool, Conv2d, Flatten, Linear, MaxPool

ROUND = """
#include "golden.h"

static inline int32_t rounded(int64_t value, int shift, int32_t low, int32_t high) {
    if (shift > 0) {
        value = (value + ((int64_t)1 << (shift - 1)) - 1 + (value >> shift & 1)) >> shift;
    }
    return (int32_t)(value < low ? low : value > high ? high : value);
}
static inline int32_t rounded32(int32_t value, int shift, int32_t low, int32_t high) {
    if (shift > 0) {
        value = (value + (1 << (shift - 1)) - 1 + (value >> shift & 1)) >> shift;
    }
    return value < low ? low : value > high ? high : value;
}
"""
PRODUCTS = {
    Linear: """
        for (int i = 0; i < {inputs}; i++) {{ sum += w[i] * x[i]; }}
        w += {inputs};
        y[o] = ({kind})({result});""",
    Conv2d: """
        for (int r = 0; r < {rows}; r++) {{ for (int c = 0; c < {columns}; c++) {{
            sum = 0;
            for (int i = 0; i < {channels}; i++) {{ for (int j = 0; j < {kernel_height}; j++) {{
                int down = r * {stride_down} + j - {top};
                if (down < 0 || down >= {height}) {{ continue; }}
                for (int k = 0; k < {kernel_width}; k++) {{
                    int right = c * {stride_right} + k - {left};
                    if (right < 0 || right >= {width}) {{ continue; }}
                    sum += w[(i * {kernel_height} + j) * {kernel_width} + k]
                        * x[((o / {group} * {channels} + i) * {height} + down) * {width} + right];
                }}
            }} }}
            y[(o * {rows} + r) * {columns} + c] = ({kind})({result});
        }} }}
        w += {channels} * {kernel_height} * {kernel_width};""",
}
POOL = """
    for (int o = 0; o < {out}; o++) {{ for (int r = 0; r < {rows}; r++) {{ for (int c = 0; c < {columns}; c++) {{
        int32_t sum = {start};
        for (int j = 0; j < {kernel_height}; j++) {{ for (int k = 0; k < {kernel_width}; k++) {{
            int32_t value = x[(o * {height} + r * {stride_down} + j) * {width} + c * {stride_right} + k];
            {step}
        }} }}
        y[(o * {rows} + r) * {columns} + c] = ({kind})({result});
    }} }} }}"""


def dense_c(net, task):
    """The text of ``dense.c``: ``void dense(const tsn_input *input, int32_t *logits)``."""
    parts, calls, head = [ROUND], [], net.head(task)
    for index, layer, _ in net.run_order(task):
        if isinstance(layer, Flatten):
            continue
        sources = [_name(net, source) for source in layer.inputs]
        kind = "int32_t" if index == head else _kind(net.format(task, index))
        if index != head:
            parts.append(f"static {kind} t{index}[{math.prod(net.shapes[index])}];")
        types = [_kind(net.format(task, source)) for source in layer.inputs]
        others = "".join(f", const {types[i]} *x{i}" for i in range(1, len(sources)))
        parts.append(f"static void layer{index}(const {types[0]} *x{others}, {kind} *y) {{")
        parts += [_body(net, task, index, kind), "}"]
        calls.append(f"    layer{index}({', '.join(sources)}, {'logits' if index == head else f't{index}'});")
    return "\n".join([*parts, "static void dense(const tsn_input *input, int32_t *logits) {", *calls, "}", ""])


def _name(net, source):
    found = source_of(net, source)
    return "input" if found == INPUT else f"t{found}"


def _kind(form):
    return f"{'' if form.signed else 'u'}int{8 * element_bytes(form)}_t"


def _body(net, task, index, kind):
    layer, facts = net.layers[index], net.facts(task, index) if net.layers[index].computes else None
    shape = {"x": (*net.shape(layer.inputs[0]), 1, 1)[:3], "y": (*net.shape(index), 1, 1)[:3]}
    names = {"out": shape["y"][0], "rows": shape["y"][1], "columns": shape["y"][2]}
    names |= {"kind": kind, "height": shape["x"][1], "width": shape["x"][2], "inputs": shape["x"][0]}
    for name in ("kernel", "stride", "padding"):
        pair = getattr(layer, name, (0, 0))
        ends = {"kernel": ("height", "width"), "stride": ("down", "right")}.get(name)
        names |= dict(zip([f"{name}_{end}" for end in ends] if ends else ["top", "left"], pair, strict=True))
    if isinstance(layer, MaxPool):
        return POOL.format(**names, start="INT32_MIN", step="sum = value > sum ? value : sum;", result="sum")
    if isinstance(layer, AvgPool):
        return _scales(facts, 1) + POOL.format(**names, start="0", step="sum += value;", result=_result(facts, "0"))
    if isinstance(layer, Add):
        shifts = facts.left_shifts
        sum_ = f"(x[i] * {1 << shifts[0]} + x1[i] * {1 << shifts[1]})"
        value = _result(facts, "0").replace("sum", sum_)
        loop = f"    for (int i = 0; i < {math.prod(net.shape(index))}; i++) {{ y[i] = ({kind})({value}); }}"
        return f"{_scales(facts, 1)}\n{loop}"
    names["group"] = names["out"] // getattr(layer, "groups", 1)
    names["channels"] = names["inputs"] // getattr(layer, "groups", 1)
    weights = net.weights(task, index)
    table = f"    static const int8_t weights[{weights.size}] = {{\n" + "\n".join(_numbers(weights)) + "};"
    loop = PRODUCTS[type(layer)].format(**names, result=_result(facts, "o"))
    start = f"    const int8_t *w = weights;\n    for (int o = 0; o < {names['out']}; o++) {{\n        int32_t sum = 0;"
    return "\n".join([table, _scales(facts, names["out"]), start, loop, "    }"])


def _scales(facts, channels):
    """Arrays of multipliers and offsets."""
    scales, text = facts.requantization, ""
    for name, values in (("multiplier", scales.multiplier), ("offset", scales.offset)):
        listed = [int(values.flat[i % values.size]) for i in range(channels)]
        text += f"    static const int32_t {name}[{channels}] = {{{', '.join(map(str, listed))}}};\n"
    return text


def _result(facts, channel):
    scales = facts.requantization
    if facts.output is None:
        return f"sum * multiplier[{channel}] + offset[{channel}]"
    low, high = facts.output.range
    is_narrow = scales.shift < 31 and facts.bound + (1 << scales.shift) < 1 << 31
    rounding, wide = ("rounded32", "") if is_narrow else ("rounded", "(int64_t)")
    return f"{rounding}({wide}sum * multiplier[{channel}] + offset[{channel}], {scales.shift}, {low}, {high})"
