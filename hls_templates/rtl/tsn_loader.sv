// Takes the load packets of a call, and tells all memories of every limb that one of them has to write.
//
// A packet is a header and the limbs of a line: bits 15..0 number of the unit, 23..16 kind of memory, 31..24 limbs,
// 63..32 address. SHAPES lists the memories that are written in the same way, with their depth in place of an address.
// `load`: bit 128 that there is a limb, then kind and unit, the number of the limb, the address of the line, the limb.
module tsn_loader #(
    parameter integer MEMORIES = 1,
    parameter [64*MEMORIES-1:0] SHAPES = 0
) (
    input wire clk,
    input wire reset,
    input wire begin_load,
    input wire [31:0] count,
    input wire s_valid,
    output wire s_ready,
    input wire [63:0] s_data,
    output reg [128:0] load,
    output wire idle,
    output reg is_refused
);
    reg [31:0] beats, address;  // beats that are still to come
    reg [23:0] place;
    reg [7:0] left, limb;       // limbs of the packet that are still to come, and the number of the next
    reg is_taken;
    wire step = s_valid && s_ready, is_header = left == 0;
    assign s_ready = beats != 0;
    assign idle = beats == 0 && !load[128];

    reg fits;
    integer i;
    always_comb begin
        fits = 0;
        for (i = 0; i < MEMORIES; i = i + 1) begin
            if (s_data[31:0] == SHAPES[64*i+:32] && s_data[63:32] < SHAPES[64*i+32+:32]) fits = 1;
        end
    end
    wire [7:0] left_after = is_header ? s_data[31:24] : left - 1;
    always_ff @(posedge clk) begin
        if (reset) begin
            beats <= 0;
            left <= 0;
        end else if (begin_load) begin
            beats <= count;
            left <= 0;
        end else if (step) begin
            beats <= beats - 1;
            left <= left_after;
        end
        if (begin_load) is_refused <= 0;
        else if (step && ((is_header && !fits) || (beats == 1 && left_after != 0))) is_refused <= 1;
        if (step && is_header) begin
            {address, place, is_taken} <= {s_data[63:32], s_data[23:0], fits};
            limb <= 0;
        end else if (step) begin
            limb <= limb + 1;
        end
        load <= {!reset && step && !is_header && is_taken, place, limb, address, s_data};
    end
endmodule
