// Takes the beats of a load, and tells all memories of every limb that one of them has to write. A load is whole if its
// first beat says its task and the beats of the call, and its last one is the CRC-32 of all others, which begins with
// DESIGN. Packets stand between.
//
// A packet is a header and the limbs of a line: bits 15..0 number of the unit, 23..16 kind of memory, 31..24 limbs,
// 63..32 address. SHAPES lists the memories that are written in the same way, with their depth in place of an address.
// `load`: bit 128 that there is a limb, then kind and unit, the number of the limb, the address of the line, the limb.
module tsn_loader #(
    parameter integer MEMORIES = 1,
    parameter [64*MEMORIES-1:0] SHAPES = 0,
    parameter [31:0] DESIGN = 0
) (
    input wire clk,
    input wire reset,
    input wire begin_load,
    input wire [15:0] task_id,
    input wire [31:0] count,
    input wire s_valid,
    output wire s_ready,
    input wire [63:0] s_data,
    output reg [128:0] load,
    output wire idle,
    output reg is_refused
);
    reg [31:0] beats, address, crc;  // beats that are still to come
    reg [23:0] place;
    reg [7:0] left, limb;       // limbs of the packet that are still to come, and the number of the next
    reg is_first, is_taken;
    wire step = s_valid && s_ready, is_last = beats == 1;
    wire is_packet = !is_first && !is_last, is_header = is_packet && left == 0;
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
    wire [31:0] crc_after;
    tsn_crc i_crc (.crc(crc), .beat(s_data), .after(crc_after));
    reg is_wrong;
    always_comb begin
        if (is_first) is_wrong = is_last || s_data != {beats, 16'd0, task_id};
        else if (is_last) is_wrong = left != 0 || s_data != {32'd0, ~crc};
        else is_wrong = is_header && !fits;
    end
    always_ff @(posedge clk) begin
        if (reset) beats <= 0;
        else if (begin_load) beats <= count;
        else if (step) beats <= beats - 1;
        if (begin_load) begin
            {is_first, left, crc} <= {1'b1, 8'd0, ~DESIGN};
            is_refused <= count == 0;
        end else if (step) begin
            is_first <= 0;
            crc <= crc_after;
            if (is_packet) left <= is_header ? s_data[31:24] : left - 1;
            if (is_wrong) is_refused <= 1;
        end
        if (step && is_header) begin
            {address, place, is_taken} <= {s_data[63:32], s_data[23:0], fits};
            limb <= 0;
        end else if (step) begin
            limb <= limb + 1;
        end
        load <= {!reset && step && is_packet && !is_header && is_taken, place, limb, address, s_data};
    end
endmodule
