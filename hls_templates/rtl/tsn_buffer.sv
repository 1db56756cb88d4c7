// A memory with one port to write and one to read. Nobody reads a word while it is written.
module tsn_buffer #(
    parameter integer WIDTH = 1,
    parameter integer DEPTH = 2,
    /* verilator lint_off UNUSEDPARAM */  // read by synthesis alone
    parameter STYLE = "block"
    /* verilator lint_on UNUSEDPARAM */
) (
    input wire clk,
    input wire write,
    input wire [(DEPTH > 1 ? $clog2(DEPTH) : 1)-1:0] write_address,
    input wire [WIDTH-1:0] write_data,
    input wire read,
    input wire [(DEPTH > 1 ? $clog2(DEPTH) : 1)-1:0] read_address,
    output reg [WIDTH-1:0] read_data
);
    (* ram_style = STYLE, no_rw_check *) reg [WIDTH-1:0] content[0:DEPTH-1];
    always_ff @(posedge clk) begin
        if (write) content[write_address] <= write_data;
        if (read) read_data <= content[read_address];
    end
endmodule
