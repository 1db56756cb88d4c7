// An instance of the accelerator with all of its ports, to be copied. This module lints and does nothing else.
module tsn_instance (
    input wire aclk,
    input wire aresetn,  // low for a cycle or more before the first call
    // AXI4-Lite, 32 bits: tsn_registers.rdl
    input wire s_axi_control_awvalid,
    output wire s_axi_control_awready,
    input wire [6:0] s_axi_control_awaddr,
    input wire s_axi_control_wvalid,
    output wire s_axi_control_wready,
    input wire [31:0] s_axi_control_wdata,
    input wire [3:0] s_axi_control_wstrb,
    output wire s_axi_control_bvalid,
    input wire s_axi_control_bready,
    output wire [1:0] s_axi_control_bresp,
    input wire s_axi_control_arvalid,
    output wire s_axi_control_arready,
    input wire [6:0] s_axi_control_araddr,
    output wire s_axi_control_rvalid,
    input wire s_axi_control_rready,
    output wire [31:0] s_axi_control_rdata,
    output wire [1:0] s_axi_control_rresp,
    // AXI4-Stream in: activations, or a load
    input wire s_axis_tvalid,
    output wire s_axis_tready,
    input wire [63:0] s_axis_tdata,
    // AXI4-Stream out: a logit a beat, TLAST on the last of a call
    output wire m_axis_tvalid,
    input wire m_axis_tready,
    output wire [31:0] m_axis_tdata,
    output wire [3:0] m_axis_tkeep,
    output wire m_axis_tlast,
    // A level, active high; in C++, Verilator calls it __SYM__interrupt.
    /* verilator lint_off SYMRSVDWORD */
    output wire interrupt
    /* verilator lint_on SYMRSVDWORD */
);
    tsn_accelerator i_accelerator (
        .aclk(aclk),
        .aresetn(aresetn),
        .s_axi_control_awvalid(s_axi_control_awvalid),
        .s_axi_control_awready(s_axi_control_awready),
        .s_axi_control_awaddr(s_axi_control_awaddr),
        .s_axi_control_wvalid(s_axi_control_wvalid),
        .s_axi_control_wready(s_axi_control_wready),
        .s_axi_control_wdata(s_axi_control_wdata),
        .s_axi_control_wstrb(s_axi_control_wstrb),
        .s_axi_control_bvalid(s_axi_control_bvalid),
        .s_axi_control_bready(s_axi_control_bready),
        .s_axi_control_bresp(s_axi_control_bresp),
        .s_axi_control_arvalid(s_axi_control_arvalid),
        .s_axi_control_arready(s_axi_control_arready),
        .s_axi_control_araddr(s_axi_control_araddr),
        .s_axi_control_rvalid(s_axi_control_rvalid),
        .s_axi_control_rready(s_axi_control_rready),
        .s_axi_control_rdata(s_axi_control_rdata),
        .s_axi_control_rresp(s_axi_control_rresp),
        .s_axis_tvalid(s_axis_tvalid),
        .s_axis_tready(s_axis_tready),
        .s_axis_tdata(s_axis_tdata),
        .m_axis_tvalid(m_axis_tvalid),
        .m_axis_tready(m_axis_tready),
        .m_axis_tdata(m_axis_tdata),
        .m_axis_tkeep(m_axis_tkeep),
        .m_axis_tlast(m_axis_tlast),
        .interrupt(interrupt)
    );
endmodule
