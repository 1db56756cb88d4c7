// AXI4-Lite registers, as Vitis HLS lays them out, and the calls that they start. The host may write task_id, count and
// command at any time: a call has the values that they held when it began, and nothing else reads them.
//
// 0x00 bit 0 start, bit 1 done (cleared by reading), bit 2 idle, bit 3 ready, bit 8 abort, bit 9
// interrupt; 0x04 bit 0 lets the interrupt out; 0x08 which events make one, 0x0C which did, toggled by writing 1: bit 0
// done, bit 1 ready; 0x10 task_id; 0x18 count; 0x20 command; 0x28 status; 0x2C bit 0: the status is valid (cleared by
// reading); 0x30 cycles of the last call; 0x38, 0x40 fingerprints of the network and of the design.
module tsn_control #(
    parameter integer MAX_TASKS = 1,
    parameter integer TASK_BITS = 1,
    parameter integer PARAMETER_BITS = 8,
    parameter integer CLASS_BITS = 1,
    parameter [15:0] HEAD = 0,  // the unit whose task words these are
    parameter [31:0] NETWORK = 0,  // fingerprints
    parameter [31:0] DESIGN = 0,
    parameter TASK_FILE = "",
    parameter TASK_STYLE = "block",
    parameter integer LISTS_TASKS = 1,  // in a file: else there is one word, of the task that is loaded, and it comes with it
    parameter integer LOADS_ALL = 0,    // whether there is something to load once, for all tasks
    parameter integer LOADS_TASK = 0    // and whether there is something to load when the task changes
) (
    input wire clk,
    input wire reset,
    input wire s_axi_awvalid,
    output wire s_axi_awready,
    input wire [6:0] s_axi_awaddr,
    input wire s_axi_wvalid,
    output wire s_axi_wready,
    input wire [31:0] s_axi_wdata,
    input wire [3:0] s_axi_wstrb,
    output reg s_axi_bvalid,
    input wire s_axi_bready,
    output wire [1:0] s_axi_bresp,
    input wire s_axi_arvalid,
    output wire s_axi_arready,
    input wire [6:0] s_axi_araddr,
    output reg s_axi_rvalid,
    input wire s_axi_rready,
    output reg [31:0] s_axi_rdata,
    output wire [1:0] s_axi_rresp,
    output reg is_interrupt,
    // Of the call.
    output reg [15:0] called_task,
    output reg [31:0] called_count,
    output reg has_headers,  // long before the call begins
    output wire wants_classes,
    output reg begin_call,
    output reg begin_load,
    input wire is_refused,  // what was loaded
    input wire [128:0] load,
    output wire flushes,  // everything else begins anew: the call is aborted
    input wire units_reset,  // the same a cycle later, and with `reset`
    // Of an inference: its header, when it begins; then its task, the highest bit that there is one, whether the
    // header was refused, and the classes of the task.
    input wire asks,
    input wire [63:0] header,
    output reg [TASK_BITS:0] named,
    output reg named_is_refused,
    output reg [CLASS_BITS-1:0] named_classes,
    input wire units_idle
);
    localparam [31:0] DONE = 0, UNKNOWN_TASK = 1, NOT_LOADED = 2, UNKNOWN_COMMAND = 3, BAD_PACKET = 4;
    localparam [31:0] REFUSED_HEADERS = 5, ABORTED = 6;
    localparam [7:0] LOAD_CALL = 1, RUN_TASKS_CALL = 2;  // and bit 7: a class an inference, not its logits
    localparam [6:0] CONTROL = 7'h00, INTERRUPT_ENABLE = 7'h04, EVENT_ENABLE = 7'h08, EVENT_STATUS = 7'h0C;
    localparam [6:0] TASK_ID = 7'h10, COUNT = 7'h18, COMMAND = 7'h20, STATUS = 7'h28, STATUS_VALID = 7'h2C;
    localparam [6:0] CYCLES = 7'h30, NETWORK_PRINT = 7'h38, DESIGN_PRINT = 7'h40;

    // ---------------------------------------------------------------- registers
    reg [15:0] task_id;
    reg [31:0] count, status, cycles;
    reg [7:0] command;
    reg is_start, is_done, is_status_valid, is_abort, lets_interrupt;
    reg [1:0] events, happened;  // done and ready, which come together: those that make an interrupt, and that came
    wire write = s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid;
    wire read = s_axi_arvalid && !s_axi_rvalid;
    wire idle, done;
    assign s_axi_awready = write;
    assign s_axi_wready = write;
    assign s_axi_arready = read;
    assign s_axi_bresp = 0;
    assign s_axi_rresp = 0;

    wire [31:0] mask = {{8{s_axi_wstrb[3]}}, {8{s_axi_wstrb[2]}}, {8{s_axi_wstrb[1]}}, {8{s_axi_wstrb[0]}}};
    wire [31:0] written = s_axi_wdata & mask;
    wire is_begun = write && s_axi_awaddr == CONTROL && written[0];
    wire is_aborted = write && s_axi_awaddr == CONTROL && written[8];
    always_ff @(posedge clk) begin
        if (reset) begin
            s_axi_bvalid <= 0;
            s_axi_rvalid <= 0;
            is_start <= 0;
            is_done <= 0;
            is_status_valid <= 0;
            is_abort <= 0;
            {lets_interrupt, events, happened, is_interrupt} <= 0;
            task_id <= 0;
            count <= 0;
            command <= 0;
        end else begin
            if (write) s_axi_bvalid <= 1;
            else if (s_axi_bready) s_axi_bvalid <= 0;
            if (read) s_axi_rvalid <= 1;
            else if (s_axi_rready) s_axi_rvalid <= 0;
            if (write && s_axi_awaddr == TASK_ID) task_id <= written[15:0] | (task_id & ~mask[15:0]);
            if (write && s_axi_awaddr == COUNT) count <= written | (count & ~mask);
            if (write && s_axi_awaddr == COMMAND) command <= written[7:0] | (command & ~mask[7:0]);
            if (done) is_start <= 0;
            else if (is_begun) is_start <= 1;  // during a call it has no effect
            if (write && s_axi_awaddr == INTERRUPT_ENABLE && mask[0]) lets_interrupt <= written[0];
            if (write && s_axi_awaddr == EVENT_ENABLE && mask[0]) events <= written[1:0];
            happened <= (happened ^ (write && s_axi_awaddr == EVENT_STATUS ? written[1:0] : 2'd0)) | (done ? events : 2'd0);
            is_interrupt <= lets_interrupt && happened != 0;
            if (done || idle) is_abort <= 0;  // there is no call to end
            else if (is_aborted) is_abort <= 1;
            if (done) is_done <= 1;
            else if (read && s_axi_araddr == CONTROL) is_done <= 0;
            if (done) is_status_valid <= 1;
            else if (read && s_axi_araddr == STATUS_VALID) is_status_valid <= 0;
        end
        if (read) begin
            case (s_axi_araddr)
                CONTROL: s_axi_rdata <= {22'd0, is_interrupt, is_abort, 4'd0, is_done, idle, is_done, is_start};
                INTERRUPT_ENABLE: s_axi_rdata <= {31'd0, lets_interrupt};
                EVENT_ENABLE: s_axi_rdata <= {30'd0, events};
                EVENT_STATUS: s_axi_rdata <= {30'd0, happened};
                TASK_ID: s_axi_rdata <= {16'd0, task_id};
                COUNT: s_axi_rdata <= count;
                COMMAND: s_axi_rdata <= {24'd0, command};
                STATUS: s_axi_rdata <= status;
                STATUS_VALID: s_axi_rdata <= {31'd0, is_status_valid};
                CYCLES: s_axi_rdata <= cycles;
                NETWORK_PRINT: s_axi_rdata <= NETWORK;
                DESIGN_PRINT: s_axi_rdata <= DESIGN;
                default: s_axi_rdata <= 0;
            endcase
        end
    end

    // ---------------------------------------------------------------- a call
    // IDLE, a wait until all memories have answered to the task, the decision, and the call itself; or ABORT to FLUSHED,
    // in which everything but this module is reset.
    localparam [3:0] IDLE = 0, DECIDE = 7, BEGIN = 8, RUN = 9, END = 10, ABORT = 11, FLUSHED = 15;
    reg [3:0] state;
    reg [7:0] called_command;
    localparam integer TASK_WORDS = LISTS_TASKS != 0 ? MAX_TASKS : 1;
    localparam integer TASK_WORD_BITS = TASK_WORDS > 1 ? $clog2(TASK_WORDS) : 1;
    wire [PARAMETER_BITS-1:0] parameters;  // the word of the task
    wire is_listed;
    wire is_known = 32'(called_task) < 32'(MAX_TASKS) && is_listed;
    wire is_load = (LOADS_ALL != 0 || LOADS_TASK != 0) && called_command == LOAD_CALL;
    wire is_all = called_task == 16'hFFFF;
    reg has_all, has_task;
    reg [15:0] loaded_task;
    reg [15:0] header_task, task_of_read, asked_task;  // of a header, in three steps
    wire is_another = LOADS_TASK != 0 && loaded_task != (has_headers ? asked_task : called_task);
    wire is_missing = (LOADS_ALL != 0 && !has_all) || (LOADS_TASK != 0 && !has_task);
    always_ff @(posedge clk) has_headers <= called_command[6:0] == RUN_TASKS_CALL[6:0];
    assign wants_classes = called_command[7];
    wire is_run = called_command[6:0] == 0;
    reg [31:0] verdict;
    always_comb begin
        if (is_load) verdict = (is_all ? LOADS_ALL != 0 : LOADS_TASK != 0 && is_known) ? DONE : UNKNOWN_TASK;
        else if (has_headers) verdict = is_missing ? NOT_LOADED : DONE;
        else if (!is_run) verdict = UNKNOWN_COMMAND;
        else if (!is_known) verdict = UNKNOWN_TASK;
        else verdict = is_missing || is_another ? NOT_LOADED : DONE;
    end
    assign idle = state == IDLE && !is_start;
    assign done = state == END;
    assign flushes = state >= ABORT;

    // ---------------------------------------------------------------- headers: a step, and two in which the memory answers
    reg [2:0] asked;  // in each of the steps
    reg [2:0] beyond;  // in the first: whether each part above a task's 16 bits has a one
    reg [2:1] fits;
    reg has_refused;
    wire is_good = fits[2] && is_listed && !is_another;
    always_ff @(posedge clk) begin
        asked <= units_reset ? 0 : {asked[1:0], asks && has_headers};
        beyond <= {|header[63:48], |header[47:32], |header[31:16]};
        fits <= {fits[1], beyond == 0 && 32'(header_task) < 32'(MAX_TASKS)};
        {header_task, task_of_read, asked_task} <= {header[15:0], header_task, task_of_read};
        // Without headers the task is that of the call, which is there.
        named[TASK_BITS] <= !units_reset && (has_headers ? asked[2] : asks);
        if (has_headers) named[TASK_BITS-1:0] <= is_good ? TASK_BITS'(asked_task) : 0;
        else named[TASK_BITS-1:0] <= TASK_BITS'(called_task);
        named_is_refused <= has_headers && !is_good;
        named_classes <= parameters[PARAMETER_BITS-1-:CLASS_BITS];
        if (begin_call) has_refused <= 0;
        else if (asked[2] && !is_good) has_refused <= 1;
    end
    wire [TASK_BITS-1:0] task_index = LISTS_TASKS == 0 ? 0 : TASK_BITS'(state == RUN ? header_task : called_task);
    tsn_memory #(
        .WIDTH(PARAMETER_BITS), .DEPTH(TASK_WORDS), .STYLE(TASK_STYLE), .FILE(TASK_FILE), .PLACE({8'd4, HEAD}),
        .LOADS(32'(LISTS_TASKS == 0))
    ) i_task (
        .clk(clk), .enable(1'b1), .address(task_index[TASK_WORD_BITS-1:0]), .load(load), .data(parameters)
    );
    assign is_listed = LISTS_TASKS == 0 || parameters[0];
    wire unused = &{1'b0, parameters, task_index};
    always_ff @(posedge clk) begin
        if (reset) begin
            state <= IDLE;
            begin_call <= 0;
            begin_load <= 0;
            has_all <= 0;
            has_task <= 0;
        end else begin
            begin_call <= state == DECIDE && !is_load && verdict == DONE;
            begin_load <= state == DECIDE && is_load && verdict == DONE;
            if (state == END && is_load && status == DONE) begin
                if (is_all) has_all <= 1;
                else has_task <= 1;
            end else if (state == END && is_load && (status == BAD_PACKET || status == ABORTED)) begin  // it may have written anywhere
                has_all <= 0;
                has_task <= 0;
            end
            case (state)
                IDLE: if (is_start) state <= 1;
                END: state <= IDLE;
                FLUSHED: state <= END;
                default: begin
                    if (is_abort && state < ABORT) state <= ABORT;
                    else if (state == DECIDE) state <= verdict == DONE ? BEGIN : END;
                    else if (state != RUN) state <= state + 1;
                    else if (units_idle) state <= END;
                end
            endcase
        end
        if (state == IDLE) {called_task, called_count, called_command} <= {task_id, count, command};
        if (flushes) status <= ABORTED;
        else if (state == DECIDE) status <= verdict;
        else if (state == RUN && units_idle && is_load && is_refused) status <= BAD_PACKET;
        else if (state == RUN && units_idle && has_refused && !is_load) status <= REFUSED_HEADERS;
        if (state == END && is_load && !is_all && status == DONE) loaded_task <= called_task;
        if (state == IDLE && is_start) cycles <= 0;
        else if (state != IDLE) cycles <= cycles + 1;
    end
endmodule
