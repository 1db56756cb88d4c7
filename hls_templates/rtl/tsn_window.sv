// Sliding window: pixels in raster order in, the windows of a convolution or pooling out, one word a cycle. The schedule
// is that of hls_templates/tsn/window.hpp: load the rows that the first output row needs, and the first row in any case,
// so that nothing begins before the input does; then, for every output row, send its windows while loading what the next
// one needs, and at last what is left. Rows lie in a ring.
//
// PARTS words a pixel. A window goes out pixel by pixel, or, with BY_PART, part by part.
module tsn_window #(
    parameter integer WORD_WIDTH = 1,
    parameter integer HEIGHT = 1,
    parameter integer WIDTH = 1,
    parameter integer PARTS = 1,
    parameter integer KERNEL_ROWS = 1,
    parameter integer KERNEL_COLUMNS = 1,
    parameter integer STRIDE_ROWS = 1,
    parameter integer STRIDE_COLUMNS = 1,
    parameter integer PADDING_ROWS = 0,
    parameter integer PADDING_COLUMNS = 0,
    parameter integer OUTPUT_ROWS = 1,
    parameter integer OUTPUT_COLUMNS = 1,
    parameter integer BY_PART = 0,
    parameter WINDOW_STYLE = "block"
) (
    input wire clk,
    input wire reset,
    input wire s_valid,
    output wire s_ready,
    input wire [WORD_WIDTH-1:0] s_data,
    output reg m_valid,
    input wire m_ready,
    output wire [WORD_WIDTH-1:0] m_data,
    output wire step,
    output wire idle
);
    function automatic integer rows_needed(input integer row);
        rows_needed = row * STRIDE_ROWS - PADDING_ROWS + KERNEL_ROWS;
        if (rows_needed < 1) rows_needed = 1;
        if (row == OUTPUT_ROWS || rows_needed > HEIGHT) rows_needed = HEIGHT;
    endfunction

    localparam integer RING_ROWS = KERNEL_ROWS + STRIDE_ROWS, ROW_WORDS = WIDTH * PARTS, RING = RING_ROWS * ROW_WORDS;
    localparam integer WINDOW_WORDS = KERNEL_ROWS * KERNEL_COLUMNS * PARTS, SENDS = OUTPUT_COLUMNS * WINDOW_WORDS;
    localparam integer PHASES = 1 + OUTPUT_ROWS;  // phase 0 loads alone; then there is one for every output row
    localparam integer FIRST_ROW = (RING_ROWS - PADDING_ROWS % RING_ROWS) % RING_ROWS * ROW_WORDS;
    localparam integer OUTER = BY_PART != 0 ? PARTS : 1, INNER = BY_PART != 0 ? 1 : PARTS;

    // Words that are loaded and sent in a phase.
    function automatic integer loads_of(input integer phase);
        loads_of = (rows_needed(phase) - (phase == 0 ? 0 : rows_needed(phase - 1))) * ROW_WORDS;
    endfunction

    localparam integer PHASE_BITS = $clog2(PHASES + 1), LOAD_BITS = $clog2(HEIGHT * ROW_WORDS + 1);
    localparam integer SEND_BITS = $clog2(SENDS + 1), RING_BITS = $clog2(RING + 1);
    localparam integer Y_BITS = $clog2(OUTPUT_ROWS * STRIDE_ROWS + KERNEL_ROWS + PADDING_ROWS + HEIGHT + 1);
    localparam integer X_BITS = $clog2(
        (OUTPUT_COLUMNS * STRIDE_COLUMNS + KERNEL_COLUMNS + PADDING_COLUMNS + WIDTH) * PARTS + RING + 1
    );
    localparam integer ROWS_BITS = $clog2(KERNEL_ROWS + 1), COLUMNS_BITS = $clog2(KERNEL_COLUMNS + 1);
    localparam integer PART_BITS = $clog2(PARTS + 1);

    reg [PHASE_BITS-1:0] phase;
    reg [LOAD_BITS-1:0] loads;
    reg [SEND_BITS-1:0] sends;
    reg [RING_BITS-1:0] loaded_to, top_row, row;  // places in the ring: of the next word, of rows that are sent
    reg [Y_BITS-1:0] top;                         // the window's first row, padding included
    reg [X_BITS-1:0] left, column;                // its first column and the one that is sent, in words
    reg [ROWS_BITS-1:0] kernel_row;
    reg [COLUMNS_BITS-1:0] kernel_column;
    reg [PART_BITS-1:0] outer, inner;

    wire enable = !m_valid || m_ready;
    wire is_load = loads != 0, is_send = sends != 0;
    assign step = enable && (!is_load || s_valid);
    assign s_ready = enable && is_load;
    wire is_end = loads <= LOAD_BITS'(1) && sends <= SEND_BITS'(1);  // of the phase, with this step
    wire is_last_phase = phase == PHASE_BITS'(PHASES - 1);
    wire [PHASE_BITS-1:0] next_phase = is_last_phase ? 0 : phase + 1;

    reg [LOAD_BITS-1:0] next_loads;
    integer i;
    always_comb begin
        next_loads = 0;
        for (i = 0; i < PHASES; i = i + 1) begin
            if (next_phase == PHASE_BITS'(i)) next_loads = LOAD_BITS'(loads_of(i));
        end
    end
    wire [SEND_BITS-1:0] next_sends = is_last_phase ? 0 : SEND_BITS'(SENDS);

    function automatic [RING_BITS-1:0] around(input [RING_BITS-1:0] place, input integer rows);
        integer sum;
        sum = 32'(place) + rows * ROW_WORDS;
        around = RING_BITS'(sum >= RING ? sum - RING : sum);
    endfunction

    always_ff @(posedge clk) begin
        if (reset) begin
            phase <= 0;
            loads <= LOAD_BITS'(loads_of(0));
            sends <= 0;
        end else if (step) begin
            if (is_end) begin
                phase <= next_phase;
                loads <= next_loads;
                sends <= next_sends;
            end else begin
                if (is_load) loads <= loads - 1;
                if (is_send) sends <= sends - 1;
            end
        end
    end

    // ---------------------------------------------------------------- where the next word comes to, and goes from
    wire is_last_inner = inner == PART_BITS'(INNER - 1), is_last_outer = outer == PART_BITS'(OUTER - 1);
    wire is_last_column = kernel_column == COLUMNS_BITS'(KERNEL_COLUMNS - 1);
    wire is_last_row = kernel_row == ROWS_BITS'(KERNEL_ROWS - 1);
    wire is_restart = reset || (step && is_end && is_last_phase);
    always_ff @(posedge clk) begin
        if (is_restart) begin
            loaded_to <= 0;
            top <= 0;
            top_row <= RING_BITS'(FIRST_ROW);
        end else if (step) begin
            if (is_load) loaded_to <= loaded_to == RING_BITS'(RING - 1) ? 0 : loaded_to + 1;
            if (is_end && phase != 0) begin
                top <= top + Y_BITS'(STRIDE_ROWS);
                top_row <= around(top_row, STRIDE_ROWS);
            end
        end
        if (is_restart) row <= RING_BITS'(FIRST_ROW);
        else if (step && is_end && phase != 0) row <= around(top_row, STRIDE_ROWS);
        else if (step && is_send && is_last_inner && is_last_column) row <= is_last_row ? top_row : around(row, 1);

        if (reset || (step && is_end)) begin
            inner <= 0;
            outer <= 0;
            kernel_column <= 0;
            kernel_row <= 0;
            left <= 0;
            column <= 0;
        end else if (step && is_send) begin
            inner <= is_last_inner ? 0 : inner + 1;
            if (is_last_inner) begin
                kernel_column <= is_last_column ? 0 : kernel_column + 1;
                column <= is_last_column ? left : column + X_BITS'(PARTS);
                if (is_last_column) begin
                    kernel_row <= is_last_row ? 0 : kernel_row + 1;
                    if (is_last_row) begin
                        outer <= is_last_outer ? 0 : outer + 1;
                        if (is_last_outer) begin
                            left <= left + X_BITS'(STRIDE_COLUMNS * PARTS);
                            column <= left + X_BITS'(STRIDE_COLUMNS * PARTS);
                        end
                    end
                end
            end
        end
    end

    // ---------------------------------------------------------------- the ring
    localparam integer ADDRESS_BITS = $clog2(RING);
    localparam [X_BITS-1:0] BEFORE = X_BITS'(PADDING_COLUMNS * PARTS);
    wire [Y_BITS-1:0] y = top + Y_BITS'(kernel_row);
    wire is_row = y - Y_BITS'(PADDING_ROWS) < Y_BITS'(HEIGHT);  // below 0 is far above
    wire is_column = column - BEFORE < X_BITS'(ROW_WORDS);
    wire [ADDRESS_BITS-1:0] address = ADDRESS_BITS'(X_BITS'(row) + column - BEFORE + X_BITS'(outer) + X_BITS'(inner));
    reg is_inside;
    wire [WORD_WIDTH-1:0] word;
    tsn_buffer #(.WIDTH(WORD_WIDTH), .DEPTH(RING), .STYLE(WINDOW_STYLE)) i_ring (
        .clk(clk), .write(step && is_load), .write_address(loaded_to[ADDRESS_BITS-1:0]), .write_data(s_data),
        .read(step && is_send && is_row && is_column), .read_address(address), .read_data(word)
    );
    always_ff @(posedge clk) begin
        if (reset) m_valid <= 0;
        else if (enable) m_valid <= step && is_send;
        if (step) is_inside <= is_row && is_column;
    end
    assign m_data = is_inside ? word : 0;

    reg is_between;  // inferences
    always_ff @(posedge clk) begin
        if (reset) is_between <= 1;
        else if (step) is_between <= is_end && is_last_phase;
    end
    assign idle = is_between && !m_valid;
endmodule
