// The activations of some inferences, out of containers of CONTAINER_BITS on a bus of 64 bits. Every inference begins
// with a beat; WORDS beats an inference. With `has_headers` another beat comes before them, which names the task.
//
// `asks` hands over a header when an inference begins (without headers: `task_id`), and `leaves` tells that one is over:
// SLOTS - 1 are under way at most, so that the tasks of all of them are kept (tsn_slots). That holds nobody up for good:
// those that are under way end without what comes behind them.
module tsn_input #(
    parameter integer BITS = 8,
    parameter integer CONTAINER_BITS = 8,
    parameter integer WORDS = 1,
    parameter integer SLOTS = 2
) (
    input wire clk,
    input wire reset,
    input wire begin_call,
    input wire has_headers,
    input wire [15:0] task_id,
    input wire [31:0] count,
    output wire asks,
    output wire [63:0] header,
    input wire leaves,
    input wire s_valid,
    output wire s_ready,
    input wire [63:0] s_data,
    output wire m_valid,
    input wire m_ready,
    output wire [64/CONTAINER_BITS*BITS-1:0] m_data,
    output reg idle
);
    localparam integer WORD_BITS = WORDS > 1 ? $clog2(WORDS) : 1, SLOT_BITS = $clog2(SLOTS);
    reg [31:0] inferences;  // that are still to come
    reg [SLOT_BITS-1:0] under_way;
    reg [WORD_BITS-1:0] word;
    reg is_asked;  // for the task of the inference
    wire is_free = under_way != SLOT_BITS'(SLOTS - 1);
    wire is_header = has_headers && !is_asked, is_begun = is_asked || (is_free && !has_headers);
    wire is_last = word == WORD_BITS'(WORDS - 1), ends = m_valid && m_ready && is_last;
    assign asks = !idle && !is_asked && is_free && (s_valid || !has_headers);
    assign header = has_headers ? s_data : {48'd0, task_id};
    assign m_valid = s_valid && !idle && is_begun;
    assign s_ready = !idle && (is_header ? is_free : m_ready && is_begun);
    always_ff @(posedge clk) begin
        if (reset) begin
            inferences <= 0;
            under_way <= 0;
            word <= 0;
            is_asked <= 0;
            idle <= 1;
        end else begin
            under_way <= under_way + SLOT_BITS'(asks) - SLOT_BITS'(leaves);
            is_asked <= (is_asked || asks) && !ends;
            if (m_valid && m_ready) word <= is_last ? 0 : word + 1;
            if (begin_call) begin
                inferences <= count;
                idle <= count == 0;
            end else if (ends) begin
                inferences <= inferences - 1;
                idle <= inferences == 1;
            end
        end
    end
    genvar lane;
    generate
        for (lane = 0; lane < 64 / CONTAINER_BITS; lane = lane + 1) begin : g_lane
            assign m_data[lane*BITS+:BITS] = s_data[lane*CONTAINER_BITS+:BITS];
        end
    endgenerate
endmodule
