// What simulation sees of a loop and its output: the steps since the call began, and the words that are sent; else 0.
module tsn_watch #(
    parameter integer WIDTH = 1
) (
    input wire clk,
    input wire begin_call,
    input wire step,
    input wire sends,
    input wire [WIDTH-1:0] data,
    output reg [31:0] steps,
    output wire sent,
    output wire [(WIDTH+3)/4*4-1:0] word
);
    always_ff @(posedge clk) begin
        if (begin_call) steps <= 0;
        else if (step) steps <= steps + 1;
    end
    assign sent = sends;
    assign word = sends ? ((WIDTH + 3) / 4 * 4)'(data) : 0;
endmodule
