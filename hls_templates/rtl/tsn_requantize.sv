// saturate(round((accumulator * multiplier + offset) / 2**shift)), half to even, in LATENCY = 5 steps of `enable`. All
// four numbers come in the same step; the next step may bring those of another task.
// MULTIPLIER_BITS is 0 where all multipliers are 1; then the port has one bit that nobody reads.
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
    // A format wider than the value cannot overflow.
    localparam integer CAN_OVERFLOW = OUTPUT_BITS - OUTPUT_SIGNED < VALUE_BITS - 1 ? 1 : 0;

    // half - 1, and 1 where the quotient is odd, carry into the quotient exactly where it must round up.
    reg [5:0] shift1, shift2, shift3;  // of what is in these steps
    wire [VALUE_BITS-1:0] half = (VALUE_BITS'(1) << shift1) >> 1;
    reg signed [VALUE_BITS-1:0] half_less_one;

    reg signed [VALUE_BITS-1:0] product, value, sum, quotient;
    reg signed [OFFSET_BITS-1:0] delayed;
    wire is_odd = 1'(value >>> shift2);
    wire signed [VALUE_BITS-1:0] addend = shift2 == 0 ? 0 : half_less_one + VALUE_BITS'(is_odd);
    always_ff @(posedge clk) begin
        if (enable) begin
            {shift1, shift2, shift3} <= {shift, shift1, shift2};
            half_less_one <= half - 1;
            delayed <= offset;
            value <= product + VALUE_BITS'(delayed);
            sum <= value + addend;
            quotient <= sum >>> shift3;
        end
    end
    generate
        if (MULTIPLIER_BITS > 0) begin : g_multiplier
            always_ff @(posedge clk) if (enable) product <= VALUE_BITS'(accumulator * multiplier);
        end else begin : g_one
            always_ff @(posedge clk) if (enable) product <= VALUE_BITS'(accumulator);
        end
        if (CAN_OVERFLOW != 0) begin : g_saturate
            wire signed [VALUE_BITS:0] wide = (VALUE_BITS + 1)'(quotient);
            always_ff @(posedge clk) begin
                if (enable) result <= OUTPUT_BITS'(wide < LOWEST ? LOWEST : wide > HIGHEST ? HIGHEST : wide);
            end
        end else begin : g_fits
            // An unsigned format holds no negative value.
            always_ff @(posedge clk) begin
                if (enable) result <= OUTPUT_SIGNED == 0 && quotient < 0 ? 0 : OUTPUT_BITS'(quotient);
            end
        end
    endgenerate
endmodule
