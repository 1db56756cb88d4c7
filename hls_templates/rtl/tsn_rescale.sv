// Requantization of PE lanes that all have the same scale: that of the task. In 5 steps of `enable`.
module tsn_rescale #(
    parameter integer PE = 1,
    parameter integer TASKS = 1,
    parameter integer TASK_BITS = 1,
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
    input wire enable,
    input wire [TASK_BITS-1:0] task_index,
    input wire [128:0] load,
    input wire [PE*ACCUMULATOR_BITS-1:0] accumulators,
    output wire [PARAMETER_BITS-1:0] parameters,
    output wire [PE*OUTPUT_BITS-1:0] results
);
    localparam integer MULTIPLIER_PORT = MULTIPLIER_BITS > 0 ? MULTIPLIER_BITS : 1;
    wire [MULTIPLIER_BITS+OFFSET_BITS-1:0] scale;
    tsn_memory #(
        .WIDTH(PARAMETER_BITS), .DEPTH(TASKS), .STYLE(TASK_STYLE), .FILE(TASK_FILE), .PLACE({8'd4, INDEX}),
        .LOADS(32'(LOADED[4]))
    ) i_task (
        .clk(clk), .enable(1'b1), .address(task_index), .load(load), .data(parameters)
    );
    tsn_memory #(
        .WIDTH(MULTIPLIER_BITS + OFFSET_BITS), .DEPTH(TASKS), .STYLE(SCALES_STYLE), .FILE(SCALES_FILE),
        .PLACE({8'd3, INDEX}), .LOADS(32'(LOADED[3]))
    ) i_scales (
        .clk(clk), .enable(1'b1), .address(task_index), .load(load), .data(scale)
    );
    genvar p;
    generate
        for (p = 0; p < PE; p = p + 1) begin : g_lane
            tsn_requantize #(
                .ACCUMULATOR_BITS(ACCUMULATOR_BITS), .MULTIPLIER_BITS(MULTIPLIER_BITS), .OFFSET_BITS(OFFSET_BITS),
                .VALUE_BITS(VALUE_BITS), .OUTPUT_BITS(OUTPUT_BITS), .OUTPUT_SIGNED(OUTPUT_SIGNED)
            ) i_requantize (
                .clk(clk), .enable(enable), .shift(parameters[6:1]),
                .accumulator(accumulators[p*ACCUMULATOR_BITS+:ACCUMULATOR_BITS]),
                .multiplier(scale[MULTIPLIER_PORT-1:0]), .offset(scale[MULTIPLIER_BITS+:OFFSET_BITS]),
                .result(results[p*OUTPUT_BITS+:OUTPUT_BITS])
            );
        end
    endgenerate
endmodule
