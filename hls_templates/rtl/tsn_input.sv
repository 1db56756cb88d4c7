// The activations of some inferences, out of containers of CONTAINER_BITS on a bus of 64 bits. Every inference begins
// with a beat; WORDS beats an inference.
module tsn_input #(
    parameter integer BITS = 8,
    parameter integer CONTAINER_BITS = 8,
    parameter integer WORDS = 1
) (
    input wire clk,
    input wire reset,
    input wire begin_call,
    input wire [31:0] count,
    input wire s_valid,
    output wire s_ready,
    /* verilator lint_off UNUSEDSIGNAL */  // activations narrower than their containers
    input wire [63:0] s_data,
    /* verilator lint_on UNUSEDSIGNAL */
    output wire m_valid,
    input wire m_ready,
    output wire [64/CONTAINER_BITS*BITS-1:0] m_data,
    output reg idle
);
    localparam integer WORD_BITS = WORDS > 1 ? $clog2(WORDS) : 1;
    reg [31:0] inferences;  // that are still to come
    reg [WORD_BITS-1:0] word;
    wire is_last = word == WORD_BITS'(WORDS - 1);
    assign m_valid = s_valid && !idle;
    assign s_ready = m_ready && !idle;
    always_ff @(posedge clk) begin
        if (reset) begin
            inferences <= 0;
            word <= 0;
            idle <= 1;
        end else if (begin_call) begin
            inferences <= count;
            idle <= count == 0;
        end else if (m_valid && m_ready) begin
            word <= is_last ? 0 : word + 1;
            if (is_last) begin
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
