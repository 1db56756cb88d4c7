// The codebooks of all regions. It answers in the same cycle, out of LUTs: every lane has its own.
module tsn_codebook #(
    parameter integer WIDTH = 1,
    parameter integer ADDRESS_BITS = 1,
    parameter integer DEPTH = 1,
    parameter FILE = ""
) (
    input wire [ADDRESS_BITS-1:0] address,
    output wire [WIDTH-1:0] centroid
);
    (* ram_style = "logic", rom_style = "logic" *) reg [WIDTH-1:0] content[0:DEPTH-1];
    initial $readmemh(FILE, content);
    assign centroid = content[address];
endmodule
