"""The output of the C++ gives the first of the largest logits among those of a task, or the logits."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parents[1]
TEMPLATES = TESTS.parent / "hls_templates"


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("rows", [1, 5])
def test_equal_and_extreme_logits(tmp_path, compiler, rows):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    rng = np.random.default_rng(rows)
    logits = rng.choice([-(2**31), 2**31 - 1, 0, -1, 1], (400, rows))
    logits[::2] = rng.choice([5, 6], (200, rows))
    classes, refused = rng.integers(1, rows + 1, 400), rng.random(400) < 0.1
    said = 3 | classes << 16 | refused.astype(np.int64) << 40
    command = [compiler, "-std=c++14", "-Wno-unknown-pragmas", f"-DTSN_ROWS={rows}", f"-I{TEMPLATES}"]
    command += [f"-I{TEMPLATES / 'csim'}", str(TESTS / "hls_programs" / "classes.cpp"), "-o", str(tmp_path / "program")]
    subprocess.run(command, check=True)
    given = "\n".join(" ".join(map(str, row)) for row in np.hstack([said[:, None], logits]).tolist())
    done = subprocess.run([tmp_path / "program"], input=given, capture_output=True, text=True, check=True)
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    pairs = zip(logits, classes, refused, strict=True)
    largest = [-1 if no else int(np.argmax(row[:own])) for row, own, no in pairs]
    plain = np.where(refused[:, None], -(2**31), logits).ravel().tolist()
    for values, lines in ((largest, found[:400]), (plain, found[400:])):
        assert [value for value, _ in lines] == values
        assert [last for _, last in lines] == [0] * (len(values) - 1) + [1]
