"""The runtime by itself: the rounding rule of all engines, and what clang-tidy finds."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from export import write_c
from export.c_code.project import RUNTIME_SOURCES
from export.hls.scripts import TEMPLATES
from tests.helpers.c_code import SANITIZED, compiled, golden, needs_gcc
from tests.helpers.small_network import NET

CASES = json.loads((Path(__file__).parents[1] / "cases" / "requantize.json").read_text())["rules"]
PROGRAM = """
#include <stdio.h>
#include "tsn_internal.h"
static const struct { int64_t sum, multiplier, addend; uint32_t shift, bias, narrow; int32_t low, high; } cases[] = {
ROWS};
int main(void) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        layer_t layer = {{0}, 0, 0, cases[i].low, cases[i].high, 0, 0, 0, 0, 0, NULL};
        scale_t scale = {cases[i].addend, (int32_t)cases[i].multiplier};
        layer.field[SHIFT] = cases[i].shift;
        layer.field[IS_BIAS] = cases[i].bias;
        layer.field[IS_NARROW] = cases[i].narrow;
        tsn_prepare(&layer);
        printf("%ld ", (long)tsn_requantized(&layer, &scale, cases[i].sum));
    }
    return 0;
}
"""


def literal(value):
    return f"({value + 1}ll - 1)" if value == -(2**63) else f"{value}ll"


def forms(value, multiplier, offset, shift):
    """(addend, bias, narrow): every way in which a case may be computed."""
    exact = value * multiplier + offset
    is_narrow = shift < 32 and abs(exact) + (1 << shift >> 1) < 2**31
    for narrow in (0, 1) if is_narrow else (0,):
        yield offset, 0, narrow
        if multiplier and offset % multiplier == 0:
            yield offset // multiplier, 1, narrow


@needs_gcc
def test_c_rounds_as_all_engines_do(tmp_path):
    rows, wanted = [], []
    for value, multiplier, offset, shift, bits, signed, expected in (case for rule in CASES.values() for case in rule):
        low = -(1 << bits - 1) if signed else 0
        for addend, bias, narrow in forms(value, multiplier, offset, shift):
            numbers = [*map(literal, (value, multiplier, addend)), shift, bias, narrow, low, low + (1 << bits) - 1]
            rows.append(f"{{{', '.join(map(str, numbers))}}},\n")
            wanted.append(expected)
    write_c(NET, tmp_path, golden=golden(NET, 1))
    program = compiled(tmp_path, PROGRAM.replace("ROWS", "".join(rows)), SANITIZED)
    told = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert [int(word) for word in told.split()] == wanted
    assert len(wanted) > 2 * sum(map(len, CASES.values()))


@pytest.mark.skipif(shutil.which("clang-tidy") is None, reason="clang-tidy is not installed")
def test_clang_tidy_finds_no_bug():
    checks = "-*,bugprone-*,-bugprone-easily-swappable-parameters"
    command = ["clang-tidy", f"--checks={checks}", "--warnings-as-errors=*", *RUNTIME_SOURCES, "--", "-std=c99"]
    done = subprocess.run(command, cwd=TEMPLATES / "c", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
