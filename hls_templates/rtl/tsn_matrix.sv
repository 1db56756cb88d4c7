// Matrix-vector-activation unit: PE rows times SIMD columns in a cycle, weights decoded from words on the way. The
// schedule is that of hls_templates/tsn/matrix.hpp: a line of weights a step, a vector is held while row folds go on; of
// a depthwise convolution every line has a word of its own.
//
// A line passes these stages: READ of its memories; then 1 centroids, 2 factors, 3 products, 4 and 5 sums of two and
// of four of them, 6 sum of a row, 7 accumulator, 8..14 requantization. All of them stand still while nobody takes what the last one holds.
module tsn_matrix #(
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
    parameter integer REGIONS = 1,
    parameter integer REGION_BITS = 1,
    parameter integer CLASS_BITS = 0,  // of a head's task words; tsn_control reads them
    parameter integer CODEBOOKS = 1,  // as many as regions, or one: that of the task that is loaded
    parameter integer WORD_BITS = 1,
    parameter integer CENTROID_BITS = 1,
    parameter integer HAS_MASK = 1,
    parameter integer READ_CYCLES = 2,  // of words and masks, and PART of each: see tsn_memory
    parameter integer WORDS_PART = 1,
    parameter integer MASK_PART = 1,
    parameter integer MULTIPLIER = 0,  // of words and activations: 0 the tool's choice, 1 of LUTs, 2 one for rows p and p + 1
    parameter integer DEPTHWISE = 0,  // row p reads activation p of a word, SIMD is 1, and no vector is held
    parameter integer ACCUMULATOR_BITS = 1,
    parameter integer MULTIPLIER_BITS = 0,
    parameter integer OFFSET_BITS = 1,
    parameter integer VALUE_BITS = 2,
    parameter WORDS_FILE = "",
    parameter WORDS_STYLE = "block",
    parameter CODEBOOK_FILE = "",
    parameter MASK_FILE = "",
    parameter MASK_STYLE = "block",
    parameter SCALES_FILE = "",
    parameter SCALES_STYLE = "block",
    parameter TASK_FILE = "",
    parameter TASK_STYLE = "block",
    parameter VECTOR_STYLE = "block",
    parameter [15:0] INDEX = 0,
    parameter [4:0] LOADED = 0  // what load packets write: words, codebook, mask, scales, task
) (
    input wire clk,
    input wire reset,
    input wire [TASK_BITS:0] named,  // the task of the next inference
    input wire [128:0] load,
    input wire s_valid,
    output wire s_ready,
    input wire [(DEPTHWISE != 0 ? PE : SIMD)*INPUT_BITS-1:0] s_data,
    output wire m_valid,
    input wire m_ready,
    output wire [PE*OUTPUT_BITS-1:0] m_data,
    output wire step,
    output wire idle
);
    localparam integer READ = READ_CYCLES, ROW = READ + 6, END = ROW + 8, SCALE = ROW - 2;  // stage behind which scales are read
    localparam integer LINES = ROW_FOLDS * COLUMN_FOLDS, LANES = PE * SIMD;
    localparam integer VECTOR_BITS = (DEPTHWISE != 0 ? PE : SIMD) * INPUT_BITS;
    localparam integer ROW_BITS = ROW_FOLDS > 1 ? $clog2(ROW_FOLDS) : 1;
    localparam integer COLUMN_BITS = COLUMN_FOLDS > 1 ? $clog2(COLUMN_FOLDS) : 1;
    localparam integer WORDS_DEPTH = REGIONS * LINES, MASK_DEPTH = TASKS * LINES, SCALES_DEPTH = TASKS * ROW_FOLDS;
    localparam integer WORDS_ADDRESS = WORDS_DEPTH > 1 ? $clog2(WORDS_DEPTH) : 1;
    localparam integer MASK_ADDRESS = MASK_DEPTH > 1 ? $clog2(MASK_DEPTH) : 1;
    localparam integer SCALES_ADDRESS = SCALES_DEPTH > 1 ? $clog2(SCALES_DEPTH) : 1;

    // ---------------------------------------------------------------- what the task of the next vector says
    wire is_named, renew, go;
    wire [TASK_BITS-1:0] next_task, coming;
    localparam integer PARAMETER_BITS = REGION_BITS + 7 + CLASS_BITS;
    wire [PARAMETER_BITS-1:0] parameters;
    wire [REGION_BITS-1:0] next_region = parameters[REGION_BITS:1];
    tsn_tasks #(
        .TASKS(TASKS), .TASK_BITS(TASK_BITS), .SLOTS(SLOTS), .VECTORS(POSITIONS), .PARAMETER_BITS(PARAMETER_BITS),
        .TASK_FILE(TASK_FILE), .TASK_STYLE(TASK_STYLE), .INDEX(INDEX), .LOADS(32'(LOADED[4]))
    ) i_tasks (
        .clk(clk), .reset(reset), .named(named), .load(load), .take(renew), .go(go), .coming(coming),
        .is_there(is_named), .task_index(next_task), .parameters(parameters)
    );
    reg [WORDS_ADDRESS-1:0] words_start;
    reg [MASK_ADDRESS-1:0] mask_start;
    integer i;
    always_comb begin  // products with constants, without multipliers
        words_start = 0;
        mask_start = 0;
        for (i = 0; i < REGIONS; i = i + 1) begin
            if (next_region == REGION_BITS'(i)) words_start = WORDS_ADDRESS'(i * LINES);
        end
        for (i = 0; i < TASKS; i = i + 1) if (next_task == TASK_BITS'(i)) mask_start = MASK_ADDRESS'(i * LINES);
    end

    // ---------------------------------------------------------------- stage 0: which line, which word of the vector
    reg [ROW_BITS-1:0] row_fold;
    reg [COLUMN_BITS-1:0] column_fold;
    reg [WORDS_ADDRESS-1:0] words_address;
    reg is_known;  // the task of the vector
    reg is_first, is_last, is_first_row, is_last_row;  // what both say
    reg [END:ROW+1] done;  // stages behind the last product that hold results
    reg is_free;  // the last stage, for the few who decide; `enable` has thousands of readers
    wire enable = !m_valid || m_ready, may_step = is_free || m_ready;
    wire is_read = is_first_row || DEPTHWISE != 0;
    assign step = may_step && is_known && (!is_read || s_valid);
    assign s_ready = may_step && is_known && is_read;
    assign renew = !is_known || (step && is_last && is_last_row);
    always_ff @(posedge clk) begin
        if (reset) begin
            row_fold <= 0;
            column_fold <= 0;
            {is_first, is_last} <= {1'b1, 1'(COLUMN_FOLDS == 1)};
            {is_first_row, is_last_row} <= {1'b1, 1'(ROW_FOLDS == 1)};
            is_known <= 0;
            is_free <= 1;
        end else begin
            if (step) begin
                column_fold <= is_last ? 0 : column_fold + 1;
                is_first <= is_last;
                is_last <= COLUMN_FOLDS == 1 || column_fold == COLUMN_BITS'(COLUMN_FOLDS - 2);
            end
            if (step && is_last) begin
                row_fold <= is_last_row ? 0 : row_fold + 1;
                is_first_row <= is_last_row;
                is_last_row <= ROW_FOLDS == 1 || row_fold == ROW_BITS'(ROW_FOLDS - 2);
            end
            if (renew) is_known <= is_named;
            if (enable) is_free <= !done[END-1];
        end
        if (renew) words_address <= words_start;
        else if (step) words_address <= words_address + 1;
    end

    // ---------------------------------------------------------------- up to stage READ: words, masks, the vector
    wire [LANES*WORD_BITS-1:0] words;
    wire [LANES-1:0] mask;
    tsn_memory #(
        .WIDTH(LANES * WORD_BITS), .DEPTH(WORDS_DEPTH), .PART(WORDS_PART), .READ_CYCLES(READ), .STYLE(WORDS_STYLE),
        .FILE(WORDS_FILE), .PLACE({8'd0, INDEX}), .LOADS(32'(LOADED[0]))
    ) i_words (
        .clk(clk), .enable(enable), .address(words_address), .load(load), .data(words)
    );
    generate
        if (HAS_MASK != 0) begin : g_mask
            reg [MASK_ADDRESS-1:0] mask_address;
            always_ff @(posedge clk) begin
                if (renew) mask_address <= mask_start;
                else if (step) mask_address <= mask_address + 1;
            end
            tsn_memory #(
                .WIDTH(LANES), .DEPTH(MASK_DEPTH), .PART(MASK_PART), .READ_CYCLES(READ), .STYLE(MASK_STYLE),
                .FILE(MASK_FILE), .PLACE({8'd2, INDEX}), .LOADS(32'(LOADED[2]))
            ) i_mask (
                .clk(clk), .enable(enable), .address(mask_address), .load(load), .data(mask)
            );
        end else begin : g_full
            assign mask = {LANES{1'b1}};
            wire unused = &{1'b0, mask_start};
        end
    endgenerate

    reg [VECTOR_BITS-1:0] arrived1, arrived2;
    wire [VECTOR_BITS-1:0] vector2;
    generate
        if (ROW_FOLDS > 1 && DEPTHWISE == 0) begin : g_held
            reg is_first_row1, is_first_row2;
            wire [VECTOR_BITS-1:0] held1;
            reg [VECTOR_BITS-1:0] held2;
            tsn_buffer #(.WIDTH(VECTOR_BITS), .DEPTH(COLUMN_FOLDS), .STYLE(VECTOR_STYLE)) i_vector (
                .clk(clk), .write(step && is_first_row), .write_address(column_fold), .write_data(s_data),
                .read(enable && !is_first_row), .read_address(column_fold), .read_data(held1)
            );
            always_ff @(posedge clk) begin
                if (enable) begin
                    is_first_row1 <= is_first_row;
                    is_first_row2 <= is_first_row1;
                    held2 <= held1;
                end
            end
            assign vector2 = is_first_row2 ? arrived2 : held2;
        end else begin : g_passed
            assign vector2 = arrived2;
        end
    endgenerate
    reg [(READ-1)*VECTOR_BITS-1:0] delayed;  // the vector of stage 3 in the lowest bits
    wire [VECTOR_BITS-1:0] vector = delayed[(READ-2)*VECTOR_BITS+:VECTOR_BITS];  // whose centroids are there
    always_ff @(posedge clk) begin
        if (enable) begin
            arrived1 <= s_data;
            arrived2 <= arrived1;
            delayed <= ((READ-1)*VECTOR_BITS)'({delayed, vector2});
        end
    end

    // ---------------------------------------------------------------- what is in which stage
    reg [ROW:1] valid, first, last;
    reg [SCALE:1] first_row;
    reg [REGION_BITS-1:0] region0;
    reg [READ*REGION_BITS-1:0] regions;  // of stages 1 to READ, the last in the highest bits
    reg [TASK_BITS-1:0] task0;
    reg [5:0] shift0;
    reg [SCALE*TASK_BITS-1:0] tasks;  // of stages 1 to SCALE
    reg [(ROW+1)*6-1:0] shifts;  // of stages 1 to ROW + 1
    always_ff @(posedge clk) begin
        if (reset) begin
            valid <= 0;
            done <= 0;
        end else if (enable) begin
            valid <= {valid[ROW-1:1], step};
            done <= {done[END-1:ROW+1], valid[ROW] && last[ROW]};
        end
        if (enable) begin
            first <= {first[ROW-1:1], is_first};
            last <= {last[ROW-1:1], is_last};
            first_row <= {first_row[SCALE-1:1], is_first_row};
            regions <= (READ * REGION_BITS)'({regions, region0});
            tasks <= (SCALE * TASK_BITS)'({tasks, task0});
            shifts <= {shifts[ROW*6-1:0], shift0};
        end
        if (renew) {region0, task0, shift0} <= {next_region, next_task, parameters[REGION_BITS+6:REGION_BITS+1]};
    end
    assign m_valid = done[END];
    assign idle = valid == 0 && done == 0 && is_first_row && is_first;

    // ---------------------------------------------------------------- scales: there with the accumulator
    wire [TASK_BITS-1:0] task_of_scales = tasks[(SCALE-1)*TASK_BITS+:TASK_BITS];
    reg [SCALES_ADDRESS-1:0] scales_address, scales_start;
    always_comb begin
        scales_start = 0;
        for (i = 0; i < TASKS; i = i + 1) begin
            if (task_of_scales == TASK_BITS'(i)) scales_start = SCALES_ADDRESS'(i * ROW_FOLDS);
        end
    end
    wire [PE*(MULTIPLIER_BITS+OFFSET_BITS)-1:0] scales;
    tsn_memory #(
        .WIDTH(PE * (MULTIPLIER_BITS + OFFSET_BITS)), .DEPTH(SCALES_DEPTH), .STYLE(SCALES_STYLE), .FILE(SCALES_FILE),
        .PLACE({8'd3, INDEX}), .LOADS(32'(LOADED[3]))
    ) i_scales (
        .clk(clk), .enable(enable), .address(scales_address), .load(load), .data(scales)
    );
    always_ff @(posedge clk) begin
        if (enable && valid[SCALE] && last[SCALE]) scales_address <= first_row[SCALE] ? scales_start : scales_address + 1;
    end

    // ---------------------------------------------------------------- the rows
    localparam integer FACTOR_BITS = INPUT_BITS + (INPUT_SIGNED != 0 ? 0 : 1);
    localparam integer PRODUCT_BITS = FACTOR_BITS + CENTROID_BITS;
    localparam integer GROUPS = (SIMD + 3) / 4;
    wire [REGION_BITS-1:0] region = regions[(READ-1)*REGION_BITS+:REGION_BITS];
    localparam integer CODEBOOK_BITS = CODEBOOKS > 1 ? REGION_BITS + WORD_BITS : WORD_BITS;
    wire [LANES*CENTROID_BITS-1:0] centroids;
    wire [LANES*PRODUCT_BITS-1:0] lane_products;
    genvar p, s, g;
    generate
        for (p = 0; p < PE; p = p + 1) begin : g_row
            reg [GROUPS*ACCUMULATOR_BITS-1:0] sums;
            for (g = 0; g < GROUPS; g = g + 1) begin : g_group
                wire [4*PRODUCT_BITS-1:0] products;
                reg [2*ACCUMULATOR_BITS-1:0] pairs;
                wire [ACCUMULATOR_BITS-1:0] sum;
                for (s = 0; s < 4; s = s + 1) begin : g_column
                    localparam integer COLUMN = g * 4 + s, LANE = p * SIMD + COLUMN;
                    if (COLUMN < SIMD) begin : g_lane
                        wire [CENTROID_BITS-1:0] decoded;
                        wire [CODEBOOK_BITS-1:0] place;
                        if (CODEBOOKS > 1) assign place = {region, words[LANE*WORD_BITS+:WORD_BITS]};
                        else assign place = words[LANE*WORD_BITS+:WORD_BITS];
                        tsn_codebook #(
                            .WIDTH(CENTROID_BITS), .ADDRESS_BITS(CODEBOOK_BITS), .DEPTH(CODEBOOKS << WORD_BITS),
                            .FILE(CODEBOOK_FILE), .PLACE({8'd1, INDEX}), .LOADS(32'(LOADED[1]))
                        ) i_codebook (
                            .clk(clk), .load(load), .address(place), .centroid(decoded)
                        );
                        // The mask drives the synchronous reset of a register that is there anyway.
                        reg signed [CENTROID_BITS-1:0] centroid;
                        always_ff @(posedge clk) begin
                            if (enable) begin
                                if (!mask[LANE]) centroid <= 0;
                                else centroid <= decoded;
                            end
                        end
                        localparam integer PLACE = DEPTHWISE != 0 ? p : COLUMN;
                        wire signed [FACTOR_BITS-1:0] factor;
                        if (INPUT_SIGNED != 0) assign factor = vector[PLACE*INPUT_BITS+:INPUT_BITS];
                        else assign factor = {1'b0, vector[PLACE*INPUT_BITS+:INPUT_BITS]};
                        assign centroids[LANE*CENTROID_BITS+:CENTROID_BITS] = centroid;
                        assign products[s*PRODUCT_BITS+:PRODUCT_BITS] = lane_products[LANE*PRODUCT_BITS+:PRODUCT_BITS];
                        if (MULTIPLIER != 2) begin : g_own
                            tsn_multiply #(
                                .FIRST_BITS(FACTOR_BITS), .SECOND_BITS(CENTROID_BITS), .IN_LUTS(32'(MULTIPLIER == 1))
                            ) i_product (
                                .clk(clk), .enable(enable), .first(factor), .second(centroid),
                                .product(lane_products[LANE*PRODUCT_BITS+:PRODUCT_BITS])
                            );
                        end else if (p % 2 == 0) begin : g_pair_of_rows
                            tsn_multiply_pair #(
                                .SHARED_BITS(FACTOR_BITS), .BITS(CENTROID_BITS), .LOW_BITS(INPUT_BITS + CENTROID_BITS)
                            ) i_products (
                                .clk(clk), .enable(enable), .shared(factor), .first(centroid),
                                .second(centroids[(LANE+SIMD)*CENTROID_BITS+:CENTROID_BITS]),
                                .first_product(lane_products[LANE*PRODUCT_BITS+:PRODUCT_BITS]),
                                .second_product(lane_products[(LANE+SIMD)*PRODUCT_BITS+:PRODUCT_BITS])
                            );
                        end else begin : g_other
                            wire unused_factor = &{1'b0, factor};
                        end
                    end else begin : g_nothing
                        assign products[s*PRODUCT_BITS+:PRODUCT_BITS] = 0;
                    end
                end
                for (s = 0; s < 2; s = s + 1) begin : g_pair
                    wire [ACCUMULATOR_BITS-1:0] pair;
                    tsn_sum #(.COUNT(2), .BITS(PRODUCT_BITS), .SUM_BITS(ACCUMULATOR_BITS)) i_sum (
                        .numbers(products[2*s*PRODUCT_BITS+:2*PRODUCT_BITS]), .sum(pair)
                    );
                    always_ff @(posedge clk) if (enable) pairs[s*ACCUMULATOR_BITS+:ACCUMULATOR_BITS] <= pair;
                end
                tsn_sum #(.COUNT(2), .BITS(ACCUMULATOR_BITS), .SUM_BITS(ACCUMULATOR_BITS)) i_sum (
                    .numbers(pairs), .sum(sum)
                );
                always_ff @(posedge clk) if (enable) sums[g*ACCUMULATOR_BITS+:ACCUMULATOR_BITS] <= sum;
            end

            wire [ACCUMULATOR_BITS-1:0] total;
            reg [ACCUMULATOR_BITS-1:0] row;
            reg signed [ACCUMULATOR_BITS-1:0] accumulator;
            tsn_sum #(.COUNT(GROUPS), .BITS(ACCUMULATOR_BITS), .SUM_BITS(ACCUMULATOR_BITS)) i_total (
                .numbers(sums), .sum(total)
            );
            always_ff @(posedge clk) begin
                if (enable) begin
                    row <= total;
                    if (valid[ROW]) accumulator <= first[ROW] ? row : accumulator + row;
                end
            end

            localparam integer MULTIPLIER_PORT = MULTIPLIER_BITS > 0 ? MULTIPLIER_BITS : 1;
            wire [MULTIPLIER_BITS+OFFSET_BITS-1:0] scale = scales[
                p*(MULTIPLIER_BITS+OFFSET_BITS)+:MULTIPLIER_BITS+OFFSET_BITS
            ];
            tsn_requantize #(
                .ACCUMULATOR_BITS(ACCUMULATOR_BITS), .MULTIPLIER_BITS(MULTIPLIER_BITS), .OFFSET_BITS(OFFSET_BITS),
                .VALUE_BITS(VALUE_BITS), .OUTPUT_BITS(OUTPUT_BITS), .OUTPUT_SIGNED(OUTPUT_SIGNED)
            ) i_requantize (
                .clk(clk), .enable(enable), .shift(shifts[ROW*6+:6]), .accumulator(accumulator),
                .multiplier(scale[MULTIPLIER_PORT-1:0]), .offset(scale[MULTIPLIER_BITS+:OFFSET_BITS]),
                .result(m_data[p*OUTPUT_BITS+:OUTPUT_BITS])
            );
        end
    endgenerate
    wire unused_named = &{1'b0, go, coming, parameters, region, centroids};
endmodule
