"""Calls for classes: the first of the largest logits among those of the task, in no more time than logits take."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.rtl.simulation import CLASSES, RtlCall, loading_calls
from tests.helpers.networks import adversarial_inputs
from tests.helpers.rtl_designs import icarus, loaded, needs_iverilog
from tests.helpers.tagged_calls import every_pair, expected, tagged
from tests.rtl.test_rtl import MLP
from tests.rtl.test_rtl_lists import design

RTL = Path(__file__).parents[2] / "hls_templates" / "rtl"
# Heads of 1 to 5 classes; without weights that are used their logits are what their offsets make them.
SOME = replace(MLP, widths=(12, 6), classes=0, tasks=5, seed=8)
DESIGNS = {
    "dense": lambda: design(SOME, 2, 2, layout="dense"),
    "lists, room for tasks and classes": lambda: design(SOME, 2, 4, layout="mixed", max_tasks=8, max_classes=9),
    "a task is loaded": lambda: loaded(design(SOME, 1, 2, layout="dense"), "runtime", "auto"),
}
ENDS = [-(2**31), 2**31 - 1, 0, -1, 1]


def class_of(made, task: int, logits) -> int:
    """The class of a row of logits; -1 where its header was refused."""
    is_there = task < len(made.net.tasks)
    return int(np.argmax(logits[: len(made.net.tasks[task].classes)])) if is_there else -1


@needs_iverilog
@pytest.mark.parametrize("name", DESIGNS)
def test_classes_are_the_first_of_the_largest_logits_of_their_task(tmp_path, name):
    made = DESIGNS[name]()
    assert len({len(task.classes) for task in made.net.tasks}) > 2
    compiled, head, tasks = icarus(tmp_path, made), made.layer_name(made.head, 0), len(made.net.tasks)
    for stall_percent in (0, 40):
        order = every_pair(tasks, stall_percent)
        tags = [order, [1], [], [*order[:9], tasks]]
        runs = [RtlCall(task, adversarial_inputs(made.net, 3, seed=task)) for task in range(tasks)]
        if name == "a task is loaded":
            tags = []
        calls = [call for run in runs for call in (*loading_calls(made, run.task), run)]
        calls += [tagged(made, some) for some in tags]
        wanted = [replace(call, command=call.command | CLASSES) if call.command != 1 else call for call in calls]
        pairs = zip(calls, compiled.run(calls, stall_percent), compiled.run(wanted, stall_percent), strict=True)
        seen = 0
        for call, logits, classes in pairs:
            assert (classes.status, classes.steps) == (logits.status, logits.steps)
            assert name == "a task is loaded" or stall_percent or classes.cycles <= logits.cycles + 2
            if call.command == 1:
                continue
            of_each = call.headers or [call.task] * len(call.inputs)
            rows = expected(made, of_each, call.inputs)[head] if of_each else []
            assert classes.classes.tolist() == [class_of(made, *pair) for pair in zip(of_each, rows, strict=True)]
            seen += len(of_each)
        assert seen >= 15


@needs_iverilog
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_equal_and_extreme_logits_whatever_stalls(tmp_path, rows):
    """The output alone, with three or two logits that occur again and again; then logits as they come."""
    rng = np.random.default_rng(rows)
    logits = rng.choice(ENDS, (200, rows))
    logits[::2] = rng.choice([5, 6], (100, rows))
    classes, refused = rng.integers(1, rows + 1, 200), rng.random(200) < 0.1
    bits = rows.bit_length()
    words = "\n".join(f"{value & 0xFFFFFFFF:x}" for row in logits.tolist() for value in row)
    (tmp_path / "logits.mem").write_text(words)
    said = [f"{2 << bits | int(no) << bits | int(own):x}" for own, no in zip(classes, refused, strict=True)]
    (tmp_path / "said.mem").write_text("\n".join(said))
    (tmp_path / "bench.sv").write_text(BENCH.replace("ROWS_", str(rows)).replace("BITS_", str(bits)))
    sources = ["bench.sv", str(RTL / "tsn_output.sv"), str(RTL / "tsn_slots.sv")]
    subprocess.run(["iverilog", "-g2012", "-s", "bench", "-o", "bench.vvp", *sources], cwd=tmp_path, check=True)
    done = subprocess.run(["vvp", "-n", "bench.vvp"], cwd=tmp_path, capture_output=True, text=True, check=True)
    pairs = zip(logits, classes, refused, strict=True)
    wanted = [-1 if no else int(np.argmax(row[:own])) for row, own, no in pairs]
    found = [line.split() for line in done.stdout.splitlines()]
    assert [int(value) for value, _ in found[:200]] == wanted
    assert [last for _, last in found[:200]] == ["0"] * 199 + ["1"]
    plain = np.where(refused[:, None], -(2**31), logits)
    assert [int(value) for value, _ in found[200:]] == plain.ravel().tolist()


BENCH = """
module bench;
    reg clk = 0, reset = 1, begin_call = 0, wants = 1, s_valid = 0, m_ready = 0;
    wire s_ready, m_valid, last, idle, leaves;
    wire [31:0] data;
    wire [3:0] keep;
    reg [31:0] logits[0:200*ROWS_-1];
    reg [BITS_+1:0] all_said[0:199], said = 0;
    integer sent = 0, saying = 0, under_way = 0, calls = 0;
    always #5 clk = !clk;
    tsn_output #(.ROWS(ROWS_), .CLASS_BITS(BITS_), .SLOTS(4)) unit (
        .clk(clk), .reset(reset), .begin_call(begin_call), .count(32'd200), .wants_classes(wants), .said(said),
        .leaves(leaves), .s_valid(s_valid), .s_ready(s_ready), .s_data(sent < 200 * ROWS_ ? logits[sent] : 32'bx),
        .m_axis_tvalid(m_valid), .m_axis_tready(m_ready), .m_axis_tdata(data), .m_axis_tkeep(keep),
        .m_axis_tlast(last), .idle(idle)
    );
    always @(posedge clk) begin
        if (m_valid && m_ready) $display("%0d %b", $signed(data), last);
        if (!reset && !begin_call && idle && sent == 200 * ROWS_) begin
            calls = calls + 1;
            if (calls == 2) $finish;
        end
    end
    // As tsn_input and tsn_control do: said a while before the inference's logits come, and never more than slots hold.
    initial begin
        $readmemh("logits.mem", logits);
        $readmemh("said.mem", all_said);
        repeat (3) @(negedge clk);
        reset = 0;
        for (integer call = 0; call < 2; call = call + 1) begin
            wants = call == 0;
            {sent, saying, under_way} = 0;
            begin_call = 1;
            @(negedge clk) begin_call = 0;
            while (sent < 200 * ROWS_ || !idle) begin
                said = 0;
                if (under_way < 3 && saying < 200 && $urandom % 3 != 0) begin
                    said = all_said[saying];
                    saying = saying + 1;
                    under_way = under_way + 1;
                end
                s_valid = sent < ROWS_ * (saying - 32'(said[BITS_+1])) && (s_valid || $urandom % 3 != 0);
                m_ready = $urandom % 3 != 0;
                #1;
                if (leaves) under_way = under_way - 1;
                if (s_valid && s_ready) begin
                    @(posedge clk) #1 sent = sent + 1;
                    s_valid = 0;
                end
                @(negedge clk);
            end
        end
    end
endmodule
"""
