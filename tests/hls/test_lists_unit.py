"""The header of the unit that skips zeros alone, on lists that a plain model builds."""

import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.turns import random_turns

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parents[1] / "hls_programs" / "lists.cpp"
TEMPLATES = ROOT / "hls_templates"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-label"]
SANITIZERS = {
    "g++": ["-fsanitize=undefined,address", "-fno-sanitize-recover=all"],
    "clang++": ["-fsanitize=undefined", "-fsanitize-trap=all"],  # traps need no library, which Debian packs apart
}
INFERENCES, ACCUMULATOR, MULTIPLIER, OFFSET, CENTROID = 2, 32, 9, 20, 7
MASKS = ("random", "empty", "full", "one weight", "ends")


@dataclass(frozen=True)
class Shape:
    """What a unit looks like; rows = pe * row_folds, columns = simd * column_folds."""

    pe: int
    simd: int
    row_folds: int
    column_folds: int
    gap_bits: int
    input: tuple[int, bool] = (4, False)
    output: tuple[int, bool] = (8, True)
    regions: int = 1
    positions: int = 1
    word_bits: int = 3
    is_loaded: bool = False


SHAPES = [
    Shape(1, 1, 3, 9, 1),
    Shape(1, 1, 5, 40, 2, (8, True), (8, False), positions=3),
    Shape(3, 1, 4, 17, 5, regions=2),
    Shape(2, 2, 3, 15, 2, (5, True), regions=3, positions=2),
    Shape(2, 4, 5, 6, 3, (1, False), (1, False), word_bits=1),
    Shape(3, 4, 1, 8, 2, (8, True), (16, True), positions=4, word_bits=7),
    Shape(4, 4, 7, 16, 7, (3, True), (5, False), regions=4),
    Shape(2, 4, 6, 12, 4, is_loaded=True),
]


def packed(fields: list[tuple[int, int]]) -> int:
    """One line of (value, bits), lowest first."""
    line, low = 0, 0
    for value, bits in fields:
        line |= (value & (1 << bits) - 1) << low
        low += bits
    return line


def table(name: str, lines: list[int], bits: int) -> str:
    limbs = -(-bits // 64)
    rows = (", ".join(f"{line >> 64 * i & (1 << 64) - 1:#x}ULL" for i in range(limbs)) for line in lines)
    return f"static const tsn::limb_t {name}[{len(lines)}][{limbs}] = {{{', '.join(f'{{{row}}}' for row in rows)}}};\n"


def used(kind: str, columns: int, rng: random.Random) -> list[int]:
    """Columns that a row uses."""
    drawn = {
        "random": lambda: [c for c in range(columns) if rng.random() < 0.3],
        "empty": lambda: [],
        "full": lambda: list(range(columns)),
        "one weight": lambda: [rng.randrange(columns)],
        "ends": lambda: sorted({0, columns - 1}),
    }
    return drawn[kind]()


def entries_of(weights: dict[int, int], gap_bits: int) -> list[tuple[int, int]]:
    """(word, gap) of every entry of a row; a gap of nothing but ones is no weight and skips its value."""
    nothing, base, entries = (1 << gap_bits) - 1, 0, []
    for column, word in sorted(weights.items()):
        while column - base >= nothing:
            entries.append((0, nothing))
            base += nothing
        entries.append((word, column - base))
        base = column + 1
    return entries


class Unit:
    """Random rows of every task, the memories that hold them, and what they give."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape, self.rng = shape, random.Random(seed)
        self.tasks = 1 if shape.is_loaded else len(MASKS)
        words = 1 << shape.word_bits
        self.codebook = [
            self.rng.randrange(-(1 << CENTROID - 1), 1 << CENTROID - 1) for _ in range(shape.regions * words)
        ]
        self.lines: list[int] = []
        self.scales: list[int] = []
        self.parameters: list[tuple[int, int, int, int]] = []
        self.rows = [self._add(kind) for kind in MASKS[: self.tasks]]

    def _add(self, kind: str) -> list[tuple[dict[int, int], int, int]]:
        """The rows of a task: words by column, multiplier, offset; its list and scales go into the memories."""
        shape, rng = self.shape, self.rng
        rows = []
        for _ in range(shape.pe * shape.row_folds):
            columns = used(kind, shape.simd * shape.column_folds, rng)
            words = {c: rng.randrange(1 << shape.word_bits) for c in columns}
            rows.append((words, rng.randrange(-200, 200), rng.randrange(-(1 << OFFSET - 1), 1 << OFFSET - 1)))
        first = len(self.lines)
        self._add_list(rows)
        shift = rng.choice([0, 1, 8, 14])
        self.parameters.append((rng.randrange(shape.regions), shift, first, len(self.lines) - 1))
        return rows

    def _add_list(self, rows: list[tuple[dict[int, int], int, int]]) -> None:
        """The list of a task, every remainder by pe in an order of its own, and the scales of every turn."""
        shape, nothing = self.shape, (0, (1 << self.shape.gap_bits) - 1)
        places = [self.rng.sample(range(shape.row_folds), shape.row_folds) for _ in range(shape.pe)]
        own = [[rows[places[q][turn] * shape.pe + q] for q in range(shape.pe)] for turn in range(shape.row_folds)]
        entries = [[entries_of(words, shape.gap_bits) for words, _, _ in lanes] for lanes in own]
        turns = random_turns([max(1, *map(len, lanes)) for lanes in entries], shape.simd, self.rng)
        lanes = [[nothing] * (turns[-1].end + 1) for _ in range(shape.pe * shape.simd)]
        for turn, team, begin, _ in turns:
            scales = []
            for q, (_, multiplier, offset) in enumerate(own[turn]):
                scales += [(multiplier, MULTIPLIER), (offset, OFFSET), (places[q][turn], self.place_bits)]
                lanes[team * shape.pe + q][begin : begin + len(entries[turn][q])] = entries[turn][q]
            self.scales.append(packed(scales))
        ends = {end: team + 1 for _, team, _, end in turns}
        for line, of_lanes in enumerate(zip(*lanes, strict=True)):
            fields = [part for word, gap in of_lanes for part in ((word, shape.word_bits), (gap, shape.gap_bits))]
            self.lines.append(packed([*fields, (ends.get(line, 0), shape.simd.bit_length())]))

    @property
    def place_bits(self) -> int:
        return self.shape.row_folds.bit_length()

    def source(self, number: int) -> str:
        """The unit and its memories in C++."""
        shape, line_bits = self.shape, len(self.lines).bit_length()
        region_bits = max(1, (shape.regions - 1).bit_length())
        facts = {
            "INDEX": number, "TASKS": self.tasks, "INFERENCES": INFERENCES, "PE": shape.pe, "SIMD": shape.simd,
            "INPUT_BITS": shape.input[0], "OUTPUT_BITS": shape.output[0], "POSITIONS": shape.positions,
            "ROW_FOLDS": shape.row_folds, "COLUMN_FOLDS": shape.column_folds, "END_BITS": shape.simd.bit_length(),
            "GAP_BITS": shape.gap_bits, "WORD_BITS": shape.word_bits, "REGION_BITS": region_bits,
            "CLASS_BITS": 0,
            "CENTROID_BITS": CENTROID, "MULTIPLIER": 1, "PLACE_BITS": self.place_bits, "LINE_BITS": line_bits,
            "ACCUMULATOR_BITS": ACCUMULATOR, "MULTIPLIER_BITS": MULTIPLIER, "OFFSET_BITS": OFFSET, "VALUE_BITS": 48,
        }  # fmt: skip
        flags = {"INPUT_SIGNED": shape.input[1], "OUTPUT_SIGNED": shape.output[1], "IS_LOADED": shape.is_loaded}
        members = [f"static const int {name} = {value};" for name, value in facts.items()]
        members += [f"static const bool {name} = {str(value).lower()};" for name, value in flags.items()]
        tasks = [
            packed([(1, 1), (region, region_bits), (shift, 6), (first, line_bits), (final, line_bits)])
            for region, shift, first, final in self.parameters
        ]
        line_width = shape.pe * shape.simd * (shape.word_bits + shape.gap_bits) + shape.simd.bit_length()
        return (
            f"struct unit_{number} {{\n" + "\n".join(members) + "\n};\n"
            + table(f"words_{number}", self.lines, line_width)
            + table(f"codebook_{number}", [c & (1 << CENTROID) - 1 for c in self.codebook], CENTROID)
            + table(f"scales_{number}", self.scales, shape.pe * (MULTIPLIER + OFFSET + self.place_bits))
            + table(f"tasks_{number}", tasks, 7 + region_bits + 2 * line_bits)
        )  # fmt: skip

    def run(self, number: int, task: int) -> tuple[list[int], str]:
        """Words of random inputs of a task, and the line that the program must print."""
        shape = self.shape
        bits, signed = shape.input
        region, shift, first, final = self.parameters[task]
        region = 0 if shape.is_loaded else region
        given: list[int] = []
        results: list[int] = []
        for _ in range(INFERENCES * shape.positions):
            low = -(1 << bits - 1) if signed else 0
            x = [self.rng.randrange(low, low + (1 << bits)) for _ in range(shape.simd * shape.column_folds)]
            given += [packed([(v, bits) for v in x[at : at + shape.simd]]) for at in range(0, len(x), shape.simd)]
            y = []
            for words, multiplier, offset in self.rows[task]:
                total = sum(self.codebook[(region << shape.word_bits) + word] * x[c] for c, word in words.items())
                y.append((requantized(total * multiplier + offset, shift, *shape.output), shape.output[0]))
            results += [packed(y[at : at + shape.pe]) for at in range(0, len(y), shape.pe)]
        cycles = INFERENCES * shape.positions * (final - first + 1)
        return given, f"{number} {task} {cycles} 1: " + " ".join(map(str, results))


def requantized(value: int, shift: int, bits: int, signed: bool) -> int:
    """Round half to even, saturate."""
    quotient, rest = divmod(value, 1 << shift)
    half = (1 << shift) // 2
    rounded = quotient + (shift > 0 and (rest > half or (rest == half and quotient % 2 == 1)))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return max(low, min(high, rounded))


@pytest.mark.parametrize("compiler", SANITIZERS)
def test_lists_give_the_integers_of_all_weights_in_a_cycle_a_line(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    units = [Unit(shape, seed) for seed, shape in enumerate(SHAPES)]
    names = " ".join(f"RUN({number})" for number in range(len(units)))
    source = "".join(unit.source(number) for number, unit in enumerate(units))
    (tmp_path / "cases.hpp").write_text(source + f"#define CASES(RUN) {names}\n")
    includes = [f"-I{tmp_path}", f"-I{TEMPLATES}", "-isystem", f"{TEMPLATES / 'csim'}"]
    options = ["-std=c++14", "-O0", *SANITIZERS[compiler], *WARNINGS, *includes]
    subprocess.run([compiler, *options, PROGRAM, "-o", tmp_path / "lists"], check=True)
    runs = [unit.run(number, task) for number, unit in enumerate(units) for task in range(unit.tasks)]
    given = "\n".join(str(word) for words, _ in runs for word in words)
    done = subprocess.run([tmp_path / "lists"], input=given, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [line for _, line in runs]
