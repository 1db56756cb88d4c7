// The accelerator with its streams as registers beside its own, for systems without a DMA: tsn_mapped.rdl. A processor,
// or a bridge from a serial line, writes beats and reads logits. BEATS take beats anywhere, so that a burst or a copy of
// memory sends many: the low half, then the high one, which sends the beat and is answered when it has been taken. A read
// of LOGIT is answered when there is one; STREAMS tells both before, without waiting.
module tsn_mapped (
    input wire aclk,
    input wire aresetn,
    input wire s_axi_awvalid,
    output wire s_axi_awready,
    input wire [8:0] s_axi_awaddr,
    input wire s_axi_wvalid,
    output wire s_axi_wready,
    input wire [31:0] s_axi_wdata,
    input wire [3:0] s_axi_wstrb,
    output wire s_axi_bvalid,
    input wire s_axi_bready,
    output wire [1:0] s_axi_bresp,
    input wire s_axi_arvalid,
    output wire s_axi_arready,
    input wire [8:0] s_axi_araddr,
    output wire s_axi_rvalid,
    input wire s_axi_rready,
    output wire [31:0] s_axi_rdata,
    output wire [1:0] s_axi_rresp,
    // A level, active high; in C++, Verilator calls it __SYM__interrupt.
    /* verilator lint_off SYMRSVDWORD */
    output wire interrupt
    /* verilator lint_on SYMRSVDWORD */
);
    localparam [8:0] LOGIT = 9'h080, STREAMS = 9'h084, RESTART = 9'h088, BEATS = 9'h100;

    // ---------------------------------------------------------------- the accelerator, and a reset of it alone
    reg [4:0] resting;
    wire control_awready, control_wready, control_bvalid, control_arready, control_rvalid;
    wire s_axis_tvalid, s_axis_tready, m_axis_tvalid, m_axis_tready;
    wire [31:0] control_rdata, m_axis_tdata;
    wire [1:0] control_bresp, control_rresp;
    wire [3:0] keep;
    wire last, unused = &{1'b0, keep, last};  // all bytes are, and a reader counts
    reg [31:0] beat_low, own_rdata;
    reg own_bvalid, own_rvalid;
    wire is_own_write = s_axi_awaddr >= LOGIT, is_own_read = s_axi_araddr >= LOGIT, is_beat = s_axi_awaddr >= BEATS;
    wire sends = is_beat && s_axi_awaddr[2];
    wire offers = s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid, asks = s_axi_arvalid && !s_axi_rvalid;
    wire is_up = resting == 0;
    tsn_accelerator i_accelerator (
        .aclk(aclk), .aresetn(aresetn && is_up),
        .s_axi_control_awvalid(offers && !is_own_write), .s_axi_control_awready(control_awready),
        .s_axi_control_awaddr(s_axi_awaddr[6:0]),
        .s_axi_control_wvalid(offers && !is_own_write), .s_axi_control_wready(control_wready),
        .s_axi_control_wdata(s_axi_wdata), .s_axi_control_wstrb(s_axi_wstrb),
        .s_axi_control_bvalid(control_bvalid), .s_axi_control_bready(s_axi_bready),
        .s_axi_control_bresp(control_bresp),
        .s_axi_control_arvalid(asks && !is_own_read), .s_axi_control_arready(control_arready),
        .s_axi_control_araddr(s_axi_araddr[6:0]),
        .s_axi_control_rvalid(control_rvalid), .s_axi_control_rready(s_axi_rready),
        .s_axi_control_rdata(control_rdata), .s_axi_control_rresp(control_rresp),
        .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready), .s_axis_tdata({s_axi_wdata, beat_low}),
        .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready), .m_axis_tdata(m_axis_tdata),
        .m_axis_tkeep(keep), .m_axis_tlast(last), .interrupt(interrupt)
    );

    // ---------------------------------------------------------------- writes
    assign s_axis_tvalid = offers && sends && is_up;
    wire own_write = offers && is_own_write && is_up && (!sends || s_axis_tready);
    assign s_axi_awready = own_write || (offers && !is_own_write && control_awready);
    assign s_axi_wready = own_write || (offers && !is_own_write && control_wready);
    assign s_axi_bvalid = own_bvalid || control_bvalid;
    assign s_axi_bresp = own_bvalid ? 2'b00 : control_bresp;

    // ---------------------------------------------------------------- reads
    wire own_read = asks && is_own_read && is_up && (s_axi_araddr != LOGIT || m_axis_tvalid);
    assign m_axis_tready = asks && s_axi_araddr == LOGIT && is_up;
    assign s_axi_arready = own_read || (asks && !is_own_read && control_arready);
    assign s_axi_rvalid = own_rvalid || control_rvalid;
    assign s_axi_rdata = own_rvalid ? own_rdata : control_rdata;
    assign s_axi_rresp = own_rvalid ? 2'b00 : control_rresp;

    always_ff @(posedge aclk) begin
        if (!aresetn) begin
            resting <= '1;
            own_bvalid <= 0;
            own_rvalid <= 0;
        end else begin
            if (own_write && s_axi_awaddr == RESTART) resting <= '1;
            else if (!is_up) resting <= resting - 1;
            if (own_write) own_bvalid <= 1;
            else if (s_axi_bready) own_bvalid <= 0;
            if (own_read) own_rvalid <= 1;
            else if (s_axi_rready) own_rvalid <= 0;
        end
        if (own_write && is_beat && !sends) beat_low <= s_axi_wdata;
        if (own_read) begin
            case (s_axi_araddr)
                LOGIT: own_rdata <= m_axis_tdata;
                STREAMS: own_rdata <= {30'd0, m_axis_tvalid, s_axis_tready};
                default: own_rdata <= 0;
            endcase
        end
    end
endmodule
