// A memory whose content is a file, or, with LOADS, what load packets bring (tsn_loader). A word takes two cycles: the
// memory, and the output register that block RAMs have. FILE is a name alone, which Vivado finds among the sources; for
// tools that look where they run, TSN_MEMORIES is defined as the folder with a slash at its end: "memories/".
`ifndef TSN_MEMORIES
`define TSN_MEMORIES ""
`endif

module tsn_memory #(
    parameter integer WIDTH = 1,
    parameter integer DEPTH = 1,
    /* verilator lint_off UNUSEDPARAM */  // read by synthesis alone, or for one of both kinds
    parameter STYLE = "block",
    parameter FILE = "",
    parameter [23:0] PLACE = 0,  // number of its kind, number of its unit
    /* verilator lint_on UNUSEDPARAM */
    parameter integer LOADS = 0
) (
    input wire clk,
    input wire enable,
    input wire [(DEPTH > 1 ? $clog2(DEPTH) : 1)-1:0] address,
    /* verilator lint_off UNUSEDSIGNAL */
    input wire [128:0] load,
    /* verilator lint_on UNUSEDSIGNAL */
    output wire [WIDTH-1:0] data
);
    localparam integer ADDRESS_BITS = DEPTH > 1 ? $clog2(DEPTH) : 1;
    genvar limb;
    generate
        if (LOADS != 0) begin : g_loaded
            wire is_here = load[128] && load[127:104] == PLACE;
            for (limb = 0; limb < (WIDTH + 63) / 64; limb = limb + 1) begin : g_limb
                localparam integer LOW = 64 * limb, BITS = WIDTH - LOW < 64 ? WIDTH - LOW : 64;
                (* ram_style = STYLE *) reg [BITS-1:0] content[0:DEPTH-1];
                reg [BITS-1:0] read, read_again;
                always_ff @(posedge clk) begin
                    if (is_here && load[103:96] == 8'(limb)) content[load[64+:ADDRESS_BITS]] <= load[BITS-1:0];
                    if (enable) begin
                        read <= content[address];
                        read_again <= read;
                    end
                end
                assign data[LOW+:BITS] = read_again;
            end
        end else begin : g_constant
            (* ram_style = STYLE, rom_style = STYLE *) reg [WIDTH-1:0] content[0:DEPTH-1];
            if (FILE != "") begin : g_file
                initial $readmemh({`TSN_MEMORIES, FILE}, content);
            end
            reg [WIDTH-1:0] read, read_again;
            always_ff @(posedge clk) begin
                if (enable) begin
                    read <= content[address];
                    read_again <= read;
                end
            end
            assign data = read_again;
        end
    endgenerate
endmodule
