// Matrix-vector-activation unit that skips zeros: SIMD teams of PE lanes, each lane with a list of the weights that the task
// uses. tsn_hw/hardware/lists.py says which lane computes which row when; the words are those of docs/word-format.md.
//
// Three parts run at the same time: the next vector arrives in one of two banks, of which every lane has a copy; the lists
// of one vector run, a line a cycle; the results of earlier vectors leave in the order of channels. A vector begins when
// it is there whole and a bank is free for its results. From then on nothing waits, so there is no clock enable.
//
// A line passes READ stages to its entries, then: FIND columns, READ_VECTOR, HOLD words of the vector, CHOOSE an
// activation, MULTIPLY, ADD. A line may end the turn of one team, whose PE sums are then handed on and requantized.
module tsn_lists #(
    parameter integer PE = 1,
    parameter integer SIMD = 1,
    parameter integer INPUT_BITS = 1,
    parameter integer INPUT_SIGNED = 0,
    parameter integer OUTPUT_BITS = 1,
    parameter integer OUTPUT_SIGNED = 0,
    parameter integer ROW_FOLDS = 1,
    parameter integer COLUMN_FOLDS = 1,
    parameter integer POSITIONS = 1,
    parameter integer TASKS = 1,
    parameter integer TASK_BITS = 1,
    parameter integer SLOTS = 2,
    parameter integer REGION_BITS = 1,
    parameter integer CLASS_BITS = 0,  // of a head's task words; tsn_control reads them
    parameter integer CODEBOOKS = 1,  // as many as regions, or one: that of the task that is loaded
    parameter integer WORD_BITS = 1,
    parameter integer GAP_BITS = 1,
    parameter integer END_BITS = 1,
    parameter integer PLACE_BITS = 1,
    parameter integer LINE_BITS = 1,
    parameter integer LIST_DEPTH = 1,
    parameter integer VECTOR_BANKS = 2,
    parameter integer RESULT_BANKS = 2,
    parameter integer CENTROID_BITS = 1,
    parameter integer MULTIPLIER = 0,  // of words and activations: 0 the tool's choice, 1 of LUTs
    parameter integer READ_CYCLES = 2,  // of words, and PART: see tsn_memory
    parameter integer WORDS_PART = 1,
    parameter integer ACCUMULATOR_BITS = 1,
    parameter integer MULTIPLIER_BITS = 0,
    parameter integer OFFSET_BITS = 1,
    parameter integer VALUE_BITS = 2,
    parameter WORDS_FILE = "",
    parameter WORDS_STYLE = "block",
    parameter CODEBOOK_FILE = "",
    parameter SCALES_FILE = "",
    parameter SCALES_STYLE = "block",
    parameter TASK_FILE = "",
    parameter TASK_STYLE = "block",
    parameter VECTOR_STYLE = "block",
    parameter RESULT_STYLE = "block",
    parameter [15:0] INDEX = 0,
    parameter [4:0] LOADED = 0  // what load packets write: words, codebook, mask, scales, task
) (
    input wire clk,
    input wire reset,
    input wire [TASK_BITS:0] named,  // the task of the next inference
    input wire [128:0] load,
    input wire s_valid,
    output wire s_ready,
    input wire [SIMD*INPUT_BITS-1:0] s_data,
    output reg m_valid,
    input wire m_ready,
    output wire [PE*OUTPUT_BITS-1:0] m_data,
    output wire step,
    output wire idle
);
    localparam integer READ = READ_CYCLES, SCALE = 2, REQUANTIZE = 7;  // steps of tsn_memory and of tsn_requantize
    localparam integer FIND = READ + 1, HOLD = READ + 3, CHOOSE = READ + 4, MULTIPLY = READ + 5, ADD = READ + 6;
    localparam integer LANES = PE * SIMD, ENTRY_BITS = WORD_BITS + GAP_BITS;
    localparam integer WORD_WIDTH = SIMD * INPUT_BITS;
    localparam integer SCALE_BITS = MULTIPLIER_BITS + OFFSET_BITS, TURN_BITS = SCALE_BITS + PLACE_BITS;
    localparam integer FOLD_BITS = COLUMN_FOLDS > 1 ? $clog2(COLUMN_FOLDS) : 1, PART_BITS = $clog2(SIMD);
    localparam integer COLUMN_BITS = FOLD_BITS + PART_BITS;
    localparam integer BANK_BITS = $clog2(VECTOR_BANKS), RESULT_BITS = RESULT_BANKS > 1 ? $clog2(RESULT_BANKS) : 1;
    localparam integer SCALES_DEPTH = TASKS * ROW_FOLDS, SCALES_ADDRESS = SCALES_DEPTH > 1 ? $clog2(SCALES_DEPTH) : 1;

    // ---------------------------------------------------------------- what the task of the next vector says
    wire is_named, renew, go;
    wire [TASK_BITS-1:0] next_task, coming;
    localparam integer PARAMETER_BITS = REGION_BITS + 2 * LINE_BITS + 7 + CLASS_BITS;
    wire [PARAMETER_BITS-1:0] parameters;
    tsn_tasks #(
        .TASKS(TASKS), .TASK_BITS(TASK_BITS), .SLOTS(SLOTS), .VECTORS(POSITIONS),
        .PARAMETER_BITS(PARAMETER_BITS), .TASK_FILE(TASK_FILE), .TASK_STYLE(TASK_STYLE),
        .INDEX(INDEX), .LOADS(32'(LOADED[4]))
    ) i_tasks (
        .clk(clk), .reset(reset), .named(named), .load(load), .take(renew), .go(go), .coming(coming),
        .is_there(is_named), .task_index(next_task), .parameters(parameters)
    );

    // ---------------------------------------------------------------- vectors arrive
    reg [BANK_BITS-1:0] bank_in, bank;  // that arrives; whose lists run
    reg [BANK_BITS:0] filled, waiting;  // vectors that are there and still read; of them, those that were not yet begun
    reg [FOLD_BITS-1:0] arriving;
    wire take = s_valid && s_ready, arrives = take && arriving == FOLD_BITS'(COLUMN_FOLDS - 1);
    wire is_final, release_bank;
    assign s_ready = filled != (BANK_BITS + 1)'(VECTOR_BANKS);
    always_ff @(posedge clk) begin
        if (reset) begin
            bank_in <= 0;
            filled <= 0;
            waiting <= 0;
            arriving <= 0;
        end else begin
            if (take) arriving <= arrives ? 0 : arriving + 1;
            if (arrives) bank_in <= bank_in == BANK_BITS'(VECTOR_BANKS - 1) ? 0 : bank_in + 1;
            filled <= filled + (BANK_BITS + 1)'(arrives) - (BANK_BITS + 1)'(release_bank);
            waiting <= waiting + (BANK_BITS + 1)'(arrives) - (BANK_BITS + 1)'(step && is_final);
        end
    end

    // ---------------------------------------------------------------- stage 0: the next line
    reg [LINE_BITS-1:0] line, final_line;
    reg [REGION_BITS-1:0] region;
    reg [TASK_BITS-1:0] task0;
    reg [5:0] shift0;
    reg is_known, is_running;  // the task of the vector; in the middle of its list
    reg [RESULT_BITS:0] claimed;  // banks of results that are written, full, or still read
    wire frees;
    assign is_final = line == final_line;
    assign step = is_running || (is_known && waiting != 0 && claimed != (RESULT_BITS + 1)'(RESULT_BANKS));
    assign renew = !is_known || (step && is_final);
    always_ff @(posedge clk) begin
        if (reset) begin
            is_known <= 0;
            is_running <= 0;
            claimed <= 0;
            bank <= 0;
        end else begin
            if (renew) is_known <= is_named;
            if (step) is_running <= !is_final;
            if (step && is_final) bank <= bank == BANK_BITS'(VECTOR_BANKS - 1) ? 0 : bank + 1;
            claimed <= claimed + (RESULT_BITS + 1)'(step && !is_running) - (RESULT_BITS + 1)'(frees);
        end
        if (renew) begin
            {final_line, line, shift0, region} <= parameters[REGION_BITS+2*LINE_BITS+6:1];
            task0 <= next_task;
        end else if (step) line <= line + 1;
    end
    wire [LANES*ENTRY_BITS+END_BITS-1:0] entries;
    wire [END_BITS-1:0] ends_now = entries[LANES*ENTRY_BITS+:END_BITS];  // 1 + the team whose turn ends in this line, or 0
    tsn_memory #(
        .WIDTH(LANES * ENTRY_BITS + END_BITS), .DEPTH(LIST_DEPTH), .PART(WORDS_PART), .READ_CYCLES(READ),
        .STYLE(WORDS_STYLE), .FILE(WORDS_FILE), .PLACE({8'd0, INDEX}), .LOADS(32'(LOADED[0]))
    ) i_words (
        .clk(clk), .enable(1'b1), .address(line), .load(load), .data(entries)
    );

    // ---------------------------------------------------------------- what is in which stage
    reg [ADD:1] valid;
    reg [FIND:1] final_of;
    reg [FIND*BANK_BITS-1:0] bank_of;  // of stage 1 in the lowest bits
    reg [FIND*REGION_BITS-1:0] region_of;
    reg [(ADD-SCALE)*TASK_BITS-1:0] task_of;
    reg [ADD*6-1:0] shift_of;
    reg [(ADD-READ)*END_BITS-1:0] ends_of;  // of stage FIND in the lowest bits
    integer t;
    reg [SIMD-1:0] begins;  // teams for whom the line at stage READ is the first of a turn
    always_ff @(posedge clk) begin
        if (reset) begin
            valid <= 0;
            begins <= '1;
        end else begin
            valid <= {valid[ADD-1:1], step};
            for (t = 0; t < SIMD; t = t + 1) begin
                if (valid[READ]) begins[t] <= final_of[READ] || ends_now == END_BITS'(t + 1);
            end
        end
        final_of <= {final_of[FIND-1:1], is_final};
        bank_of <= {bank_of[(FIND-1)*BANK_BITS-1:0], bank};
        region_of <= {region_of[(FIND-1)*REGION_BITS-1:0], region};
        task_of <= {task_of[(ADD-SCALE-1)*TASK_BITS-1:0], task0};
        shift_of <= {shift_of[(ADD-1)*6-1:0], shift0};
        ends_of <= ((ADD - READ) * END_BITS)'({ends_of, ends_now});
    end
    wire [END_BITS-1:0] ends_soon = ends_of[(ADD-READ-SCALE-1)*END_BITS+:END_BITS];  // of stage ADD - SCALE
    wire [END_BITS-1:0] ends = ends_of[(ADD-READ-1)*END_BITS+:END_BITS];  // of stage ADD
    wire [BANK_BITS-1:0] bank_read = bank_of[(FIND-1)*BANK_BITS+:BANK_BITS];
    assign release_bank = valid[FIND] && final_of[FIND];

    // ---------------------------------------------------------------- the lanes
    localparam integer FACTOR_BITS = INPUT_BITS + (INPUT_SIGNED != 0 ? 0 : 1);
    localparam integer PRODUCT_BITS = FACTOR_BITS + CENTROID_BITS;
    localparam integer CODEBOOK_BITS = CODEBOOKS > 1 ? REGION_BITS + WORD_BITS : WORD_BITS;
    wire [LANES*ACCUMULATOR_BITS-1:0] sums;
    genvar l, q;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : g_lane
            // Where the weight is: behind the one before, in the row.
            wire [GAP_BITS-1:0] gap = entries[l*ENTRY_BITS+WORD_BITS+:GAP_BITS];
            wire is_weight = gap != {GAP_BITS{1'b1}};
            reg [COLUMN_BITS-1:0] base, column;
            reg [WORD_BITS-1:0] word;
            reg [CHOOSE-1:FIND] used;
            wire is_first = begins[l/PE];
            reg [MULTIPLY:FIND] first;
            wire [COLUMN_BITS-1:0] from = is_first ? 0 : base;
            always_ff @(posedge clk) begin
                first <= {first[MULTIPLY-1:FIND], is_first};
                column <= from + COLUMN_BITS'(gap);
                if (valid[READ]) base <= from + COLUMN_BITS'(gap) + COLUMN_BITS'(is_weight);
                word <= entries[l*ENTRY_BITS+:WORD_BITS];
                used <= {used[CHOOSE-2:FIND], is_weight};
            end

            // Its activation: a word of the vector, then one of its parts.
            wire [WORD_WIDTH-1:0] read;
            reg [WORD_WIDTH-1:0] held;
            tsn_buffer #(.WIDTH(WORD_WIDTH), .DEPTH(VECTOR_BANKS << FOLD_BITS), .STYLE(VECTOR_STYLE)) i_vector (
                .clk(clk), .write(take), .write_address({bank_in, arriving}), .write_data(s_data),
                .read(1'b1), .read_address({bank_read, column[COLUMN_BITS-1:PART_BITS]}), .read_data(read)
            );
            wire [INPUT_BITS-1:0] chosen;
            if (SIMD > 1) begin : g_part
                reg [PART_BITS-1:0] part_read, part;
                always_ff @(posedge clk) begin
                    part_read <= column[PART_BITS-1:0];
                    part <= part_read;
                end
                assign chosen = held[part*INPUT_BITS+:INPUT_BITS];
            end else begin : g_whole
                assign chosen = held;
            end
            wire [FACTOR_BITS-1:0] signed_part;
            if (INPUT_SIGNED != 0) assign signed_part = chosen;
            else assign signed_part = {1'b0, chosen};
            reg signed [FACTOR_BITS-1:0] factor;
            always_ff @(posedge clk) begin
                held <= read;
                if (!used[HOLD]) factor <= 0;
                else factor <= signed_part;
            end

            // Its centroid, which waits for the activation.
            wire [CODEBOOK_BITS-1:0] place;
            wire [CENTROID_BITS-1:0] decoded;
            if (CODEBOOKS > 1) assign place = {region_of[(FIND-1)*REGION_BITS+:REGION_BITS], word};
            else assign place = word;
            tsn_codebook #(
                .WIDTH(CENTROID_BITS), .ADDRESS_BITS(CODEBOOK_BITS), .DEPTH(CODEBOOKS << WORD_BITS),
                .FILE(CODEBOOK_FILE), .PLACE({8'd1, INDEX}), .LOADS(32'(LOADED[1]))
            ) i_codebook (
                .clk(clk), .load(load), .address(place), .centroid(decoded)
            );
            reg signed [CENTROID_BITS-1:0] centroid_read, centroid_held, centroid;
            /* verilator lint_off UNUSEDSIGNAL */  // sums may be narrower than products of such widths can be
            wire signed [PRODUCT_BITS-1:0] product;
            /* verilator lint_on UNUSEDSIGNAL */
            reg signed [ACCUMULATOR_BITS-1:0] sum;
            tsn_multiply #(.FIRST_BITS(FACTOR_BITS), .SECOND_BITS(CENTROID_BITS), .FACTORS_HELD(0), .IN_LUTS(32'(MULTIPLIER == 1))) i_product (
                .clk(clk), .enable(1'b1), .first(factor), .second(centroid), .product(product)
            );
            always_ff @(posedge clk) begin
                centroid_read <= decoded;
                centroid_held <= centroid_read;
                centroid <= centroid_held;
                if (valid[MULTIPLY]) sum <= (first[MULTIPLY] ? 0 : sum) + ACCUMULATOR_BITS'(product);
            end
            assign sums[l*ACCUMULATOR_BITS+:ACCUMULATOR_BITS] = sum;
        end
    endgenerate

    // ---------------------------------------------------------------- turns that end: the PE sums of a team
    reg [PE*ACCUMULATOR_BITS-1:0] held_sums, ended_sums;
    integer e;
    reg [5:0] shift;  // of the sums that are held
    reg is_turn;  // sums are held
    wire turn_ends = valid[ADD-SCALE] && ends_soon != 0;  // soon; its scales are read in the next cycle
    always_comb begin
        ended_sums = 0;
        for (e = 0; e < SIMD; e = e + 1) begin
            if (ends == END_BITS'(e + 1)) ended_sums = ended_sums | sums[e*PE*ACCUMULATOR_BITS+:PE*ACCUMULATOR_BITS];
        end
    end
    always_ff @(posedge clk) begin
        is_turn <= !reset && valid[ADD] && ends != 0;
        {held_sums, shift} <= {ended_sums, shift_of[(ADD-1)*6+:6]};
    end
    wire [TASK_BITS-1:0] turn_task = task_of[(ADD-SCALE-1)*TASK_BITS+:TASK_BITS];
    reg [PLACE_BITS-1:0] turn;  // of the vector, that ends next
    reg [SCALES_ADDRESS-1:0] scales_address, scales_start;
    integer i;
    always_comb begin  // products with constants, without multipliers
        scales_start = 0;
        for (i = 0; i < TASKS; i = i + 1) if (turn_task == TASK_BITS'(i)) scales_start = SCALES_ADDRESS'(i * ROW_FOLDS);
    end
    wire [PE*TURN_BITS-1:0] scales;
    tsn_memory #(
        .WIDTH(PE * TURN_BITS), .DEPTH(SCALES_DEPTH), .STYLE(SCALES_STYLE), .FILE(SCALES_FILE),
        .PLACE({8'd3, INDEX}), .LOADS(32'(LOADED[3]))
    ) i_scales (
        .clk(clk), .enable(1'b1), .address(scales_address), .load(load), .data(scales)
    );
    always_ff @(posedge clk) begin
        if (reset) turn <= 0;
        else if (turn_ends) turn <= turn == PLACE_BITS'(ROW_FOLDS - 1) ? 0 : turn + 1;
        if (turn_ends) scales_address <= turn == 0 ? scales_start : scales_address + 1;
    end

    // ---------------------------------------------------------------- results, and their way out
    reg [REQUANTIZE:1] done;
    reg [PLACE_BITS-1:0] written;  // turns of the vector whose results are written
    reg [RESULT_BITS-1:0] bank_written, bank_out;
    reg [RESULT_BITS:0] complete;
    reg [PLACE_BITS-1:0] leaving;
    wire completes = done[REQUANTIZE] && written == PLACE_BITS'(ROW_FOLDS - 1);
    wire sends = complete != 0 && (!m_valid || m_ready);
    assign frees = sends && leaving == PLACE_BITS'(ROW_FOLDS - 1);
    always_ff @(posedge clk) begin
        if (reset) begin
            done <= 0;
            written <= 0;
            bank_written <= 0;
            bank_out <= 0;
            complete <= 0;
            leaving <= 0;
            m_valid <= 0;
        end else begin
            done <= {done[REQUANTIZE-1:1], is_turn};
            if (done[REQUANTIZE]) written <= completes ? 0 : written + 1;
            if (completes) bank_written <= bank_written == RESULT_BITS'(RESULT_BANKS - 1) ? 0 : bank_written + 1;
            if (sends) leaving <= frees ? 0 : leaving + 1;
            if (frees) bank_out <= bank_out == RESULT_BITS'(RESULT_BANKS - 1) ? 0 : bank_out + 1;
            complete <= complete + (RESULT_BITS + 1)'(completes) - (RESULT_BITS + 1)'(frees);
            if (!m_valid || m_ready) m_valid <= sends;
        end
    end
    generate
        for (q = 0; q < PE; q = q + 1) begin : g_row
            localparam integer LOW = q * TURN_BITS, MULTIPLIER_PORT = MULTIPLIER_BITS > 0 ? MULTIPLIER_BITS : 1;
            wire [TURN_BITS-1:0] scale = scales[LOW+:TURN_BITS];
            wire [OUTPUT_BITS-1:0] result;
            reg [REQUANTIZE*PLACE_BITS-1:0] places;
            tsn_requantize #(
                .ACCUMULATOR_BITS(ACCUMULATOR_BITS), .MULTIPLIER_BITS(MULTIPLIER_BITS), .OFFSET_BITS(OFFSET_BITS),
                .VALUE_BITS(VALUE_BITS), .OUTPUT_BITS(OUTPUT_BITS), .OUTPUT_SIGNED(OUTPUT_SIGNED)
            ) i_requantize (
                .clk(clk), .enable(1'b1), .shift(shift), .accumulator(held_sums[q*ACCUMULATOR_BITS+:ACCUMULATOR_BITS]),
                .multiplier(scale[MULTIPLIER_PORT-1:0]), .offset(scale[MULTIPLIER_BITS+:OFFSET_BITS]),
                .result(result)
            );
            always_ff @(posedge clk) begin
                places <= {places[(REQUANTIZE-1)*PLACE_BITS-1:0], scale[SCALE_BITS+:PLACE_BITS]};
            end
            tsn_buffer #(.WIDTH(OUTPUT_BITS), .DEPTH(RESULT_BANKS << PLACE_BITS), .STYLE(RESULT_STYLE)) i_results (
                .clk(clk), .write(done[REQUANTIZE]),
                .write_address((RESULT_BITS + PLACE_BITS)'({bank_written, places[(REQUANTIZE-1)*PLACE_BITS+:PLACE_BITS]})),
                .write_data(result),
                .read(sends), .read_address({bank_out, leaving}),
                .read_data(m_data[q*OUTPUT_BITS+:OUTPUT_BITS])
            );
        end
    endgenerate
    assign idle = filled == 0 && arriving == 0 && claimed == 0 && !m_valid;
    wire unused = &{1'b0, go, coming, parameters, region_of};
endmodule
