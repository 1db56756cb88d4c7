// Sliding window: pixels in raster order in, the windows of a convolution or pooling out, one word a cycle.
#ifndef TSN_WINDOW_HPP
#define TSN_WINDOW_HPP

#include "simulation.hpp"

namespace tsn {

// Rows that must have arrived before output row `row` is sent, one even for padding alone; all of them behind the last.
template <class T>
constexpr int rows_needed(int row) {
    return row == T::OUTPUT_ROWS || row * T::STRIDE_ROWS - T::PADDING_ROWS + T::KERNEL_ROWS > T::HEIGHT ? T::HEIGHT
           : row * T::STRIDE_ROWS - T::PADDING_ROWS + T::KERNEL_ROWS < 1
               ? 1
               : row * T::STRIDE_ROWS - T::PADDING_ROWS + T::KERNEL_ROWS;
}

// Words that are loaded while output row `row` is sent, and before the first one (-1).
template <class T>
constexpr int words_loaded(int row) {
    return (rows_needed<T>(row + 1) - (row < 0 ? 0 : rows_needed<T>(row))) * T::WIDTH * T::PARTS;
}

// Words that are sent of output row `row`.
template <class T>
constexpr int words_sent(int row) {
    return row < 0 ? 0 : T::OUTPUT_COLUMNS * T::KERNEL_ROWS * T::KERNEL_COLUMNS * T::PARTS;
}

template <class T>
constexpr unsigned window_cycles() {
    unsigned cycles = 0;
    for (int row = -1; row < T::OUTPUT_ROWS; row++) {
        cycles += words_loaded<T>(row) > words_sent<T>(row) ? words_loaded<T>(row) : words_sent<T>(row);
    }
    return cycles;
}

// Load the rows that the first output row needs, and the first row in any case, so that nothing begins before the input
// does; then, for every output row, send its windows while loading what the next one needs, and at last what is left.
// Rows lie in a ring of KERNEL_ROWS + STRIDE_ROWS rows, so that none that is being sent is overwritten. Every step takes
// a cycle, and loads and sends at most a word.
//
// T: the geometry; PARTS words a pixel. A window goes out pixel by pixel for a convolution; with BY_PART, for pooling,
// part by part, so that the reader needs the sums of one part alone.
template <class T>
void window(hls::stream<ap_uint<T::WORD_WIDTH> > &in, hls::stream<ap_uint<T::WORD_WIDTH> > &out, unsigned inferences) {
    const int ring_rows = T::KERNEL_ROWS + T::STRIDE_ROWS;
    const int row_words = T::WIDTH * T::PARTS;
    const int outer_parts = T::BY_PART ? T::PARTS : 1, inner_parts = T::BY_PART ? 1 : T::PARTS;
    const int first_slot = (ring_rows - T::PADDING_ROWS % ring_rows) % ring_rows;
    constexpr unsigned steps_of_inference = window_cycles<T>();

    ap_uint<T::WORD_WIDTH> ring[ring_rows * row_words];
#pragma HLS BIND_STORAGE variable=ring type=ram_s2p
    int row = -1, loads = words_loaded<T>(-1), sends = 0;
    int loaded_to = 0;                                                 // where the next word goes in the ring
    int top = -T::PADDING_ROWS, left = -T::PADDING_COLUMNS;            // the pixel that the window begins with
    int top_slot = first_slot;                                         // the row of the ring that it lies in
    int outer = 0, kernel_row = 0, kernel_column = 0, inner = 0;       // the word of the window that is next
    TSN_CYCLES(T::INDEX, WINDOW);
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    steps:
        for (unsigned step = 0; step < steps_of_inference; step++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            TSN_CYCLE;
            if (loads != 0) {
                ring[loaded_to] = in.read();
                loaded_to = loaded_to == ring_rows * row_words - 1 ? 0 : loaded_to + 1;
                loads--;
            }
            if (sends != 0) {
                const int y = top + kernel_row, x = left + kernel_column;
                const int slot = top_slot + kernel_row - (top_slot + kernel_row < ring_rows ? 0 : ring_rows);
                ap_uint<T::WORD_WIDTH> word = 0;
                if (y >= 0 && y < T::HEIGHT && x >= 0 && x < T::WIDTH) {
                    word = ring[slot * row_words + x * T::PARTS + outer + inner];
                }
                out.write(word);
                sends--;
                if (++inner == inner_parts) {
                    inner = 0;
                    if (++kernel_column == T::KERNEL_COLUMNS) {
                        kernel_column = 0;
                        if (++kernel_row == T::KERNEL_ROWS) {
                            kernel_row = 0;
                            if (++outer == outer_parts) {
                                outer = 0;
                                left += T::STRIDE_COLUMNS;
                            }
                        }
                    }
                }
            }
            if (loads == 0 && sends == 0) {
                left = -T::PADDING_COLUMNS;
                if (row == T::OUTPUT_ROWS - 1) {
                    row = -1;
                    loaded_to = 0;
                    top = -T::PADDING_ROWS;
                    top_slot = first_slot;
                } else {
                    if (row >= 0) {
                        top += T::STRIDE_ROWS;
                        top_slot += T::STRIDE_ROWS - (top_slot + T::STRIDE_ROWS < ring_rows ? 0 : ring_rows);
                    }
                    row++;
                }
                loads = words_loaded<T>(row);
                sends = words_sent<T>(row);
            }
        }
    }
}

}  // namespace tsn

#endif
