// A board: its clock, a serial line to a host and a light, around the accelerator. tsn_board.svh has the board's numbers.
`include "tsn_board.svh"
module tsn_board (
`ifdef TSN_HIGH_PINS  // what this board wants to be held high
    output wire [`TSN_HIGH_PINS-1:0] high,
`endif
    input wire clk,
    input wire rx,
    output wire tx,
    output wire led  // on during a command
);
`ifdef TSN_HIGH_PINS
    assign high = '1;
`endif
    // Registers begin at 0, so that this counts the first cycles.
    reg [4:0] started = 0;
    wire reset = !started[4];
    always_ff @(posedge clk) if (reset) started <= started + 1;

    wire awvalid, awready, wvalid, wready, bvalid, bready, arvalid, arready, rvalid, rready, busy, irq;
    wire [31:0] awaddr, wdata, araddr, rdata;
    wire [1:0] bresp, rresp;
    wire unused = &{1'b0, awaddr[31:9], araddr[31:9], bresp, rresp, irq};  // the host asks
    assign led = `TSN_LED_LOW ? !busy : busy;
    tsn_uartbone #(.CLOCK_HZ(`TSN_CLOCK_HZ), .BAUD(`TSN_BAUD)) i_bridge (
        .clk(clk), .reset(reset), .rx(rx), .tx(tx), .busy(busy),
        .m_axi_awvalid(awvalid), .m_axi_awready(awready), .m_axi_awaddr(awaddr),
        .m_axi_wvalid(wvalid), .m_axi_wready(wready), .m_axi_wdata(wdata),
        .m_axi_bvalid(bvalid), .m_axi_bready(bready),
        .m_axi_arvalid(arvalid), .m_axi_arready(arready), .m_axi_araddr(araddr),
        .m_axi_rvalid(rvalid), .m_axi_rready(rready), .m_axi_rdata(rdata)
    );
    tsn_mapped i_mapped (
        .aclk(clk), .aresetn(!reset),
        .s_axi_awvalid(awvalid), .s_axi_awready(awready), .s_axi_awaddr(awaddr[8:0]),
        .s_axi_wvalid(wvalid), .s_axi_wready(wready), .s_axi_wdata(wdata), .s_axi_wstrb(4'hF),
        .s_axi_bvalid(bvalid), .s_axi_bready(bready), .s_axi_bresp(bresp),
        .s_axi_arvalid(arvalid), .s_axi_arready(arready), .s_axi_araddr(araddr[8:0]),
        .s_axi_rvalid(rvalid), .s_axi_rready(rready), .s_axi_rdata(rdata), .s_axi_rresp(rresp),
        .interrupt(irq)
    );
endmodule
