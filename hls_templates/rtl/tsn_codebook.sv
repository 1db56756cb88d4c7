// The codebooks of all regions, of a file or of load packets. It answers in the same cycle, out of LUTs: every lane has
// its own.
`ifndef TSN_MEMORIES
`define TSN_MEMORIES ""
`endif

module tsn_codebook #(
    parameter integer WIDTH = 1,
    parameter integer ADDRESS_BITS = 1,
    parameter integer DEPTH = 1,
    /* verilator lint_off UNUSEDPARAM */  // one of both
    parameter FILE = "",
    parameter [23:0] PLACE = 0,
    /* verilator lint_on UNUSEDPARAM */
    parameter integer LOADS = 0
) (
    /* verilator lint_off UNUSEDSIGNAL */
    input wire clk,
    input wire [128:0] load,
    /* verilator lint_on UNUSEDSIGNAL */
    input wire [ADDRESS_BITS-1:0] address,
    output wire [WIDTH-1:0] centroid
);
    generate
        if (LOADS != 0) begin : g_loaded
            reg [WIDTH-1:0] content[0:DEPTH-1];
            always_ff @(posedge clk) begin
                if (load[128] && load[127:104] == PLACE) content[load[64+:ADDRESS_BITS]] <= load[WIDTH-1:0];
            end
            assign centroid = content[address];
        end else begin : g_constant
            (* ram_style = "logic", rom_style = "logic" *) reg [WIDTH-1:0] content[0:DEPTH-1];
            if (FILE != "") begin : g_file
                initial $readmemh({`TSN_MEMORIES, FILE}, content);
            end
            assign centroid = content[address];
        end
    endgenerate
endmodule
