// The products of one signed number with each of two, by one multiplier, in 2 steps of `enable` as tsn_multiply. The wide
// factor is `second * 2**LOW_BITS + first`, and the product of `first` fits LOW_BITS bits with its sign. Where it is
// negative it takes one of the product above it, which is added again: multipliers of FPGAs have an adder for that.
//
// LOW_BITS: bits of the activation, and of a weight. An activation without a sign has one bit more as `shared`, which is
// 0; with one, the largest product, of the two smallest numbers, is 2**(LOW_BITS-2).
module tsn_multiply_pair #(
    parameter integer SHARED_BITS = 1,
    parameter integer BITS = 1,
    parameter integer LOW_BITS = 2
) (
    input wire clk,
    input wire enable,
    input wire signed [SHARED_BITS-1:0] shared,
    input wire signed [BITS-1:0] first,
    input wire signed [BITS-1:0] second,
    output wire signed [SHARED_BITS+BITS-1:0] first_product,
    output wire signed [SHARED_BITS+BITS-1:0] second_product
);
    localparam integer WIDE_BITS = BITS + LOW_BITS + 1, PRODUCT_BITS = SHARED_BITS + BITS;
    localparam integer ALL_BITS = LOW_BITS + PRODUCT_BITS;
    reg signed [WIDE_BITS-1:0] wide;
    reg signed [SHARED_BITS-1:0] factor;
    reg is_negative, is_not_zero;  // the first weight; whether it is a number other than 0
    wire is_borrowed = is_not_zero && factor != 0 && is_negative != factor[SHARED_BITS-1];
    wire signed [ALL_BITS-1:0] product = wide * factor;
    reg signed [ALL_BITS-1:0] all;
    always_ff @(posedge clk) begin
        if (enable) begin
            wide <= (WIDE_BITS'(second) <<< LOW_BITS) + WIDE_BITS'(first);
            factor <= shared;
            {is_negative, is_not_zero} <= {first[BITS-1], first != 0};
            all <= product + {{PRODUCT_BITS - 1{1'b0}}, is_borrowed, {LOW_BITS{1'b0}}};
        end
    end
    assign first_product = PRODUCT_BITS'($signed(all[LOW_BITS-1:0]));
    assign second_product = all[LOW_BITS+:PRODUCT_BITS];
endmodule
