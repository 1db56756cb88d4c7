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

// Bits that hold 0..most.
constexpr int bits_of(unsigned long long most) { return most < 2 ? 1 : 1 + bits_of(most / 2); }

// Sizes of a window, and where it is: narrow counters, each of which one step changes by a constant.
template <class T>
struct window_place {
    static const int RING_ROWS = T::KERNEL_ROWS + T::STRIDE_ROWS, ROW_WORDS = T::WIDTH * T::PARTS;
    static const int RING = RING_ROWS * ROW_WORDS, SENDS = T::OUTPUT_COLUMNS * T::KERNEL_ROWS * T::KERNEL_COLUMNS * T::PARTS;
    static const int FIRST_ROW = (RING_ROWS - T::PADDING_ROWS % RING_ROWS) % RING_ROWS * ROW_WORDS;
    static const int MOST_ROWS = (T::OUTPUT_ROWS + 3) * T::STRIDE_ROWS + T::KERNEL_ROWS + T::PADDING_ROWS + T::HEIGHT;
    static const int OUTER = T::BY_PART ? T::PARTS : 1, INNER = T::BY_PART ? 1 : T::PARTS;

    ap_int<bits_of(T::OUTPUT_ROWS + 1) + 1> row;       // of the output; -1 loads alone
    bool is_load, is_last_load, is_send, is_last_send;  // whether some are to come, and not more than one
    ap_uint<bits_of(T::HEIGHT * ROW_WORDS)> loads, next_loads;  // still to come, and those of the next row
    // Rows that must have arrived before the next output row but one, and but two; of the one behind, before it is limited.
    ap_int<bits_of(MOST_ROWS) + 1> before, needed, wanted;
    ap_uint<bits_of(SENDS)> sends;
    ap_uint<bits_of(RING)> loaded_to, top_row, ring_row;  // in words of the ring: of the next word, of rows that are sent
    ap_uint<bits_of(T::OUTPUT_ROWS * T::STRIDE_ROWS + T::KERNEL_ROWS)> top;  // the window's first row, padding included
    ap_uint<bits_of((T::OUTPUT_COLUMNS * T::STRIDE_COLUMNS + T::KERNEL_COLUMNS) * T::PARTS)> left, column;  // in words
    ap_uint<bits_of(T::KERNEL_ROWS)> kernel_row;
    ap_uint<bits_of(T::KERNEL_COLUMNS)> kernel_column;
    ap_uint<bits_of(T::PARTS)> outer, inner;
};

// To the start of an inference.
template <class T>
void begin(window_place<T> &at) {
#pragma HLS INLINE
    at.row = -1;
    at.loads = words_loaded<T>(-1);
    at.is_load = true;
    at.is_last_load = words_loaded<T>(-1) <= 1;
    at.is_send = false;
    at.is_last_send = true;
    at.next_loads = words_loaded<T>(0);
    at.before = rows_needed<T>(1);
    at.needed = rows_needed<T>(2);
    at.wanted = 3 * T::STRIDE_ROWS - T::PADDING_ROWS + T::KERNEL_ROWS;
    at.sends = 0;
    at.loaded_to = 0;
    at.top = 0;
    at.top_row = at.ring_row = window_place<T>::FIRST_ROW;
    at.left = at.column = 0;
    at.kernel_row = at.kernel_column = at.outer = at.inner = 0;
}

// A place in the ring, some rows further.
template <class T, class PLACE>
PLACE around(const PLACE &place, int rows) {
#pragma HLS INLINE
    typedef window_place<T> W;
    const int room = W::RING - rows * W::ROW_WORDS;  // a constant
    return place >= room ? PLACE(place - room) : PLACE(place + rows * W::ROW_WORDS);
}

// A counter after one more, or from the start.
template <class COUNT>
COUNT counted(const COUNT &count, bool ends) {
#pragma HLS INLINE
    return ends ? COUNT(0) : COUNT(count + 1);
}

// A step: at most a word in, and one out. What ends with it is known before any counter moves.
template <class T, class RING>
void window_step(hls::stream<ap_uint<T::WORD_WIDTH> > &in, hls::stream<ap_uint<T::WORD_WIDTH> > &out, RING &ring,
                 window_place<T> &at) {
#pragma HLS INLINE
    typedef window_place<T> W;
    const bool is_load = at.is_load, is_send = at.is_send, is_end = at.is_last_load && at.is_last_send;
    const bool ends_pixel = is_send && at.inner == W::INNER - 1;
    const bool ends_line = ends_pixel && at.kernel_column == T::KERNEL_COLUMNS - 1;
    const bool ends_area = ends_line && at.kernel_row == T::KERNEL_ROWS - 1;
    const bool ends_window = ends_area && at.outer == W::OUTER - 1;
    if (is_send) {
        const int y = at.top + at.kernel_row - T::PADDING_ROWS;
        const int x = at.column - T::PADDING_COLUMNS * T::PARTS, place = at.ring_row + x + at.outer + at.inner;  // in words
        ap_uint<T::WORD_WIDTH> word = 0;
        if (y >= 0 && y < T::HEIGHT && x >= 0 && x < W::ROW_WORDS) word = ring[place];
        out.write(word);
    }
    if (is_load) ring[at.loaded_to] = in.read();
    if (is_end && at.row == T::OUTPUT_ROWS - 1) {
        begin(at);
        return;
    }
    if (is_load) {
        at.loaded_to = counted(at.loaded_to, at.loaded_to == W::RING - 1);
        at.is_load = !at.is_last_load;
        at.is_last_load = at.loads <= 2;
        at.loads -= 1;
    }
    if (is_end) {
        if (at.row >= 0) {
            at.top += int(T::STRIDE_ROWS);
            at.top_row = around<T>(at.top_row, T::STRIDE_ROWS);
        }
        at.ring_row = at.top_row;
        at.is_load = at.next_loads != 0;
        at.is_last_load = at.next_loads <= 1;
        at.loads = at.next_loads;
        at.is_send = true;
        at.is_last_send = W::SENDS == 1;
        at.next_loads = (at.needed - at.before) * W::ROW_WORDS;
        at.before = at.needed;
        at.needed = at.wanted;
        if (at.wanted < 1) at.needed = 1;
        if (at.row >= T::OUTPUT_ROWS - 4 || at.wanted > T::HEIGHT) at.needed = T::HEIGHT;
        at.wanted += int(T::STRIDE_ROWS);
        at.sends = W::SENDS;
        at.row += 1;
        at.left = at.column = 0;
        at.kernel_row = at.kernel_column = at.outer = at.inner = 0;
        return;
    }
    if (is_send) {
        at.is_send = !at.is_last_send;
        at.is_last_send = at.sends <= 2;
        at.sends -= 1;
    }
    if (is_send) at.inner = counted(at.inner, ends_pixel);
    if (ends_pixel) at.kernel_column = counted(at.kernel_column, ends_line);
    if (ends_line) at.kernel_row = counted(at.kernel_row, ends_area);
    if (ends_area) at.ring_row = at.top_row;
    else if (ends_line) at.ring_row = around<T>(at.ring_row, 1);
    if (ends_area) at.outer = counted(at.outer, ends_window);
    if (ends_window) at.left = at.column = at.left + T::STRIDE_COLUMNS * T::PARTS;
    else if (ends_line) at.column = at.left;
    else if (ends_pixel) at.column += int(T::PARTS);
}

// Load the rows that the first output row needs, and the first row in any case, so that nothing begins before the input
// does; then, for every output row, send its windows while loading what the next one needs, and at last what is left.
// Rows lie in a ring of KERNEL_ROWS + STRIDE_ROWS rows, so that none that is being sent is overwritten. Every step takes
// a cycle, and loads and sends at most a word.
//
// T: the geometry; PARTS words a pixel. A window goes out pixel by pixel for a convolution; with BY_PART, for pooling,
// part by part, so that the reader needs the sums of one part alone.
//
// No step reads the place that it writes, and RING_STEPS or more lie between a step that writes a place and one that
// reads what was written there, or the other way round. Window.ring_steps has computed it of the whole schedule. From 4 on,
// more than a pipeline's stages between read and write, the loop may be scheduled as if it used the ring once.
template <class T>
void window(hls::stream<ap_uint<T::WORD_WIDTH> > &in, hls::stream<ap_uint<T::WORD_WIDTH> > &out, unsigned inferences) {
    constexpr unsigned steps_of_inference = window_cycles<T>();
    ap_uint<T::WORD_WIDTH> ring[window_place<T>::RING];
#pragma HLS BIND_STORAGE variable=ring type=ram_s2p
    window_place<T> at;
    begin(at);
    TSN_CYCLES(T::INDEX, WINDOW);
    if (T::RING_STEPS < 4) {
    near_inferences:
        for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
        near_steps:
            for (unsigned step = 0; step < steps_of_inference; step++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
#pragma HLS DEPENDENCE variable=ring type=intra dependent=false
                TSN_CYCLE;
                window_step<T>(in, out, ring, at);
            }
        }
        return;
    }
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    steps:
        for (unsigned step = 0; step < steps_of_inference; step++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
#pragma HLS DEPENDENCE variable=ring type=intra dependent=false
#pragma HLS DEPENDENCE variable=ring type=inter dependent=false
            TSN_CYCLE;
            window_step<T>(in, out, ring, at);
        }
    }
}

}  // namespace tsn

#endif
