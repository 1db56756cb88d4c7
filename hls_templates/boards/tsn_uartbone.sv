// Reads and writes of a bus from a serial line (8 bits, no parity): the UARTBone of LiteX, so that its tools speak to it.
//
// A command: 1 write, 2 read; 3, 4 the same without counting the address up; a byte with the number of words, the address
// in words (4 bytes, the highest first), and of a write the words (the highest byte first). Reads answer with words.
// What comes while the bus waits is kept, up to 512 bytes. A command whose bytes do not come for 2**20 cycles is forgotten,
// so that a host that broke off can begin again; so is one that the bus does not answer for 2**26, with what was kept.
module tsn_uartbone #(
    parameter integer CLOCK_HZ = 25000000,
    parameter integer BAUD = 115200
) (
    input wire clk,
    input wire reset,
    input wire rx,
    output wire tx,
    output wire busy,
    output wire m_axi_awvalid,
    input wire m_axi_awready,
    output wire [31:0] m_axi_awaddr,
    output wire m_axi_wvalid,
    input wire m_axi_wready,
    output wire [31:0] m_axi_wdata,
    input wire m_axi_bvalid,
    output wire m_axi_bready,
    output wire m_axi_arvalid,
    input wire m_axi_arready,
    output wire [31:0] m_axi_araddr,
    input wire m_axi_rvalid,
    output wire m_axi_rready,
    input wire [31:0] m_axi_rdata
);
    localparam integer PERIOD = (CLOCK_HZ + BAUD / 2) / BAUD;
    localparam integer BITS = $clog2(PERIOD + 1);
    localparam [BITS-1:0] WHOLE = BITS'(PERIOD - 1), HALF = BITS'(PERIOD / 2);

    // ---------------------------------------------------------------- bytes that come: each bit is read in its middle
    reg [2:0] line;
    reg [BITS-1:0] rx_wait;
    reg [3:0] rx_bits;  // still to come, the start bit among them; 0: none does
    reg [8:0] rx_shift;
    reg has_byte;
    always_ff @(posedge clk) begin
        line <= {line[1:0], rx};
        has_byte <= 0;
        if (reset) begin
            line <= '1;
            rx_bits <= 0;
        end else if (rx_bits == 0) begin
            rx_wait <= HALF;
            if (!line[2]) rx_bits <= 10;
        end else if (rx_wait != 0) begin
            rx_wait <= rx_wait - 1;
        end else begin
            rx_wait <= WHOLE;
            rx_bits <= rx_bits == 10 && line[2] ? 0 : rx_bits - 1;  // a start bit that was none
            rx_shift <= {line[2], rx_shift[8:1]};
            has_byte <= rx_bits == 1 && line[2];
        end
    end

    wire is_forgotten, fifo_ready, fifo_idle, come;
    wire [7:0] letter;
    wire take;
    wire unused = &{1'b0, fifo_ready, fifo_idle};
    tsn_fifo #(.WIDTH(8), .DEPTH(512), .STYLE("block")) i_kept (
        .clk(clk), .reset(reset || is_forgotten), .s_valid(has_byte), .s_ready(fifo_ready), .s_data(rx_shift[7:0]),
        .m_valid(come), .m_ready(take), .m_data(letter), .idle(fifo_idle)
    );

    // ---------------------------------------------------------------- bytes that go
    reg [BITS-1:0] tx_wait;
    reg [3:0] tx_bits;
    reg [8:0] tx_shift = '1;  // the line is quiet from the start
    wire tx_ready = tx_bits == 0;
    wire send;
    reg [31:0] word;
    assign tx = tx_shift[0];
    always_ff @(posedge clk) begin
        if (reset) begin
            tx_bits <= 0;
            tx_shift <= '1;
        end else if (tx_ready) begin
            tx_wait <= WHOLE;
            if (send) {tx_bits, tx_shift} <= {4'd10, word[31:24], 1'b0};
        end else if (tx_wait != 0) begin
            tx_wait <= tx_wait - 1;
        end else begin
            tx_wait <= WHOLE;
            tx_bits <= tx_bits - 1;
            tx_shift <= {1'b1, tx_shift[8:1]};
        end
    end

    // ---------------------------------------------------------------- commands
    localparam [2:0] COMMAND = 0, LENGTH = 1, ADDRESS = 2, DATA = 3, WRITE = 4, READ = 5, ANSWER = 6;
    reg [2:0] state;
    reg is_write, is_fixed, is_asked;
    reg [7:0] words;
    reg [1:0] bytes;
    reg [31:0] address;
    reg [26:0] still;
    assign is_forgotten = take ? still[20] : still[26];
    assign busy = state != COMMAND;
    assign take = state <= DATA;
    assign send = state == ANSWER && tx_ready;
    assign m_axi_awvalid = state == WRITE && !is_asked;
    assign m_axi_wvalid = m_axi_awvalid;
    assign m_axi_awaddr = {address[29:0], 2'b00};
    assign m_axi_wdata = word;
    assign m_axi_bready = 1;
    assign m_axi_arvalid = state == READ && !is_asked;
    assign m_axi_araddr = m_axi_awaddr;
    assign m_axi_rready = 1;
    wire is_last = words == 1;
    wire [31:0] next_address = is_fixed ? address : address + 1;
    always_ff @(posedge clk) begin
        if (state == COMMAND || (take && come) || send) still <= 0;
        else still <= still + 1;
        if (reset || is_forgotten) begin
            state <= COMMAND;
            is_asked <= 0;
            still <= 0;
        end else begin
            case (state)
                COMMAND: if (come && letter >= 1 && letter <= 4) begin
                    state <= LENGTH;
                    is_write <= letter[0];
                    is_fixed <= letter >= 3;
                end
                LENGTH: if (come) begin
                    state <= letter == 0 ? COMMAND : ADDRESS;
                    words <= letter;
                    bytes <= 0;
                end
                ADDRESS: if (come) begin
                    address <= {address[23:0], letter};
                    bytes <= bytes + 1;
                    if (bytes == 3) state <= is_write ? DATA : READ;
                end
                DATA: if (come) begin
                    word <= {word[23:0], letter};
                    bytes <= bytes + 1;
                    if (bytes == 3) state <= WRITE;
                end
                WRITE: begin
                    if (m_axi_awready && m_axi_wready) is_asked <= 1;
                    if (is_asked && m_axi_bvalid) begin
                        is_asked <= 0;
                        words <= words - 1;
                        address <= next_address;
                        state <= is_last ? COMMAND : DATA;
                    end
                end
                READ: begin
                    if (m_axi_arready) is_asked <= 1;
                    if (is_asked && m_axi_rvalid) begin
                        is_asked <= 0;
                        word <= m_axi_rdata;
                        state <= ANSWER;
                    end
                end
                default: if (tx_ready) begin
                    word <= word << 8;
                    bytes <= bytes + 1;
                    if (bytes == 3) begin
                        words <= words - 1;
                        address <= next_address;
                        state <= is_last ? COMMAND : READ;
                    end
                end
            endcase
        end
    end
endmodule
