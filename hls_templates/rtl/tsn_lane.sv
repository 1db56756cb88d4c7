// An activation in BITS bits as a signed number of WIDE bits, more than BITS.
module tsn_lane #(
    parameter integer BITS = 1,
    parameter integer SIGNED = 0,
    parameter integer WIDE = 2
) (
    input wire [BITS-1:0] activation,
    output wire signed [WIDE-1:0] number
);
    generate
        if (SIGNED != 0) assign number = WIDE'($signed(activation));
        else assign number = WIDE'(activation);
    endgenerate
endmodule
