// Runs tsn_bench in Icarus Verilog. calls.txt in the working folder has the line "STALLS SEED", then of every call
// "TASK COUNT COMMAND BEATS"; beats.txt has the beats of all calls, in hexadecimal. Standard output tells what happens:
// "words LOOPS WORDS", "logit VALUE KEEP LAST", and at the end of a call "call STATUS CYCLES BEATS STEPS". bench.cpp
// does the same with the models of Verilator and CXXRTL.
`timescale 1ns / 1ns
module testbench;
    reg clk = 0, reset = 1;
    always #5 clk = !clk;

    reg [6:0] stalls;
    reg [30:0] seed;
    reg [31:0] count;
    reg call = 0, offered = 0;
    reg [15:0] taskid;
    reg [7:0] command;
    reg [63:0] beat;
    wire ended, taken, sends, given, last, stuck;
    wire [31:0] status, cycles, logit;
    wire [3:0] keep;
    tsn_bench i_bench (
        .clk(clk), .reset(reset), .stalls(stalls), .seed(seed), .call(call), .taskid(taskid), .count(count),
        .command(command), .ended(ended), .status(status), .cycles(cycles), .offered(offered), .beat(beat),
        .taken(taken), .given(given), .logit(logit), .keep(keep), .last(last), .sends(sends),
        .sent(), .words(), .steps(), .stuck(stuck)
    );

    integer calls, beats, resets = 0, sent = 0, total = 0;
    task automatic next_beat;
        reg [63:0] next;
        integer found;
        found = 0;
        if (sent < total) found = $fscanf(beats, "%h", next);
        offered <= found == 1;
        beat <= next;
    endtask
    task automatic next_call;
        integer next_task, next_count, next_command, found;
        reg [63:0] beat_of_none;  // that a refused call has not taken; another of them has been offered
        for (sent = sent + 1; sent < total; sent = sent + 1) found = $fscanf(beats, "%h", beat_of_none);
        if ($fscanf(calls, "%d %d %d %d", next_task, next_count, next_command, total) != 4) $finish;
        call <= 1;
        taskid <= next_task;
        count <= next_count;
        command <= next_command;
        sent = 0;
        next_beat;
    endtask

    initial begin
        calls = $fopen("calls.txt", "r");
        beats = $fopen("beats.txt", "r");
        if ($fscanf(calls, "%d %d", stalls, seed) != 2) $finish;
    end
    always @(posedge clk) begin
        if (sends) $display("words %h %h", i_bench.sent, i_bench.words);
        if (given) $display("logit %h %h %b", logit, keep, last);
        if (taken) begin
            sent = sent + 1;
            next_beat;
        end
        if (ended) begin
            $display("call %0d %0d %0d %h", status, cycles, sent, i_bench.steps);
            next_call;
        end
        if (stuck) begin
            $display("stuck");
            $finish;
        end
        resets = resets + 1;
        if (resets == 4) reset <= 0;
        if (resets == 8) next_call;
    end
endmodule
