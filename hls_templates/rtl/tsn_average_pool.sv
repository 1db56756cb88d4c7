// The sum of every AREA words, lane by lane, requantized: 1 sum, 2..8 requantization.
module tsn_average_pool #(
    parameter integer PE = 1,
    parameter integer INPUT_BITS = 1,
    parameter integer INPUT_SIGNED = 0,
    parameter integer OUTPUT_BITS = 1,
    parameter integer OUTPUT_SIGNED = 0,
    parameter integer AREA = 1,
    parameter integer WORDS = 1,  // that come out, of an inference
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
    input wire s_valid,
    output wire s_ready,
    input wire [PE*INPUT_BITS-1:0] s_data,
    output wire m_valid,
    input wire m_ready,
    output wire [PE*OUTPUT_BITS-1:0] m_data,
    output wire step,
    output wire idle
);
    localparam integer SEEN_BITS = AREA > 1 ? $clog2(AREA) : 1;
    reg [SEEN_BITS-1:0] seen;
    reg [8:1] done;
    wire is_named;
    wire enable = !m_valid || m_ready, is_last = seen == SEEN_BITS'(AREA - 1);
    assign s_ready = enable && is_named;
    assign step = enable && is_named && s_valid;
    assign m_valid = done[8];
    assign idle = done == 0 && seen == 0;
    always_ff @(posedge clk) begin
        if (reset) begin
            seen <= 0;
            done <= 0;
        end else if (enable) begin
            if (step) seen <= is_last ? 0 : seen + 1;
            done <= {done[7:1], step && is_last};
        end
    end

    reg [PE*ACCUMULATOR_BITS-1:0] sums;
    genvar p;
    generate
        for (p = 0; p < PE; p = p + 1) begin : g_lane
            wire signed [ACCUMULATOR_BITS-1:0] number;
            tsn_lane #(.BITS(INPUT_BITS), .SIGNED(INPUT_SIGNED), .WIDE(ACCUMULATOR_BITS)) i_lane (
                .activation(s_data[p*INPUT_BITS+:INPUT_BITS]), .number(number)
            );
            wire [ACCUMULATOR_BITS-1:0] so_far = seen == 0 ? 0 : sums[p*ACCUMULATOR_BITS+:ACCUMULATOR_BITS];
            always_ff @(posedge clk) begin
                if (step) sums[p*ACCUMULATOR_BITS+:ACCUMULATOR_BITS] <= so_far + number;
            end
        end
    endgenerate

    wire [6:0] parameters;
    wire unused = &{1'b0, parameters};
    tsn_rescale #(
        .PE(PE), .TASKS(TASKS), .TASK_BITS(TASK_BITS), .SLOTS(SLOTS), .WORDS(WORDS * AREA), .PARAMETER_BITS(7),
        .ACCUMULATOR_BITS(ACCUMULATOR_BITS), .MULTIPLIER_BITS(MULTIPLIER_BITS), .OFFSET_BITS(OFFSET_BITS), .VALUE_BITS(VALUE_BITS),
        .OUTPUT_BITS(OUTPUT_BITS), .OUTPUT_SIGNED(OUTPUT_SIGNED), .SCALES_FILE(SCALES_FILE),
        .SCALES_STYLE(SCALES_STYLE), .TASK_FILE(TASK_FILE), .TASK_STYLE(TASK_STYLE),
        .INDEX(INDEX), .LOADED(LOADED)
    ) i_rescale (
        .clk(clk), .reset(reset), .enable(enable), .named(named), .take(step), .is_named(is_named), .load(load),
        .accumulators(sums), .parameters(parameters), .results(m_data)
    );
endmodule
