// What was said of every inference when it began, for one that reads it later: a FIFO without handshakes. `said` brings
// the next word, its highest bit that there is one; no more than SLOTS - 1 wait here or elsewhere, which tsn_input sees to.
// A word is read TIMES times, and moves on with `take`.
module tsn_slots #(
    parameter integer WIDTH = 1,
    parameter integer SLOTS = 2,
    parameter integer TIMES = 1
) (
    input wire clk,
    input wire reset,
    input wire [WIDTH:0] said,
    input wire take,
    output wire is_there,
    output wire [WIDTH-1:0] data
);
    localparam integer SLOT_BITS = $clog2(SLOTS), TIME_BITS = TIMES > 1 ? $clog2(TIMES) : 1;
    reg [WIDTH-1:0] words[0:SLOTS-1];
    reg [SLOT_BITS-1:0] written, read;
    reg [TIME_BITS-1:0] taken;
    wire is_last = taken == TIME_BITS'(TIMES - 1);
    assign is_there = written != read;
    assign data = words[read];
    always_ff @(posedge clk) begin
        if (said[WIDTH]) words[written] <= said[WIDTH-1:0];
        if (reset) begin
            written <= 0;
            read <= 0;
            taken <= 0;
        end else begin
            if (said[WIDTH]) written <= written + 1;
            if (take && is_there) begin
                taken <= is_last ? 0 : taken + 1;
                if (is_last) read <= read + 1;
            end
        end
    end
endmodule
