// A read-only memory whose content is a file. A word takes two cycles: the memory, and the output register that block
// RAMs have.
module tsn_memory #(
    parameter integer WIDTH = 1,
    parameter integer DEPTH = 1,
    /* verilator lint_off UNUSEDPARAM */  // read by synthesis alone
    parameter STYLE = "block",
    /* verilator lint_on UNUSEDPARAM */
    parameter FILE = ""
) (
    input wire clk,
    input wire enable,
    input wire [(DEPTH > 1 ? $clog2(DEPTH) : 1)-1:0] address,
    output reg [WIDTH-1:0] data
);
    (* ram_style = STYLE, rom_style = STYLE *) reg [WIDTH-1:0] content[0:DEPTH-1];
    initial $readmemh(FILE, content);

    reg [WIDTH-1:0] read;
    always_ff @(posedge clk) begin
        if (enable) begin
            read <= content[address];
            data <= read;
        end
    end
endmodule
