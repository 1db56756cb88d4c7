// A memory whose content is a file, or, with LOADS, what load packets bring. FILE is a name alone, which Vivado finds
// among the sources; for tools that look where they run, TSN_MEMORIES is defined as the folder with a slash at its end:
// "memories/".
//
// More than PART words lie in parts of as many, a power of two, each with output registers and a file of its own:
// part0000.fc1.words.mem, part0001.fc1.words.mem ..., in hexadecimal. A word takes READ_CYCLES steps of `enable`: two in
// its part, and each further one is a register behind a choice among four. Where they are too few, the last choice is
// among more, without a register.
module tsn_memory #(
    parameter integer WIDTH = 1,
    parameter integer DEPTH = 1,
    parameter integer PART = DEPTH,
    parameter integer READ_CYCLES = 2,
    parameter STYLE = "block",
    parameter FILE = "",
    parameter [23:0] PLACE = 0,  // number of its kind, number of its unit
    parameter integer LOADS = 0
) (
    input wire clk,
    input wire enable,
    input wire [(DEPTH > 1 ? $clog2(DEPTH) : 1)-1:0] address,
    input wire [128:0] load,
    output wire [WIDTH-1:0] data
);
    localparam integer PART_BITS = $clog2(PART), PARTS = (DEPTH + PART - 1) / PART;
    localparam integer LEVELS = READ_CYCLES - 2;
    localparam integer CHOICE_BITS = PARTS > 1 ? $clog2(PARTS) : 1;

    function automatic [7:0] digit(input integer number);
        digit = 8'(number % 16 < 10 ? "0" + number % 16 : "a" + number % 16 - 10);
    endfunction

    // Words after 0, 1 ... choices, and the parts that are still to be chosen from.
    /* verilator lint_off UNUSEDSIGNAL */
    wire [(LEVELS+1)*PARTS*WIDTH-1:0] words;
    wire [(LEVELS+1)*CHOICE_BITS-1:0] choices;
    /* verilator lint_on UNUSEDSIGNAL */
    genvar part, level, group;
    generate
        if (PARTS == 1) begin : g_whole
            tsn_part #(
                .WIDTH(WIDTH), .DEPTH(DEPTH), .STYLE(STYLE), .FILE(FILE), .PLACE(PLACE), .PART(PART),
                .LOADS(LOADS)
            ) i_part (
                .clk(clk), .enable(enable), .address(address), .load(load), .data(words[WIDTH-1:0])
            );
            assign choices[0+:CHOICE_BITS] = 0;
        end else begin : g_parts
            for (part = 0; part < PARTS; part = part + 1) begin : g_part
                localparam integer WORDS = DEPTH - part * PART < PART ? DEPTH - part * PART : PART;
                localparam integer ADDRESS_BITS = WORDS > 1 ? $clog2(WORDS) : 1;
                localparam [31:0] NUMBER = {digit(part >> 12), digit(part >> 8), digit(part >> 4), digit(part)};
                tsn_part #(
                    .WIDTH(WIDTH), .DEPTH(WORDS), .STYLE(STYLE), .FILE({"part", NUMBER, ".", FILE}), .PLACE(PLACE),
                    .PART(PART), .NUMBER(part), .LOADS(LOADS)
                ) i_part (
                    .clk(clk), .enable(enable), .address(address[ADDRESS_BITS-1:0]), .load(load),
                    .data(words[part*WIDTH+:WIDTH])
                );
            end
            reg [CHOICE_BITS-1:0] choice, choice_again;
            always_ff @(posedge clk) begin
                if (enable) begin
                    choice <= address[PART_BITS+:CHOICE_BITS];
                    choice_again <= choice;
                end
            end
            assign choices[0+:CHOICE_BITS] = choice_again;
        end
        for (level = 0; level < LEVELS; level = level + 1) begin : g_level
            localparam integer LEFT = (PARTS + (1 << 2 * level) - 1) >> 2 * level;
            for (group = 0; group < PARTS; group = group + 1) begin : g_group
                if (group < (LEFT + 3) / 4) begin : g_choice
                    reg [WIDTH-1:0] word, chosen;
                    integer i;
                    always_comb begin
                        word = words[(level*PARTS+4*group)*WIDTH+:WIDTH];
                        for (i = 1; i < 4 && 4 * group + i < LEFT; i = i + 1) begin
                            if (32'(choices[level*CHOICE_BITS+:CHOICE_BITS]) % 4 == i) begin
                                word = words[(level*PARTS+4*group+i)*WIDTH+:WIDTH];
                            end
                        end
                    end
                    always_ff @(posedge clk) if (enable) chosen <= word;
                    assign words[((level+1)*PARTS+group)*WIDTH+:WIDTH] = chosen;
                end else begin : g_none
                    assign words[((level+1)*PARTS+group)*WIDTH+:WIDTH] = 0;
                end
            end
            reg [CHOICE_BITS-1:0] choice;
            always_ff @(posedge clk) if (enable) choice <= choices[level*CHOICE_BITS+:CHOICE_BITS] >> 2;
            assign choices[(level+1)*CHOICE_BITS+:CHOICE_BITS] = choice;
        end
        if (PARTS > 1 << 2 * LEVELS) begin : g_last
            assign data = words[(LEVELS*PARTS+32'(choices[LEVELS*CHOICE_BITS+:CHOICE_BITS]))*WIDTH+:WIDTH];
        end else begin : g_chosen
            assign data = words[LEVELS*PARTS*WIDTH+:WIDTH];
        end
    endgenerate
endmodule
