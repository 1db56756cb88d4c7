// A memory whose content is a file, or, with LOADS, what load packets bring (tsn_loader). FILE is a name alone, which
// Vivado finds among the sources; for tools that look where they run, TSN_MEMORIES is defined as the folder with a slash
// at its end: "memories/".
//
// A word takes READ_CYCLES steps of `enable`: registers of the address if there are more than are needed, the memory, the
// output register that block RAMs have, and registers that choose. More than PART words, a power of two, lie side by side:
// line i of the file holds words i, i + PART, i + 2 * PART ..., the first in the lowest bits, and each further register
// chooses one of four.
`ifndef TSN_MEMORIES
`define TSN_MEMORIES ""
`endif

module tsn_memory #(
    parameter integer WIDTH = 1,
    parameter integer DEPTH = 1,
    parameter integer PART = DEPTH,
    parameter integer READ_CYCLES = 2,
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
    localparam integer ADDRESS_BITS = DEPTH > 1 ? $clog2(DEPTH) : 1, PARTS = (DEPTH + PART - 1) / PART;
    localparam integer PART_BITS = PARTS == 1 ? ADDRESS_BITS : $clog2(PART);
    localparam integer LEVELS = ($clog2(PARTS) + 1) / 2, SPARE = READ_CYCLES - 2 - LEVELS, NUMBER_BITS = 2 * LEVELS;

    wire [ADDRESS_BITS-1:0] place;
    generate
        if (SPARE > 0) begin : g_later
            reg [SPARE*ADDRESS_BITS-1:0] later;
            always_ff @(posedge clk) if (enable) later <= (SPARE*ADDRESS_BITS)'({later, address});
            assign place = later[(SPARE-1)*ADDRESS_BITS+:ADDRESS_BITS];
        end else begin : g_now
            assign place = address;
        end
    endgenerate

    reg [PARTS*WIDTH-1:0] read, read_again;
    always_ff @(posedge clk) if (enable) read_again <= read;
    genvar limb, level, group;
    generate
        if (LOADS != 0) begin : g_loaded
            wire is_here = load[128] && load[127:104] == PLACE;
            for (limb = 0; limb < (WIDTH + 63) / 64; limb = limb + 1) begin : g_limb
                localparam integer LOW = 64 * limb, BITS = WIDTH - LOW < 64 ? WIDTH - LOW : 64;
                (* ram_style = STYLE *) reg [BITS-1:0] content[0:DEPTH-1];
                always_ff @(posedge clk) begin
                    if (is_here && load[103:96] == 8'(limb)) content[load[64+:ADDRESS_BITS]] <= load[BITS-1:0];
                    if (enable) read[LOW+:BITS] <= content[place];
                end
            end
        end else begin : g_constant
            (* ram_style = STYLE, rom_style = STYLE *) reg [PARTS*WIDTH-1:0] content[0:(PARTS==1?DEPTH:PART)-1];
            if (FILE != "") begin : g_file
                initial $readmemh({`TSN_MEMORIES, FILE}, content);
            end
            always_ff @(posedge clk) if (enable) read <= content[place[PART_BITS-1:0]];
        end

        // Words that are left behind each register, and which of them is meant.
        if (PARTS > 1) begin : g_parts
            /* verilator lint_off UNUSEDSIGNAL */
            wire [(LEVELS+1)*PARTS*WIDTH-1:0] words;
            reg [(LEVELS+1)*NUMBER_BITS-1:0] parts;  // of the word in the memory, in its output register ...
            /* verilator lint_on UNUSEDSIGNAL */
            assign words[0+:PARTS*WIDTH] = read_again;
            assign data = words[LEVELS*PARTS*WIDTH+:WIDTH];
            always_ff @(posedge clk) begin
                if (enable) parts <= ((LEVELS+1)*NUMBER_BITS)'({parts, NUMBER_BITS'(place[ADDRESS_BITS-1:PART_BITS])});
            end
            for (level = 0; level < LEVELS; level = level + 1) begin : g_level
                localparam integer LEFT = (PARTS + (1 << 2 * level) - 1) >> 2 * level, GROUPS = (LEFT + 3) / 4;
                wire [4*GROUPS*WIDTH-1:0] given = (4*GROUPS*WIDTH)'(words[level*PARTS*WIDTH+:LEFT*WIDTH]);
                wire [1:0] which = parts[(level+1)*NUMBER_BITS+2*level+:2];
                reg [GROUPS*WIDTH-1:0] chosen;
                for (group = 0; group < GROUPS; group = group + 1) begin : g_group
                    wire [4*WIDTH-1:0] four = given[4*group*WIDTH+:4*WIDTH];
                    wire [2*WIDTH-1:0] two = which[1] ? four[2*WIDTH+:2*WIDTH] : four[0+:2*WIDTH];
                    always_ff @(posedge clk) begin
                        if (enable) chosen[group*WIDTH+:WIDTH] <= which[0] ? two[WIDTH+:WIDTH] : two[0+:WIDTH];
                    end
                end
                assign words[(level+1)*PARTS*WIDTH+:PARTS*WIDTH] = (PARTS*WIDTH)'(chosen);
            end
        end else begin : g_whole
            assign data = read_again;
        end
    endgenerate
endmodule
