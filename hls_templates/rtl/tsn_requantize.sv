// An accumulator to an output format: saturate(round((accumulator * multiplier + offset) / 2**shift)), half to even, in
// 7 steps of `enable`: 1 products, 2 their sum, 3 offset, 4 whether the quotient is odd, 5 rounding, 6 shift,
// 7 saturation. All four numbers come in the same step; the next step may bring those of another task.
// MULTIPLIER_BITS is 0 where all multipliers are 1; then the port has one bit that nobody reads.
`ifndef TSN_FACTOR_BITS
`ifdef TSN_ECP5
`define TSN_FACTOR_BITS 18  // of the wider factor that a multiplier of the part takes
`else
`define TSN_FACTOR_BITS 25
`endif
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
            wire signed [ACCUMULATOR_BITS+MULTIPLIER_BITS-1:0] whole;
            tsn_multiply #(.FIRST_BITS(ACCUMULATOR_BITS), .SECOND_BITS(MULTIPLIER_BITS), .FACTORS_HELD(0)) i_product (
                .clk(clk), .enable(enable), .first(accumulator), .second(multiplier), .product(whole)
            );
            always_ff @(posedge clk) if (enable) product <= VALUE_BITS'(whole);
        end else begin : g_parts  // each has a register of its own, before they are added
            localparam integer LOW_BITS = `TSN_FACTOR_BITS - 1, HIGH_BITS = ACCUMULATOR_BITS - LOW_BITS;
            wire signed [LOW_BITS+MULTIPLIER_BITS:0] low;
            wire signed [HIGH_BITS+MULTIPLIER_BITS-1:0] high;
            tsn_multiply #(.FIRST_BITS(LOW_BITS + 1), .SECOND_BITS(MULTIPLIER_BITS), .FACTORS_HELD(0)) i_low (
                .clk(clk), .enable(enable), .first({1'b0, accumulator[LOW_BITS-1:0]}), .second(multiplier), .product(low)
            );
            tsn_multiply #(.FIRST_BITS(HIGH_BITS), .SECOND_BITS(MULTIPLIER_BITS), .FACTORS_HELD(0)) i_high (
                .clk(clk), .enable(enable), .first(accumulator[ACCUMULATOR_BITS-1:LOW_BITS]), .second(multiplier),
                .product(high)
            );
            always_ff @(posedge clk) if (enable) product <= VALUE_BITS'(low) + (VALUE_BITS'(high) <<< LOW_BITS);
        end
    endgenerate
    /* verilator lint_on UNUSEDSIGNAL */

    // half - 1, and 1 where the quotient is odd, carry into the quotient exactly where it must round up. What is odd is
    // the carry of one addition.
    reg [5:0] shift1, shift2, shift3, shift4, shift5;  // of what is in these steps
    wire [VALUE_BITS-1:0] half = (VALUE_BITS'(1) << shift3) >> 1;
    reg [VALUE_BITS-1:0] half_less_one;
    reg is_odd;
    reg signed [VALUE_BITS-1:0] value, value_again, sum, quotient;
    reg signed [OFFSET_BITS-1:0] offset_again, offset_there;
    /* verilator lint_off UNUSEDSIGNAL */
    wire [VALUE_BITS:0] joined = {value_again, 1'b1} + {half_less_one, is_odd};
    /* verilator lint_on UNUSEDSIGNAL */
    always_ff @(posedge clk) begin
        if (enable) begin
            {shift1, shift2, shift3, shift4, shift5} <= {shift, shift1, shift2, shift3, shift4};
            offset_again <= offset;
            offset_there <= offset_again;
            value <= product + VALUE_BITS'(offset_there);
            value_again <= value;
            half_less_one <= shift3 == 0 ? 0 : half - 1;
            is_odd <= shift3 != 0 && 1'(value >>> shift3);
            sum <= joined[VALUE_BITS:1];
            quotient <= sum >>> shift5;
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
