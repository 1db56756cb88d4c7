// Requantization of PE lanes that all have the same scale: that of the task. In 7 steps of `enable`. The task of a word is
// there before it (`is_named`, with `parameters`) until `take`; the word's accumulators come DELAY steps later.
module tsn_rescale #(
    parameter integer PE = 1,
    parameter integer TASKS = 1,
    parameter integer TASK_BITS = 1,
    parameter integer SLOTS = 2,
    parameter integer WORDS = 1,  // that are taken, of an inference
    parameter integer DELAY = 1,
    parameter integer PARAMETER_BITS = 7,
    parameter integer ACCUMULATOR_BITS = 1,
    parameter integer MULTIPLIER_BITS = 0,
    parameter integer OFFSET_BITS = 1,
    parameter integer VALUE_BITS = 2,
    parameter integer OUTPUT_BITS = 1,
    parameter integer OUTPUT_SIGNED = 0,
    parameter SCALES_FILE = "",
    parameter SCALES_STYLE = "block",
    parameter TASK_FILE = "",
    parameter TASK_STYLE = "block",
    parameter [15:0] INDEX = 0,
    parameter [4:0] LOADED = 0
) (
    input wire clk,
    input wire reset,
    input wire enable,
    input wire [TASK_BITS:0] named,  // the task of the next inference
    input wire take,
    output wire is_named,
    input wire [128:0] load,
    input wire [PE*ACCUMULATOR_BITS-1:0] accumulators,
    output wire [PARAMETER_BITS-1:0] parameters,
    output wire [PE*OUTPUT_BITS-1:0] results
);
    localparam integer MULTIPLIER_PORT = MULTIPLIER_BITS > 0 ? MULTIPLIER_BITS : 1;
    localparam integer SCALE_BITS = MULTIPLIER_BITS + OFFSET_BITS;
    wire go;
    wire [TASK_BITS-1:0] coming, next_task;
    wire unused_task = &{1'b0, next_task};
    wire [SCALE_BITS-1:0] next_scale;
    tsn_tasks #(
        .TASKS(TASKS), .TASK_BITS(TASK_BITS), .SLOTS(SLOTS), .VECTORS(WORDS), .PARAMETER_BITS(PARAMETER_BITS),
        .TASK_FILE(TASK_FILE), .TASK_STYLE(TASK_STYLE), .INDEX(INDEX), .LOADS(32'(LOADED[4]))
    ) i_tasks (
        .clk(clk), .reset(reset), .named(named), .load(load), .take(take), .go(go), .coming(coming), .is_there(is_named),
        .task_index(next_task), .parameters(parameters)
    );
    tsn_memory #(
        .WIDTH(SCALE_BITS), .DEPTH(TASKS), .STYLE(SCALES_STYLE), .FILE(SCALES_FILE),
        .PLACE({8'd3, INDEX}), .LOADS(32'(LOADED[3]))
    ) i_scales (
        .clk(clk), .enable(go), .address(coming), .load(load), .data(next_scale)
    );
    reg [DELAY*(SCALE_BITS+6)-1:0] scales;  // of the words on their way, the last in the highest bits
    wire [SCALE_BITS-1:0] scale;
    wire [5:0] shift;
    assign {shift, scale} = scales[(DELAY-1)*(SCALE_BITS+6)+:SCALE_BITS+6];
    always_ff @(posedge clk) begin
        if (enable) scales <= (DELAY * (SCALE_BITS + 6))'({scales, parameters[6:1], next_scale});
    end
    genvar p;
    generate
        for (p = 0; p < PE; p = p + 1) begin : g_lane
            tsn_requantize #(
                .ACCUMULATOR_BITS(ACCUMULATOR_BITS), .MULTIPLIER_BITS(MULTIPLIER_BITS), .OFFSET_BITS(OFFSET_BITS),
                .VALUE_BITS(VALUE_BITS), .OUTPUT_BITS(OUTPUT_BITS), .OUTPUT_SIGNED(OUTPUT_SIGNED)
            ) i_requantize (
                .clk(clk), .enable(enable), .shift(shift),
                .accumulator(accumulators[p*ACCUMULATOR_BITS+:ACCUMULATOR_BITS]),
                .multiplier(scale[MULTIPLIER_PORT-1:0]), .offset(scale[MULTIPLIER_BITS+:OFFSET_BITS]),
                .result(results[p*OUTPUT_BITS+:OUTPUT_BITS])
            );
        end
    endgenerate
endmodule
