// The logits of some inferences, ROWS each, as beats of 32 bits; TLAST on the last one of a call. `said`, when an inference
// begins: whether its header named no task that there is. Then all of its logits are the lowest number.
module tsn_output #(
    parameter integer ROWS = 1,
    parameter integer SLOTS = 2
) (
    input wire clk,
    input wire reset,
    input wire begin_call,
    input wire [31:0] count,
    input wire [1:0] said,
    output wire leaves,  // an inference, with its last logit
    input wire s_valid,
    output wire s_ready,
    input wire [31:0] s_data,
    output wire m_axis_tvalid,
    input wire m_axis_tready,
    output wire [31:0] m_axis_tdata,
    output wire [3:0] m_axis_tkeep,
    output wire m_axis_tlast,
    output reg idle
);
    localparam integer ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1;
    reg [31:0] inferences;  // that are still to come
    reg [ROW_BITS-1:0] row;
    wire is_refused, is_said;
    wire unused = is_said;  // before anything of the inference arrives
    wire is_last = row == ROW_BITS'(ROWS - 1);
    assign leaves = s_valid && m_axis_tready && is_last;
    assign s_ready = m_axis_tready;
    assign m_axis_tvalid = s_valid;
    assign m_axis_tdata = is_refused ? 32'h80000000 : s_data;
    assign m_axis_tkeep = 4'hF;
    assign m_axis_tlast = is_last && inferences == 1;
    tsn_slots #(.WIDTH(1), .SLOTS(SLOTS)) i_refused (
        .clk(clk), .reset(reset), .said(said), .take(leaves), .is_there(is_said), .data(is_refused)
    );
    always_ff @(posedge clk) begin
        if (reset) begin
            inferences <= 0;
            row <= 0;
            idle <= 1;
        end else if (begin_call) begin
            inferences <= count;
            idle <= count == 0;
        end else if (s_valid && m_axis_tready) begin
            row <= is_last ? 0 : row + 1;
            if (is_last) begin
                inferences <= inferences - 1;
                idle <= inferences == 1;
            end
        end
    end
endmodule
