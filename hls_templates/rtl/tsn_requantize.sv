// An accumulator to an output format: saturate(round((accumulator * multiplier + offset) / 2**shift)), half to even, in
// 7 steps of `enable`: 1 products, 2 their sum, 3 offset, 4 whether the quotient is odd, 5 rounding, 6 shift,
// 7 saturation. MULTIPLIER_BITS is 0 where all multipliers are 1; then the port has one bit that nobody reads.
`ifndef TSN_FACTOR_BITS
`define TSN_FACTOR_BITS 25  // of the wider factor that a multiplier of the part takes: that of a DSP48E1
`endif

module tsn_requantize #(
    parameter integer ACCUMULATOR_BITS = 1,
    parameter integer MULTIPLIER_BITS = 0,
    parameter integer OFFSET_BITS = 1,
    parameter integer VALUE_BITS = 2,
    parameter integer OUTPUT_BITS = 1,
    parameter integer OUTPUT_SIGNED = 0
) (
    input wire clk,
    input wire enable,
    input wire [5:0] shift,
    input wire signed [ACCUMULATOR_BITS-1:0] accumulator,
    /* verilator lint_off UNUSEDSIGNAL */
    input wire signed [(MULTIPLIER_BITS > 0 ? MULTIPLIER_BITS : 1)-1:0] multiplier,
    /* verilator lint_on UNUSEDSIGNAL */
    input wire signed [OFFSET_BITS-1:0] offset,
    output reg [OUTPUT_BITS-1:0] result
);
    localparam signed [VALUE_BITS:0] ONE = 1;
    localparam signed [VALUE_BITS:0] LOWEST = OUTPUT_SIGNED != 0 ? -(ONE <<< (OUTPUT_BITS - 1)) : 0;
    localparam signed [VALUE_BITS:0] HIGHEST = (ONE <<< (OUTPUT_BITS - OUTPUT_SIGNED)) - ONE;
    localparam integer MAGNITUDE_BITS = OUTPUT_BITS - OUTPUT_SIGNED;

    /* verilator lint_off UNUSEDSIGNAL */  // VALUE_BITS hold what products are, not what factors of their widths can give
    reg signed [VALUE_BITS-1:0] product;
    generate
        if (MULTIPLIER_BITS == 0) begin : g_one
            reg signed [ACCUMULATOR_BITS-1:0] delayed;
            always_ff @(posedge clk) begin
                if (enable) begin
                    delayed <= accumulator;
                    product <= VALUE_BITS'(delayed);
                end
            end
        end else if (ACCUMULATOR_BITS <= `TSN_FACTOR_BITS) begin : g_product
            reg signed [ACCUMULATOR_BITS+MULTIPLIER_BITS-1:0] whole;
            always_ff @(posedge clk) begin
                if (enable) begin
                    whole <= accumulator * multiplier;
                    product <= VALUE_BITS'(whole);
                end
            end
        end else begin : g_parts  // each has a register of its own, before they are added
            localparam integer LOW_BITS = `TSN_FACTOR_BITS - 1, HIGH_BITS = ACCUMULATOR_BITS - LOW_BITS;
            wire signed [LOW_BITS:0] low_factor = {1'b0, accumulator[LOW_BITS-1:0]};
            wire signed [HIGH_BITS-1:0] high_factor = accumulator[ACCUMULATOR_BITS-1:LOW_BITS];
            reg signed [LOW_BITS+MULTIPLIER_BITS:0] low;
            reg signed [HIGH_BITS+MULTIPLIER_BITS-1:0] high;
            always_ff @(posedge clk) begin
                if (enable) begin
                    low <= low_factor * multiplier;
                    high <= high_factor * multiplier;
                    product <= VALUE_BITS'(low) + (VALUE_BITS'(high) <<< LOW_BITS);
                end
            end
        end
    endgenerate
    /* verilator lint_on UNUSEDSIGNAL */

    // half - 1, and 1 where the quotient is odd, carry into the quotient exactly where it must round up. What is odd is
    // the carry of one addition.
    wire [VALUE_BITS-1:0] half = (VALUE_BITS'(1) << shift) >> 1;
    reg [VALUE_BITS-1:0] half_less_one;
    reg is_shifted, is_odd;
    reg signed [VALUE_BITS-1:0] value, value_again, sum, quotient;
    reg signed [OFFSET_BITS-1:0] offset_again, offset_there;
    /* verilator lint_off UNUSEDSIGNAL */
    wire [VALUE_BITS:0] joined = {value_again, 1'b1} + {half_less_one, is_odd};
    /* verilator lint_on UNUSEDSIGNAL */
    always_ff @(posedge clk) begin
        is_shifted <= shift != 0;
        half_less_one <= shift == 0 ? 0 : half - 1;
        if (enable) begin
            offset_again <= offset;
            offset_there <= offset_again;
            value <= product + VALUE_BITS'(offset_there);
            value_again <= value;
            is_odd <= is_shifted && 1'(value >>> shift);
            sum <= joined[VALUE_BITS:1];
            quotient <= sum >>> shift;
        end
    end

    // A quotient fits if all bits above the magnitude are its sign; an unsigned format holds no negative one.
    wire is_negative = quotient[VALUE_BITS-1];
    wire overflows;
    generate
        if (MAGNITUDE_BITS < VALUE_BITS - 1) begin : g_saturate
            assign overflows = quotient[VALUE_BITS-2:MAGNITUDE_BITS] != {(VALUE_BITS - 1 - MAGNITUDE_BITS) {is_negative}};
        end else begin : g_fits
            assign overflows = 0;
        end
    endgenerate
    always_ff @(posedge clk) begin
        if (enable) begin
            if (is_negative && (overflows || OUTPUT_SIGNED == 0)) result <= OUTPUT_BITS'(LOWEST);
            else result <= overflows ? OUTPUT_BITS'(HIGHEST) : OUTPUT_BITS'(quotient);
        end
    end
endmodule
