// Words of FROM lanes to words of TO lanes, BITS each. An inference has ELEMENTS lanes, and what its last word holds
// beyond them is dropped. A step reads a word if too few lanes wait to write one, and writes one if enough do. GRAIN
// divides FROM and TO.
module tsn_convert #(
    parameter integer FROM = 1,
    parameter integer TO = 1,
    parameter integer BITS = 1,
    parameter integer ELEMENTS = 1,
    parameter integer GRAIN = 1
) (
    input wire clk,
    input wire reset,
    input wire s_valid,
    output wire s_ready,
    input wire [FROM*BITS-1:0] s_data,
    output wire m_valid,
    input wire m_ready,
    output wire [TO*BITS-1:0] m_data,
    output reg idle
);
    localparam integer READS = (ELEMENTS + FROM - 1) / FROM, WRITES = ELEMENTS / TO;
    localparam integer STEPS = READS > WRITES ? READS : WRITES;
    localparam integer STEP_BITS = STEPS > 1 ? $clog2(STEPS) : 1;
    localparam integer PLACES = TO / GRAIN, FROM_PLACES = FROM / GRAIN;
    localparam integer COUNT_BITS = $clog2(PLACES + FROM_PLACES + 1);

    reg [(FROM+TO)*BITS-1:0] waiting;
    reg [COUNT_BITS-1:0] count;  // grains that wait
    reg [STEP_BITS-1:0] position;

    wire is_short = count < COUNT_BITS'(PLACES);
    wire [COUNT_BITS-1:0] filled = is_short ? count + COUNT_BITS'(FROM_PLACES) : count;
    wire is_full = filled >= COUNT_BITS'(PLACES);
    wire step = (!is_short || s_valid) && (!is_full || m_ready);
    wire is_last = position == STEP_BITS'(STEPS - 1);

    reg [(FROM+TO)*BITS-1:0] joined;
    integer place;
    always_comb begin
        joined = waiting;
        for (place = 0; place < PLACES; place = place + 1) begin
            if (count == COUNT_BITS'(place)) joined[place*GRAIN*BITS+:FROM*BITS] = s_data;
        end
    end

    assign s_ready = is_short && step;
    assign m_valid = is_full && (!is_short || s_valid);
    assign m_data = joined[TO*BITS-1:0];
    always_ff @(posedge clk) begin
        if (reset) begin
            count <= 0;
            position <= 0;
            idle <= 1;
        end else if (step) begin
            count <= is_last ? 0 : is_full ? filled - COUNT_BITS'(PLACES) : filled;
            position <= is_last ? 0 : position + 1;
            idle <= is_last;
        end
        if (step) waiting <= is_full ? joined >> TO * BITS : joined;
    end
endmodule
