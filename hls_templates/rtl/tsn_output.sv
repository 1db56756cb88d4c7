// The logits of some inferences, ROWS each, as beats of 32 bits; TLAST on the last one of a call. `said`, when an inference
// begins: whether its header named no task that there is, and the classes of its task. Refused, all of its logits are the
// lowest number. With `wants_classes` an inference is one beat: the class with the largest logit, of equal ones the first;
// refused, it is -1. A logit is compared one cycle after it was taken, with its sign turned, as numbers without one are
// compared in a shorter path. The beat waits in a register, while the logits of the next inference arrive.
module tsn_output #(
    parameter integer ROWS = 1,
    parameter integer CLASS_BITS = 1,
    parameter integer SLOTS = 2
) (
    input wire clk,
    input wire reset,
    input wire begin_call,
    input wire [31:0] count,
    input wire wants_classes,
    input wire [CLASS_BITS+1:0] said,
    output wire leaves,  // an inference, with its last logit
    input wire s_valid,
    output wire s_ready,
    input wire [31:0] s_data,
    output wire m_axis_tvalid,
    input wire m_axis_tready,
    output wire [31:0] m_axis_tdata,
    output wire [3:0] m_axis_tkeep,
    output wire m_axis_tlast,
    output wire idle
);
    localparam integer ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1;
    reg [31:0] inferences;  // that are still to come
    reg [ROW_BITS-1:0] row, arrived_row, largest_row;
    reg [31:0] arrived, largest, told;
    reg has_arrived, is_first, is_of_class, has_ended, ends_refused, ends_call;  // of the logit that is compared
    reg has_told, told_is_last, is_over;
    wire is_refused, is_said;
    wire [CLASS_BITS-1:0] classes;
    wire unused = is_said;  // before anything of the inference arrives
    wire is_last = row == ROW_BITS'(ROWS - 1);
    wire is_largest = is_first || (is_of_class && arrived > largest);
    wire take = s_valid && s_ready;
    assign leaves = take && is_last;
    assign s_ready = wants_classes ? !(is_last && (has_ended || (has_told && !m_axis_tready))) : m_axis_tready;
    assign m_axis_tvalid = wants_classes ? has_told : s_valid;
    assign m_axis_tdata = wants_classes ? told : is_refused ? 32'h80000000 : s_data;
    assign m_axis_tkeep = 4'hF;
    assign m_axis_tlast = wants_classes ? told_is_last : is_last && inferences == 1;
    assign idle = is_over && !has_arrived && !has_told;
    tsn_slots #(.WIDTH(CLASS_BITS + 1), .SLOTS(SLOTS)) i_said (
        .clk(clk), .reset(reset), .said(said), .take(leaves), .is_there(is_said), .data({is_refused, classes})
    );
    always_ff @(posedge clk) begin
        if (reset) begin
            inferences <= 0;
            row <= 0;
            is_over <= 1;
            {has_arrived, has_ended, has_told} <= 0;
        end else begin
            has_arrived <= wants_classes && take;
            has_ended <= wants_classes && leaves;
            has_told <= has_ended || (has_told && !m_axis_tready);
            if (begin_call) begin
                inferences <= count;
                is_over <= count == 0;
            end else if (take) begin
                row <= is_last ? 0 : row + 1;
                if (is_last) begin
                    inferences <= inferences - 1;
                    is_over <= inferences == 1;
                end
            end
        end
        if (take) begin
            {arrived, arrived_row, is_first} <= {!s_data[31], s_data[30:0], row, row == 0};
            {is_of_class, ends_refused, ends_call} <= {CLASS_BITS'(row) < classes, is_refused, inferences == 1};
        end
        if (has_arrived && is_largest) {largest, largest_row} <= {arrived, arrived_row};
        if (has_ended) begin
            told <= ends_refused ? 32'hFFFFFFFF : is_largest ? 32'(arrived_row) : 32'(largest_row);
            told_is_last <= ends_call;
        end
    end
endmodule
