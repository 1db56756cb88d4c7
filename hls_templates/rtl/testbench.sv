// Runs calls: +calls=FILE has lines "task count command beats", +beats=FILE the beats of all calls, in hexadecimal.
// With +stalls=PERCENT the input comes late, and the output is taken late, as often as that; +seed=NUMBER chooses when.
// It writes what happens to standard output: "word UNIT HEX" (tsn_watch), "logit HEX", "steps UNIT LOOP NUMBER", and at
// the end of each call "call STATUS CYCLES".
`timescale 1ns / 1ns
module testbench;
    reg clk = 0, reset_n = 0;
    always #5 clk = !clk;

    reg awvalid = 0, wvalid = 0, bready = 1, arvalid = 0, rready = 1;
    wire awready, wready, bvalid, arready, rvalid;
    reg [5:0] awaddr = 0, araddr = 0;
    reg [31:0] wdata = 0;
    wire [31:0] rdata;
    wire [1:0] bresp, rresp;
    reg s_tvalid = 0, m_tready = 0;
    wire s_tready, m_tvalid, m_tlast;
    reg [63:0] s_tdata = 0;
    wire [31:0] m_tdata;
    wire [3:0] m_tkeep;

    tsn_accelerator i_accelerator (
        .aclk(clk), .aresetn(reset_n),
        .s_axi_control_awvalid(awvalid), .s_axi_control_awready(awready), .s_axi_control_awaddr(awaddr),
        .s_axi_control_wvalid(wvalid), .s_axi_control_wready(wready), .s_axi_control_wdata(wdata),
        .s_axi_control_wstrb(4'hF), .s_axi_control_bvalid(bvalid), .s_axi_control_bready(bready),
        .s_axi_control_bresp(bresp), .s_axi_control_arvalid(arvalid), .s_axi_control_arready(arready),
        .s_axi_control_araddr(araddr), .s_axi_control_rvalid(rvalid), .s_axi_control_rready(rready),
        .s_axi_control_rdata(rdata), .s_axi_control_rresp(rresp),
        .s_axis_tvalid(s_tvalid), .s_axis_tready(s_tready), .s_axis_tdata(s_tdata),
        .m_axis_tvalid(m_tvalid), .m_axis_tready(m_tready), .m_axis_tdata(m_tdata), .m_axis_tkeep(m_tkeep),
        .m_axis_tlast(m_tlast)
    );

    integer stalls = 0, seed = 1, beats, calls, found, remaining = 0;
    reg [1023:0] calls_file, beats_file;
    reg is_last = 0;

    function automatic is_stalled(input integer percent);
        is_stalled = $urandom_range(99) < percent;
    endfunction

    // ---------------------------------------------------------------- streams
    reg [63:0] beat;
    always @(posedge clk) begin
        if (!s_tvalid || s_tready) begin
            if (remaining > 0 && !is_stalled(stalls)) begin
                found = $fscanf(beats, "%h", beat);
                if (found != 1) begin
                    $display("error: too few beats");
                    $finish;
                end
                s_tdata <= beat;
                s_tvalid <= 1;
                remaining = remaining - 1;
            end else begin
                s_tvalid <= 0;
            end
        end
        if (m_tvalid && m_tready) begin
            $display("logit %h", m_tdata);
            is_last <= m_tlast;
            if (m_tkeep != 4'hF) $display("error: TKEEP is %h", m_tkeep);
        end
        m_tready <= !is_stalled(stalls);
    end

    // ---------------------------------------------------------------- registers
    task automatic write(input [5:0] address, input [31:0] value);
        awaddr <= address;
        wdata <= value;
        awvalid <= 1;
        wvalid <= 1;
        @(posedge clk);
        while (!(awready && wready)) @(posedge clk);
        awvalid <= 0;
        wvalid <= 0;
        while (!bvalid) @(posedge clk);
    endtask

    task automatic read(input [5:0] address, output [31:0] value);
        araddr <= address;
        arvalid <= 1;
        @(posedge clk);
        while (!arready) @(posedge clk);
        arvalid <= 0;
        @(posedge clk);
        while (!rvalid) @(posedge clk);
        value = rdata;
        @(posedge clk);
    endtask

    integer task_id, count, command, number, outputs;
    reg [31:0] value, status, cycles;
    initial begin
        if (!$value$plusargs("calls=%s", calls_file) || !$value$plusargs("beats=%s", beats_file)) begin
            $display("error: +calls=FILE and +beats=FILE are missing");
            $finish;
        end
        if (!$value$plusargs("stalls=%d", stalls)) stalls = 0;
        if (!$value$plusargs("seed=%d", seed)) seed = 1;
        outputs = $urandom(seed);
        calls = $fopen(calls_file, "r");
        beats = $fopen(beats_file, "r");
        repeat (4) @(posedge clk);
        reset_n <= 1;
        repeat (4) @(posedge clk);
        while ($fscanf(calls, "%d %d %d %d", task_id, count, command, number) == 4) begin
            is_last <= 0;
            write(6'h10, task_id);
            write(6'h18, count);
            write(6'h20, command);
            remaining = number;
            write(6'h00, 1);
            value = 0;
            while (!value[1]) read(6'h00, value);
            read(6'h28, status);
            read(6'h30, cycles);
            $display("call %0d %0d", status, cycles);
            if (status == 0 && count > 0 && !is_last) $display("error: the last logit had no TLAST");
            if (remaining != 0) $display("error: %0d beats were not taken", remaining);
        end
        $finish;
    end
endmodule
