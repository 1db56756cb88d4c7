// The largest of every AREA words, lane by lane.
module tsn_max_pool #(
    parameter integer PE = 1,
    parameter integer INPUT_BITS = 1,
    parameter integer INPUT_SIGNED = 0,
    parameter integer AREA = 1
) (
    input wire clk,
    input wire reset,
    input wire s_valid,
    output wire s_ready,
    input wire [PE*INPUT_BITS-1:0] s_data,
    output reg m_valid,
    input wire m_ready,
    output reg [PE*INPUT_BITS-1:0] m_data,
    output wire step,
    output wire idle
);
    localparam integer SEEN_BITS = AREA > 1 ? $clog2(AREA) : 1;
    reg [SEEN_BITS-1:0] seen;
    wire enable = !m_valid || m_ready, is_last = seen == SEEN_BITS'(AREA - 1);
    assign s_ready = enable;
    assign step = enable && s_valid;
    assign idle = seen == 0 && !m_valid;
    always_ff @(posedge clk) begin
        if (reset) begin
            seen <= 0;
            m_valid <= 0;
        end else if (enable) begin
            if (step) seen <= is_last ? 0 : seen + 1;
            m_valid <= step && is_last;
        end
    end
    genvar p;
    generate
        for (p = 0; p < PE; p = p + 1) begin : g_lane
            wire signed [INPUT_BITS:0] arrived, largest;
            tsn_lane #(.BITS(INPUT_BITS), .SIGNED(INPUT_SIGNED), .WIDE(INPUT_BITS + 1)) i_arrived (
                .activation(s_data[p*INPUT_BITS+:INPUT_BITS]), .number(arrived)
            );
            tsn_lane #(.BITS(INPUT_BITS), .SIGNED(INPUT_SIGNED), .WIDE(INPUT_BITS + 1)) i_largest (
                .activation(m_data[p*INPUT_BITS+:INPUT_BITS]), .number(largest)
            );
            always_ff @(posedge clk) begin
                if (step && (seen == 0 || arrived > largest)) begin
                    m_data[p*INPUT_BITS+:INPUT_BITS] <= s_data[p*INPUT_BITS+:INPUT_BITS];
                end
            end
        end
    endgenerate
endmodule
