// A stream that holds DEPTH words back. Both sides are registers, so that no path runs from one unit into the next; what
// says whether there is room or a word has registers of its own, with few readers.
module tsn_fifo #(
    parameter integer WIDTH = 1,
    parameter integer DEPTH = 2,
    parameter STYLE = "block"
) (
    input wire clk,
    input wire reset,
    input wire s_valid,
    output wire s_ready,
    input wire [WIDTH-1:0] s_data,
    output wire m_valid,
    input wire m_ready,
    output wire [WIDTH-1:0] m_data,
    output wire idle
);
    generate
        if (DEPTH == 2) begin : g_registers
            reg [WIDTH-1:0] first, second;
            reg is_there, is_open, has_two;  // no two words wait; they do, for the choice among data
            assign s_ready = is_open;
            assign m_valid = is_there;
            assign m_data = first;
            assign idle = !is_there;
            wire write = s_valid && s_ready, read = m_valid && m_ready;
            always_ff @(posedge clk) begin
                if (reset) {is_there, is_open, has_two} <= 3'b010;
                else if (write && !read) {is_there, is_open, has_two} <= {1'b1, !is_there, is_there};
                else if (read && !write) {is_there, is_open, has_two} <= {has_two, 2'b10};
                if (write) second <= s_data;
                if (read || !is_there) first <= has_two ? second : s_data;
            end
        end else begin : g_memory
            // Two more words wait: in the memory's read register and in its output register.
            localparam integer BITS = $clog2(DEPTH);
            localparam [BITS-1:0] LAST = BITS'(DEPTH - 1);
            reg [BITS-1:0] write_address, read_address;
            reg [BITS:0] count;
            reg is_open, has_words;  // what count says
            reg is_fetched, is_there;
            reg [WIDTH-1:0] there;
            wire [WIDTH-1:0] fetched;
            assign s_ready = is_open;
            assign m_valid = is_there;
            assign m_data = there;
            assign idle = !has_words && !is_fetched && !is_there;
            wire write = s_valid && s_ready, pass = !is_there || m_ready, fetch = has_words && (!is_fetched || pass);
            tsn_buffer #(.WIDTH(WIDTH), .DEPTH(DEPTH), .STYLE(STYLE)) i_buffer (
                .clk(clk), .write(write), .write_address(write_address), .write_data(s_data),
                .read(fetch), .read_address(read_address), .read_data(fetched)
            );
            always_ff @(posedge clk) begin
                if (reset) begin
                    write_address <= 0;
                    read_address <= 0;
                    count <= 0;
                    {is_open, has_words} <= 2'b10;
                    is_fetched <= 0;
                    is_there <= 0;
                end else begin
                    if (write) write_address <= write_address == LAST ? 0 : write_address + 1;
                    if (fetch) read_address <= read_address == LAST ? 0 : read_address + 1;
                    if (write && !fetch) begin
                        count <= count + 1;
                        {is_open, has_words} <= {count != (BITS + 1)'(DEPTH - 1), 1'b1};
                    end
                    if (fetch && !write) begin
                        count <= count - 1;
                        {is_open, has_words} <= {1'b1, count != 1};
                    end
                    if (fetch) is_fetched <= 1;
                    else if (pass) is_fetched <= 0;
                    if (pass) is_there <= is_fetched;
                end
                if (pass) there <= fetched;
            end
        end
    endgenerate
endmodule
