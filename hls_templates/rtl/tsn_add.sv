// The sum of two streams, each shifted left to the finer of their grids, requantized: 1 operands, 2 sum,
// 3..9 requantization.
module tsn_add #(
    parameter integer PE = 1,
    parameter integer WORDS = 1,
    parameter integer FIRST_BITS = 1,
    parameter integer FIRST_SIGNED = 0,
    parameter integer SECOND_BITS = 1,
    parameter integer SECOND_SIGNED = 0,
    parameter integer OUTPUT_BITS = 1,
    parameter integer OUTPUT_SIGNED = 0,
    parameter integer TASKS = 1,
    parameter integer TASK_BITS = 1,
    parameter integer SLOTS = 2,
    parameter integer ACCUMULATOR_BITS = 1,
    parameter integer MULTIPLIER_BITS = 0,
    parameter integer OFFSET_BITS = 1,
    parameter integer VALUE_BITS = 2,
    parameter SCALES_FILE = "",
    parameter SCALES_STYLE = "block",
    parameter TASK_FILE = "",
    parameter TASK_STYLE = "block",
    parameter [15:0] INDEX = 0,
    parameter [4:0] LOADED = 0
) (
    input wire clk,
    input wire reset,
    input wire [TASK_BITS:0] named,  // the task of the next inference
    input wire [128:0] load,
    input wire first_valid,
    output wire first_ready,
    input wire [PE*FIRST_BITS-1:0] first_data,
    input wire second_valid,
    output wire second_ready,
    input wire [PE*SECOND_BITS-1:0] second_data,
    output wire m_valid,
    input wire m_ready,
    output wire [PE*OUTPUT_BITS-1:0] m_data,
    output wire step,
    output wire idle
);
    wire [18:0] parameters;
    wire unused = &{1'b0, parameters[6:0]};
    reg [9:1] done;
    wire is_named;
    wire enable = !m_valid || m_ready;
    assign step = enable && is_named && first_valid && second_valid;
    assign first_ready = enable && is_named && second_valid;
    assign second_ready = enable && is_named && first_valid;
    assign m_valid = done[9];
    assign idle = done == 0;
    always_ff @(posedge clk) begin
        if (reset) done <= 0;
        else if (enable) done <= {done[8:1], step};
    end

    reg [PE*ACCUMULATOR_BITS-1:0] sums;
    genvar p;
    generate
        for (p = 0; p < PE; p = p + 1) begin : g_lane
            wire signed [ACCUMULATOR_BITS-1:0] first_number, second_number;
            reg signed [ACCUMULATOR_BITS-1:0] first, second;
            tsn_lane #(.BITS(FIRST_BITS), .SIGNED(FIRST_SIGNED), .WIDE(ACCUMULATOR_BITS)) i_first (
                .activation(first_data[p*FIRST_BITS+:FIRST_BITS]), .number(first_number)
            );
            tsn_lane #(.BITS(SECOND_BITS), .SIGNED(SECOND_SIGNED), .WIDE(ACCUMULATOR_BITS)) i_second (
                .activation(second_data[p*SECOND_BITS+:SECOND_BITS]), .number(second_number)
            );
            always_ff @(posedge clk) begin
                if (enable) begin
                    first <= first_number <<< parameters[12:7];
                    second <= second_number <<< parameters[18:13];
                    sums[p*ACCUMULATOR_BITS+:ACCUMULATOR_BITS] <= first + second;
                end
            end
        end
    endgenerate
    tsn_rescale #(
        .PE(PE), .TASKS(TASKS), .TASK_BITS(TASK_BITS), .SLOTS(SLOTS), .WORDS(WORDS), .DELAY(2), .PARAMETER_BITS(19),
        .ACCUMULATOR_BITS(ACCUMULATOR_BITS), .MULTIPLIER_BITS(MULTIPLIER_BITS), .OFFSET_BITS(OFFSET_BITS), .VALUE_BITS(VALUE_BITS),
        .OUTPUT_BITS(OUTPUT_BITS), .OUTPUT_SIGNED(OUTPUT_SIGNED), .SCALES_FILE(SCALES_FILE),
        .SCALES_STYLE(SCALES_STYLE), .TASK_FILE(TASK_FILE), .TASK_STYLE(TASK_STYLE),
        .INDEX(INDEX), .LOADED(LOADED)
    ) i_rescale (
        .clk(clk), .reset(reset), .enable(enable), .named(named), .take(step), .is_named(is_named), .load(load),
        .accumulators(sums), .parameters(parameters), .results(m_data)
    );
endmodule
