// Runs tsn_bench in Icarus Verilog. calls.txt in the working folder has the line "STALLS SEED MEDDLES", then of every
// call "TASK COUNT COMMAND BEATS RESET ABORT"; beats.txt has the beats of all calls, in hexadecimal. RESET, ABORT: the cycles
// after which a reset ends the call, or it is aborted; 0: it ends by itself. Standard output tells what happens: "words LOOPS WORDS", "logit
// VALUE KEEP LAST", and at the end of a call "call STATUS CYCLES BEATS STEPS" or "reset". After a reset the stalls are
// others. bench.cpp does the same with the models of Verilator and CXXRTL.
`timescale 1ns / 1ns
module testbench;
    reg clk = 0, reset = 1;
    always #5 clk = !clk;

    reg [6:0] stalls;
    reg [30:0] seed;
    reg [31:0] count;
    reg call = 0, abort = 0, offered = 0, meddles;
    reg [15:0] taskid;
    reg [7:0] command;
    reg [63:0] beat;
    wire ended, taken, sends, given, last, stuck, misread;
    wire [31:0] status, cycles, logit;
    wire [3:0] keep;
    tsn_bench i_bench (
        .clk(clk), .reset(reset), .stalls(stalls), .seed(seed), .meddles(meddles), .call(call), .aborts(abort), .taskid(taskid), .count(count),
        .command(command), .ended(ended), .status(status), .cycles(cycles), .offered(offered), .beat(beat),
        .taken(taken), .given(given), .logit(logit), .keep(keep), .last(last), .sends(sends),
        .sent(), .words(), .steps(), .stuck(stuck), .misread(misread)
    );

    integer calls, beats, sent = 0, total = 0;
    integer since_reset = 0, since_call = 0, reset_after = 0, abort_after = 0;  // cycles
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
        found = $fscanf(
            calls, "%d %d %d %d %d %d", next_task, next_count, next_command, total, reset_after, abort_after
        );
        if (found != 6) $finish;
        since_call = 0;
        call <= 1;
        abort <= 0;
        taskid <= next_task;
        count <= next_count;
        command <= next_command;
        sent = 0;
        next_beat;
    endtask

    initial begin
        calls = $fopen("calls.txt", "r");
        beats = $fopen("beats.txt", "r");
        if ($fscanf(calls, "%d %d %d", stalls, seed, meddles) != 3) $finish;
    end
    always @(posedge clk) begin
        since_reset = since_reset + 1;
        since_call = since_call + 1;
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
        if (stuck || misread) begin
            $display("%s", stuck ? "stuck" : "misread");
            $finish;
        end
        if (call && !reset && !ended && since_call == abort_after) abort <= 1;
        if (call && !reset && !ended && since_call == reset_after) begin
            $display("reset");
            reset <= 1;
            call <= 0;
            offered <= 0;
            seed <= seed + 1;
            since_reset = 0;
        end
        if (since_reset == 4) reset <= 0;
        if (since_reset == 8) next_call;
    end
endmodule
