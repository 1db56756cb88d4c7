"""The unit of lists by itself: lists built here one entry after another, and the integers of plain dense products."""

import random
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest

from tests.helpers.rtl_designs import needs_iverilog
from tests.helpers.turns import random_turns
from tests.rtl.test_rtl import needs_verilator

RTL = Path(__file__).parents[2] / "hls_templates" / "rtl"
SOURCES = (
    "tsn_lists",
    "tsn_tasks",
    "tsn_slots",
    "tsn_memory",
    "tsn_buffer",
    "tsn_codebook",
    "tsn_requantize",
    "tsn_multiply",
    "tsn_multiply_lut",
    "tsn_sum",
)
WORD_BITS, CENTROID_BITS, MULTIPLIER_BITS, OFFSET_BITS, SHIFT = 3, 6, 7, 14, 7

TOOLS = {
    "icarus": (["iverilog", "-g2012", "-s", "bench", "-o", "bench.vvp"], ["vvp", "-n", "bench.vvp"]),
    "verilator": (
        [
            "verilator",
            "--binary",
            "-Wno-fatal",
            "-Wno-lint",
            "--x-initial",
            "unique",
            "-CFLAGS",
            "-O0",
            "--top-module",
            "bench",
        ],
        ["obj_dir/Vbench"],
    ),
}
MEMORIES = '-DTSN_MEMORIES="./"'

BENCH = """
module bench;
    reg clk = 0, reset = 1, s_valid = 0, m_ready = 0;
    wire s_ready, m_valid, step, idle;
    reg [{task_bits}:0] named = 0;
    wire [{input_width}-1:0] s_data;
    wire [{output_width}-1:0] m_data;
    reg [{input_width}-1:0] inputs[0:{words}-1];
    reg [31:0] calls[0:{calls}*2-1];
    integer stalls, seen;
    integer unnamed = 0;
    integer call = 0, waited = 0, given = 0, left_in = 0, left_out = 0, steps = 0, cycle = 0;
    initial begin
        seen = $value$plusargs("stalls=%d", stalls);
        $readmemh("inputs.mem", inputs);
        $readmemh("calls.mem", calls);
    end
    assign s_data = s_valid ? inputs[given] : {{{input_width}{{1'bx}}}};
    always #5 clk = !clk;
    tsn_lists #({parameters}) unit (
        .clk(clk), .reset(reset), .named(named), .load(129'd0),
        .s_valid(s_valid), .s_ready(s_ready), .s_data(s_data),
        .m_valid(m_valid), .m_ready(m_ready), .m_data(m_data), .step(step), .idle(idle)
    );
    always @(posedge clk) begin
        cycle <= cycle + 1;
        reset <= cycle < 3;
        waited <= waited + 1;
        named <= {{unnamed != 0, {task_bits}'(calls[2*call])}};
        if (unnamed != 0) unnamed <= unnamed - 1;
        if (cycle > 5) begin
            if (waited == 8) begin
                unnamed <= calls[2*call+1];
                steps <= 0;
                left_in <= calls[2*call+1] * {column_folds};
                left_out <= calls[2*call+1] * {row_folds};
            end else if (waited > 10) begin
                if (step) steps <= steps + 1;
                if (s_valid && s_ready) begin
                    given <= given + 1;
                    left_in <= left_in - 1;
                end
                if (!s_valid || s_ready) begin
                    s_valid <= (left_in > (s_valid ? 1 : 0)) && ($urandom % 100 >= stalls);
                end
                m_ready <= $urandom % 100 >= stalls;
                if (m_valid && m_ready) begin
                    $display("word %0d %h", cycle, m_data);
                    left_out <= left_out - 1;
                end
                if (left_in == 0 && left_out == 0 && idle) begin
                    $display("call %0d", steps);
                    if (call == {calls} - 1) $finish;
                    call <= call + 1;
                    waited <= 0;
                end
            end
        end else begin
            waited <= 0;
        end
        if (cycle > 200000) begin
            $display("never ended");
            $finish;
        end
    end
endmodule
"""


@dataclass(frozen=True)
class Shape:
    """A unit of some lanes, and what its rows look like: a kind of mask for every task."""

    pe: int = 2
    simd: int = 2
    row_folds: int = 3
    column_folds: int = 5
    gap_bits: int = 3
    signed_input: bool = False
    signed_output: bool = True
    masks: tuple[str, ...] = ("random", "empty", "full")
    regions: int = 2
    seed: int = 0
    vector_banks: int = 2
    result_banks: int = 2

    @property
    def rows(self) -> int:
        return self.pe * self.row_folds

    @property
    def columns(self) -> int:
        return self.simd * self.column_folds


@dataclass
class Built:
    """What the memories hold, and dense weights (tasks, rows, columns) and scales (tasks, rows) beside them."""

    lines: list[int] = field(default_factory=list)
    scales: list[int] = field(default_factory=list)
    bounds: list[tuple[int, int]] = field(default_factory=list)
    weights: list[list[list[int]]] = field(default_factory=list)
    scaling: list[list[tuple[int, int]]] = field(default_factory=list)
    regions: list[int] = field(default_factory=list)
    codebook: list[int] = field(default_factory=list)


def used_columns(kind: str, columns: int, draw: random.Random) -> list[int]:
    density = {"random": draw.choice([0.1, 0.5, 0.9]), "empty": 0, "full": 1, "sparse": 0.04}
    if kind in density:
        return [column for column in range(columns) if draw.random() < density[kind]]
    return [{"first": 0, "last": columns - 1}[kind]]


def entries_of(columns: list[int], words: list[int], gap_bits: int) -> list[tuple[int, int]]:
    """(word, gap) of a row, one after another; a gap of nothing but ones has no weight."""
    entries, base, nothing = [], 0, 2**gap_bits - 1
    for column in columns:
        while column - base >= nothing:
            entries.append((2**WORD_BITS - 1, nothing))
            base += nothing
        entries.append((words[column], column - base))
        base = column + 1
    return entries


def build(shape: Shape, draw: random.Random) -> Built:
    built = Built()
    low = -(2 ** (CENTROID_BITS - 1))
    built.codebook = [draw.randint(low, -low - 1) for _ in range(shape.regions << WORD_BITS)]
    stored = [
        [[draw.randrange(2**WORD_BITS) for _ in range(shape.columns)] for _ in range(shape.rows)]
        for _ in range(shape.regions)
    ]
    for task, kind in enumerate(shape.masks):
        region = task % shape.regions
        used = [used_columns(kind, shape.columns, draw) for _ in range(shape.rows)]
        centroids = built.codebook[region << WORD_BITS :]
        dense = [[0] * shape.columns for _ in range(shape.rows)]
        for row, columns in enumerate(used):
            for column in columns:
                dense[row][column] = centroids[stored[region][row][column]]
        limits = 2 ** (MULTIPLIER_BITS - 1), 2 ** (OFFSET_BITS - 1)
        scaling = [tuple(draw.randint(-limit, limit - 1) for limit in limits) for _ in range(shape.rows)]
        built.regions.append(region)
        built.weights.append(dense)
        built.scaling.append([(multiplier, offset) for multiplier, offset in scaling])
        rows = [entries_of(c, w, shape.gap_bits) for c, w in zip(used, stored[region], strict=True)]
        add_lists(shape, built, rows, draw)
    return built


def add_lists(shape: Shape, built: Built, rows: list[list[tuple[int, int]]], draw: random.Random) -> None:
    """The list of a task, whose rows are anywhere: every remainder by PE in an order of its own."""
    places = [draw.sample(range(shape.row_folds), shape.row_folds) for _ in range(shape.pe)]
    own = [[rows[places[q][turn] * shape.pe + q] for q in range(shape.pe)] for turn in range(shape.row_folds)]
    turns = random_turns([max(1, *map(len, lanes)) for lanes in own], shape.simd, draw)
    nothing = 0, 2**shape.gap_bits - 1
    lines = [[[nothing] * shape.pe * shape.simd, 0] for _ in range(turns[-1].end + 1)]
    for turn, team, begin, end in turns:
        scales = []
        for q, entries in enumerate(own[turn]):
            for line, entry in enumerate(entries):
                lines[begin + line][0][team * shape.pe + q] = entry
            place = places[q][turn]
            multiplier, offset = built.scaling[-1][place * shape.pe + q]
            scales += [(multiplier, MULTIPLIER_BITS), (offset, OFFSET_BITS), (place, place_bits(shape))]
        built.scales.append(joined(*scales))
        lines[end][1] = team + 1
    first = len(built.lines)
    for entries, ends in lines:
        fields = [part for word, gap in entries for part in ((word, WORD_BITS), (gap, shape.gap_bits))]
        built.lines.append(joined(*fields, (ends, shape.simd.bit_length())))
    built.bounds.append((first, len(built.lines) - 1))


def joined(*fields: tuple[int, int]) -> int:
    """Numbers of so many bits each in one word, the first lowest."""
    word, place = 0, 0
    for number, bits in fields:
        word |= (number & (1 << bits) - 1) << place
        place += bits
    return word


def place_bits(shape: Shape) -> int:
    return max(1, (shape.row_folds - 1).bit_length())


def dense(shape: Shape, built: Built, task: int, vector: list[int]) -> list[int]:
    """(rows,) what the unit must give: half to even, saturated to eight bits."""
    lowest, highest = (-128, 127) if shape.signed_output else (0, 255)
    results = []
    for row, (multiplier, offset) in zip(built.weights[task], built.scaling[task], strict=True):
        accumulator = sum(weight * x for weight, x in zip(row, vector, strict=True))
        value = round(Fraction(accumulator * multiplier + offset, 2**SHIFT))
        results.append(min(max(value, lowest), highest))
    return results


def write_memory(path: Path, words: list[int]) -> None:
    path.write_text("".join(f"{word:x}\n" for word in words))


def parameters_of(shape: Shape, built: Built) -> dict[str, int | str]:
    tasks = len(shape.masks)
    return {
        "PE": shape.pe, "SIMD": shape.simd, "INPUT_BITS": 4, "INPUT_SIGNED": int(shape.signed_input),
        "OUTPUT_BITS": 8, "OUTPUT_SIGNED": int(shape.signed_output), "ROW_FOLDS": shape.row_folds,
        "COLUMN_FOLDS": shape.column_folds, "END_BITS": shape.simd.bit_length(), "TASKS": tasks, "SLOTS": 16,
        "TASK_BITS": max(1, (tasks - 1).bit_length()), "REGION_BITS": max(1, (shape.regions - 1).bit_length()),
        "CODEBOOKS": shape.regions, "WORD_BITS": WORD_BITS, "GAP_BITS": shape.gap_bits,
        "PLACE_BITS": place_bits(shape), "LINE_BITS": max(1, (len(built.lines) - 1).bit_length()),
        "LIST_DEPTH": len(built.lines), "WORDS_PART": len(built.lines),
        "VECTOR_BANKS": shape.vector_banks, "RESULT_BANKS": shape.result_banks,
        "CENTROID_BITS": CENTROID_BITS, "ACCUMULATOR_BITS": 20, "MULTIPLIER_BITS": MULTIPLIER_BITS,
        "OFFSET_BITS": OFFSET_BITS, "VALUE_BITS": 28,
        "WORDS_FILE": '"words.mem"', "CODEBOOK_FILE": '"codebook.mem"', "SCALES_FILE": '"scales.mem"',
        "TASK_FILE": '"task.mem"',
    }  # fmt: skip


def write_memories(folder: Path, shape: Shape, built: Built) -> dict[str, int | str]:
    parameters = parameters_of(shape, built)
    region_bits, line_bits = int(parameters["REGION_BITS"]), int(parameters["LINE_BITS"])
    write_memory(folder / "words.mem", built.lines)
    write_memory(folder / "scales.mem", built.scales)
    write_memory(folder / "codebook.mem", [joined((number, CENTROID_BITS)) for number in built.codebook])
    tasks = [
        joined((1, 1), (region, region_bits), (SHIFT, 6), (first, line_bits), (final, line_bits))
        for region, (first, final) in zip(built.regions, built.bounds, strict=True)
    ]
    write_memory(folder / "task.mem", tasks)
    return parameters


@dataclass(frozen=True)
class Result:
    """Results of every vector, steps of every call, and the cycle of the last word of every vector."""

    vectors: list[list[int]]
    steps: list[int]
    ends: list[int]


Calls = list[tuple[int, list[list[int]]]]
"""A task, and vectors (columns,) of integers."""


def write_bench(folder: Path, shape: Shape, calls: Calls) -> None:
    """The bench, and what the unit and the bench read."""
    parameters = write_memories(folder, shape, build(shape, random.Random(shape.seed)))
    words = [
        joined(*((number, 4) for number in vector[fold * shape.simd : (fold + 1) * shape.simd]))
        for _, vectors in calls
        for vector in vectors
        for fold in range(shape.column_folds)
    ]
    write_memory(folder / "inputs.mem", words)
    write_memory(folder / "calls.mem", [number for task, vectors in calls for number in (task, len(vectors))])
    text = BENCH.format(
        parameters=", ".join(f".{name}({value})" for name, value in parameters.items()),
        words=len(words), calls=len(calls), task_bits=parameters["TASK_BITS"], input_width=4 * shape.simd,
        output_width=8 * shape.pe, column_folds=shape.column_folds, row_folds=shape.row_folds,
    )  # fmt: skip
    (folder / "bench.sv").write_text(text)


def simulate(folder: Path, shape: Shape, calls: Calls, tool: str, *stall_percents: int) -> list[Result]:
    """Calls through a simulator, once for every chance in percent that a side stalls in a cycle."""
    write_bench(folder, shape, calls)
    sources = [str(RTL / f"{name}.sv") for name in SOURCES if (RTL / f"{name}.sv").exists()]
    command, program = TOOLS[tool]
    subprocess.run([*command, MEMORIES, "bench.sv", *sources], cwd=folder, check=True, capture_output=True)
    results = []
    for percent in stall_percents:
        run = [*program, f"+stalls={percent}"]
        done = subprocess.run(run, cwd=folder, check=True, capture_output=True, text=True)
        results.append(read(shape, done.stdout))
    return results


def read(shape: Shape, told: str) -> Result:
    """What the bench told; an X in a result raises ValueError."""
    assert "never ended" not in told
    lines = [line.split() for line in told.splitlines()]
    words = [(int(line[1]), int(line[2], 16)) for line in lines if line[:1] == ["word"]]
    numbers = [[word >> 8 * q & 255 for q in range(shape.pe)] for _, word in words]
    if shape.signed_output:
        numbers = [[number - 256 if number > 127 else number for number in word] for word in numbers]
    starts = range(0, len(words), shape.row_folds)
    vectors = [[n for word in numbers[start : start + shape.row_folds] for n in word] for start in starts]
    ends = [cycle for cycle, _ in words[shape.row_folds - 1 :: shape.row_folds]]
    return Result(vectors, [int(line[1]) for line in lines if line[:1] == ["call"]], ends)


def random_calls(shape: Shape, tasks: list[int], vectors: int) -> Calls:
    draw = random.Random(shape.seed + 1)
    low, high = (-8, 7) if shape.signed_input else (0, 15)
    return [(task, [[draw.randint(low, high) for _ in range(shape.columns)] for _ in range(vectors)]) for task in tasks]


SHAPES = {
    "one lane": Shape(1, 1, 4, 7),
    "one turn": Shape(3, 1, 5, 6, masks=("random", "empty", "first"), signed_input=True),
    "fewer turns than teams take": Shape(2, 4, 5, 3, masks=("empty", "random", "last", "full"), signed_output=False),
    "wide gaps": Shape(2, 2, 4, 40, gap_bits=2, masks=("sparse", "last", "first"), regions=3, signed_input=True),
    "one region, one task": Shape(8, 4, 3, 4, masks=("random",), regions=1, seed=3),
    "one word each way": Shape(4, 4, 1, 1, gap_bits=1, masks=("random", "empty", "full", "last")),
    "one bank of results": Shape(2, 2, 6, 4, masks=("random", "sparse"), result_banks=1, seed=5),
    "many banks": Shape(5, 2, 3, 4, masks=("random", "empty"), vector_banks=4, result_banks=8, seed=6),
}


COMPILED = ("fewer turns than teams take",)  # a compiler takes its time
RUNS = [pytest.param(name, "icarus", marks=needs_iverilog, id=f"{name}, icarus") for name in SHAPES]
RUNS += [pytest.param(name, "verilator", marks=needs_verilator, id=f"{name}, verilator") for name in COMPILED]


@pytest.mark.parametrize(("name", "tool"), RUNS)
def test_the_unit_gives_dense_integers_in_as_many_steps_as_lines_whatever_stalls(tmp_path, name, tool):
    shape = SHAPES[name]
    built = build(shape, random.Random(shape.seed))
    tasks = [*range(len(shape.masks)), *reversed(range(len(shape.masks)))]
    calls = random_calls(shape, tasks, 4)
    expected = [dense(shape, built, task, vector) for task, vectors in calls for vector in vectors]
    steps = [4 * (built.bounds[task][1] - built.bounds[task][0] + 1) for task in tasks]
    for result in simulate(tmp_path, shape, calls, tool, 0, 40):
        assert result.vectors == expected
        assert result.steps == steps


@needs_iverilog
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(Shape(1, 2, 6, 5, masks=("full",), regions=1), id="lines"),
        pytest.param(Shape(1, 2, 3, 40, masks=("first",), regions=1), id="columns"),
        pytest.param(Shape(1, 1, 24, 3, masks=("empty",), regions=1, result_banks=4), id="rows"),
    ],
)
def test_vectors_follow_one_another_at_the_interval_of_the_slowest_part(tmp_path, shape):
    built = build(shape, random.Random(shape.seed))
    (result,) = simulate(tmp_path, shape, random_calls(shape, [0], 12), "icarus", 0)
    intervals = {end - begin for begin, end in zip(result.ends[5:], result.ends[6:], strict=False)}
    assert intervals == {max(len(built.lines), shape.column_folds, shape.row_folds)}
