// What simulation sees of a unit, on standard output: every word that it sends, and its steps when a call ends.
module tsn_watch #(
    parameter integer INDEX = 0,
    parameter LOOP = "unit",
    parameter integer WIDTH = 1
) (
    input wire clk,
    input wire reset,
    input wire step,
    input wire sent,
    input wire [WIDTH-1:0] data,
    input wire done
);
    reg [63:0] steps;
    always @(posedge clk) begin
        if (reset || done) steps <= 0;
        else if (step) steps <= steps + 1;
        if (!reset && sent) $display("word %0d %h", INDEX, data);
        if (!reset && done) $display("steps %0d %s %0d", INDEX, LOOP, steps);
    end
endmodule
