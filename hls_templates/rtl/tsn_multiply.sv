// The product of two signed numbers, in 2 steps of `enable` with FACTORS_HELD, which holds the factors in registers first,
// else in one. Multipliers of FPGAs have such registers themselves; yosys does not use those of an ECP5, so that the macro
// TSN_ECP5 names the multiplier. With IN_LUTS there is none.
module tsn_multiply #(
    parameter integer FIRST_BITS = 1,
    parameter integer SECOND_BITS = 1,
    parameter integer FACTORS_HELD = 1,
    parameter integer IN_LUTS = 0
) (
    input wire clk,
    input wire enable,
    input wire signed [FIRST_BITS-1:0] first,
    input wire signed [SECOND_BITS-1:0] second,
    output wire signed [FIRST_BITS+SECOND_BITS-1:0] product
);
`ifdef TSN_ECP5
    localparam integer IS_MULTIPLIER = FIRST_BITS <= 18 && SECOND_BITS <= 18 && FIRST_BITS + SECOND_BITS >= 4 ? 1 : 0;
`else
    localparam integer IS_MULTIPLIER = 0;
`endif
    generate
        if (IN_LUTS != 0) begin : g_luts
            tsn_multiply_lut #(.FIRST_BITS(FIRST_BITS), .SECOND_BITS(SECOND_BITS), .FACTORS_HELD(FACTORS_HELD)) i_product (
                .clk(clk), .enable(enable), .first(first), .second(second), .product(product)
            );
        end else if (IS_MULTIPLIER != 0) begin : g_multiplier
            wire signed [17:0] a = 18'(first), b = 18'(second);
            wire [35:0] p;
            assign product = p[FIRST_BITS+SECOND_BITS-1:0];
`ifdef TSN_ECP5
            MULT18X18D #(
                .REG_INPUTA_CLK(FACTORS_HELD != 0 ? "CLK0" : "NONE"), .REG_INPUTA_CE("CE0"), .REG_INPUTA_RST("RST0"),
                .REG_INPUTB_CLK(FACTORS_HELD != 0 ? "CLK0" : "NONE"), .REG_INPUTB_CE("CE0"), .REG_INPUTB_RST("RST0"),
                .REG_OUTPUT_CLK("CLK0"), .REG_OUTPUT_CE("CE0"), .REG_OUTPUT_RST("RST0"), .GSR("DISABLED")
            ) i_multiplier (
                .A17(a[17]), .A16(a[16]), .A15(a[15]), .A14(a[14]), .A13(a[13]), .A12(a[12]), .A11(a[11]), .A10(a[10]),
                .A9(a[9]), .A8(a[8]), .A7(a[7]), .A6(a[6]), .A5(a[5]), .A4(a[4]), .A3(a[3]), .A2(a[2]), .A1(a[1]),
                .A0(a[0]), .B17(b[17]), .B16(b[16]), .B15(b[15]), .B14(b[14]), .B13(b[13]), .B12(b[12]), .B11(b[11]),
                .B10(b[10]), .B9(b[9]), .B8(b[8]), .B7(b[7]), .B6(b[6]), .B5(b[5]), .B4(b[4]), .B3(b[3]), .B2(b[2]),
                .B1(b[1]), .B0(b[0]), .SIGNEDA(1'b1), .SIGNEDB(1'b1), .SOURCEA(1'b0), .SOURCEB(1'b0),
                .CLK0(clk), .CE0(enable), .RST0(1'b0), .P35(p[35]), .P34(p[34]), .P33(p[33]), .P32(p[32]), .P31(p[31]),
                .P30(p[30]), .P29(p[29]), .P28(p[28]), .P27(p[27]), .P26(p[26]), .P25(p[25]), .P24(p[24]), .P23(p[23]),
                .P22(p[22]), .P21(p[21]), .P20(p[20]), .P19(p[19]), .P18(p[18]), .P17(p[17]), .P16(p[16]), .P15(p[15]),
                .P14(p[14]), .P13(p[13]), .P12(p[12]), .P11(p[11]), .P10(p[10]), .P9(p[9]), .P8(p[8]), .P7(p[7]),
                .P6(p[6]), .P5(p[5]), .P4(p[4]), .P3(p[3]), .P2(p[2]), .P1(p[1]), .P0(p[0])
            );
`endif
        end else begin : g_logic
            reg signed [FIRST_BITS-1:0] a;
            reg signed [SECOND_BITS-1:0] b;
            reg signed [FIRST_BITS+SECOND_BITS-1:0] p;
            if (FACTORS_HELD != 0) begin : g_held
                always_ff @(posedge clk) if (enable) {a, b} <= {first, second};
            end else begin : g_there
                always_comb {a, b} = {first, second};
            end
            always_ff @(posedge clk) if (enable) p <= a * b;
            assign product = p;
        end
    endgenerate
endmodule
