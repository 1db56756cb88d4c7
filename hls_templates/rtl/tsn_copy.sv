// Every word to two readers.
module tsn_copy #(
    parameter integer WIDTH = 1
) (
    input wire s_valid,
    output wire s_ready,
    input wire [WIDTH-1:0] s_data,
    output wire first_valid,
    input wire first_ready,
    output wire second_valid,
    input wire second_ready,
    output wire [WIDTH-1:0] m_data
);
    assign s_ready = first_ready && second_ready;
    assign first_valid = s_valid && second_ready;
    assign second_valid = s_valid && first_ready;
    assign m_data = s_data;
endmodule
