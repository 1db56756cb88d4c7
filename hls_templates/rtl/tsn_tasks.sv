// The task of every vector of a unit, in order, and what the unit's memory says of it: VECTORS an inference, whose task
// comes with `named` when it begins (see tsn_slots). The next one waits at the end of two steps of `go`, in which other
// memories can be read at `coming` as well; `take` moves on.
module tsn_tasks #(
    parameter integer TASKS = 1,
    parameter integer TASK_BITS = 1,
    parameter integer SLOTS = 2,
    parameter integer VECTORS = 1,
    parameter integer PARAMETER_BITS = 1,
    parameter TASK_FILE = "",
    parameter TASK_STYLE = "block",
    parameter [15:0] INDEX = 0,
    parameter integer LOADS = 0
) (
    input wire clk,
    input wire reset,
    input wire [TASK_BITS:0] named,
    input wire [128:0] load,
    input wire take,
    output wire go,
    output wire [TASK_BITS-1:0] coming,
    output reg is_there,
    output reg [TASK_BITS-1:0] task_index,
    output wire [PARAMETER_BITS-1:0] parameters
);
    wire is_coming;
    reg is_read;
    reg [TASK_BITS-1:0] task_read;
    assign go = !is_there || take;
    tsn_slots #(.WIDTH(TASK_BITS), .SLOTS(SLOTS), .TIMES(VECTORS)) i_slots (
        .clk(clk), .reset(reset), .said(named), .take(go), .is_there(is_coming), .data(coming)
    );
    tsn_memory #(
        .WIDTH(PARAMETER_BITS), .DEPTH(TASKS), .STYLE(TASK_STYLE), .FILE(TASK_FILE), .PLACE({8'd4, INDEX}), .LOADS(LOADS)
    ) i_task (
        .clk(clk), .enable(go), .address(coming), .load(load), .data(parameters)
    );
    always_ff @(posedge clk) begin
        if (reset) {is_read, is_there} <= 0;
        else if (go) {is_read, is_there} <= {is_coming, is_read};
        if (go) {task_read, task_index} <= {coming, task_read};
    end
endmodule
