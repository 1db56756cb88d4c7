// The product of two signed numbers of LUTs alone, in as many steps as tsn_multiply takes: an explicit sum of partial
// products, since no attribute keeps every tool from using a multiplier. With two steps, each half of the second factor
// is multiplied in the first, and the halves are added in the other.
(* use_dsp = "no" *)
module tsn_multiply_lut #(
    parameter integer FIRST_BITS = 1,
    parameter integer SECOND_BITS = 1,
    parameter integer FACTORS_HELD = 1
) (
    input wire clk,
    input wire enable,
    input wire signed [FIRST_BITS-1:0] first,
    input wire signed [SECOND_BITS-1:0] second,
    output reg signed [FIRST_BITS+SECOND_BITS-1:0] product
);
    localparam integer PRODUCT_BITS = FIRST_BITS + SECOND_BITS;
    localparam integer SPLIT = SECOND_BITS / 2;  // bits of the lower half, which has no sign
    localparam integer LOW_BITS = FIRST_BITS + SPLIT, HIGH_BITS = PRODUCT_BITS - SPLIT;
    reg signed [LOW_BITS-1:0] low, low_added;
    reg signed [HIGH_BITS-1:0] high, high_added;
    wire is_negative = second[SECOND_BITS-1];
    integer i;
    always_comb begin
        low = 0;
        high = 0;
        for (i = 0; i < SPLIT; i = i + 1) low = low + ({LOW_BITS{second[i]}} & (LOW_BITS'(first) <<< i));
        for (i = SPLIT; i < SECOND_BITS - 1; i = i + 1) begin
            high = high + ({HIGH_BITS{second[i]}} & (HIGH_BITS'(first) <<< (i - SPLIT)));
        end
        high = high - ({HIGH_BITS{is_negative}} & (HIGH_BITS'(first) <<< (SECOND_BITS - 1 - SPLIT)));
    end
    generate
        if (FACTORS_HELD != 0) begin : g_held
            always_ff @(posedge clk) if (enable) {low_added, high_added} <= {low, high};
        end else begin : g_there
            always_comb {low_added, high_added} = {low, high};
        end
    endgenerate
    always_ff @(posedge clk) if (enable) product <= PRODUCT_BITS'(low_added) + (PRODUCT_BITS'(high_added) <<< SPLIT);
endmodule
