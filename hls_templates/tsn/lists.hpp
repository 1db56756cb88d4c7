// Matrix unit that skips zeros: SIMD teams of PE lanes, each of which works off a list of the weights that the task uses.
//
// Four processes, a vector at a time, so that four vectors are on their way: the next one arrives, the lists of one run,
// the sums of each team whose turn ends are requantized, and the results of the one before leave in the order of channels.
// tsn_hw/hardware/lists.py says which lane computes which row when.
#ifndef TSN_LISTS_HPP
#define TSN_LISTS_HPP

#include "multiply.hpp"
#include "requantize.hpp"
#include "simulation.hpp"

namespace tsn {

// What all processes of a unit with lists speak of.
template <class T>
struct list_types {
    static const int LANES = T::PE * T::SIMD;
    static const int ENTRY_BITS = T::WORD_BITS + T::GAP_BITS;
    static const int TURN_BITS = T::MULTIPLIER_BITS + T::OFFSET_BITS + T::PLACE_BITS;
    static const int FIRST_LOW = 1 + T::REGION_BITS + 6;  // of the first line of a list, in the word of a task
    static const int TASK_BITS = FIRST_LOW + 2 * T::LINE_BITS + T::CLASS_BITS;
    static const unsigned NOTHING = (1U << T::GAP_BITS) - 1;  // a gap without a weight

    typedef ap_int<T::ACCUMULATOR_BITS> accumulator_t;
    typedef ap_uint<T::SIMD * T::INPUT_BITS> word_t;
    typedef typename integer<T::INPUT_BITS, T::INPUT_SIGNED>::type input_t;
    typedef ap_uint<T::PE * T::ACCUMULATOR_BITS> sums_t;
};

// What the task of a vector says: the lines of its list and its codebook, and its scales.
struct list_bounds {
    unsigned first, last, first_centroid;
};
struct list_scale {
    unsigned slot;
    shift_t shift;
};

// The task of a vector, for those that need it; an inference has POSITIONS vectors.
template <class T, class PARAMETERS>
void list_task(hls::stream<said_t> &said, hls::stream<list_bounds> &bounds, hls::stream<list_scale> &scale,
               const PARAMETERS &parameters_of) {
    typedef list_types<T> types;
    static unsigned position = 0, slot = 0;
    if (position == 0) slot = next_slot<T>(said);
    position = position == T::POSITIONS - 1 ? 0 : position + 1;
    limb_t own[limbs_of(types::TASK_BITS)];
#pragma HLS ARRAY_PARTITION variable=own type=complete
    read_line(parameters_of, slot, own);
    const parameters<T::REGION_BITS> common = {own[0]};
    list_bounds lines;
    lines.first = field<T::LINE_BITS>(own, types::FIRST_LOW).to_uint();
    lines.last = field<T::LINE_BITS>(own, types::FIRST_LOW + T::LINE_BITS).to_uint();
    lines.first_centroid = T::IS_LOADED ? 0 : common.region() << T::WORD_BITS;
    bounds.write(lines);
    list_scale scales;
    scales.slot = slot;
    scales.shift = common.shift(0);
    scale.write(scales);
}

// A vector, once for every lane: each reads a place of its own.
template <class T>
void list_vector(hls::stream<typename list_types<T>::word_t> &in,
                 typename list_types<T>::word_t (&vectors)[list_types<T>::LANES][T::COLUMN_FOLDS]) {
columns:
    for (int column_fold = 0; column_fold < T::COLUMN_FOLDS; column_fold++) {
#pragma HLS PIPELINE II=1 style=flp
        const typename list_types<T>::word_t word = in.read();
    lanes:
        for (int lane = 0; lane < list_types<T>::LANES; lane++) {
#pragma HLS UNROLL
            vectors[lane][column_fold] = word;
        }
    }
}

// The lists of one vector, a line a cycle: the sums of a team when its turn ends. Sums and columns of a lane, and whether its
// next line begins a turn, are carried in registers from line to line; nothing else is.
template <class T, class WORDS, class CODEBOOK>
void list_sums(typename list_types<T>::word_t (&vectors)[list_types<T>::LANES][T::COLUMN_FOLDS],
               hls::stream<typename list_types<T>::sums_t> &sums, hls::stream<list_bounds> &bounds,
               const WORDS &words, const CODEBOOK &codebook) {
    typedef list_types<T> types;
    typename types::accumulator_t accumulators[types::LANES];
    unsigned columns[types::LANES];
#pragma HLS ARRAY_PARTITION variable=accumulators type=complete
#pragma HLS ARRAY_PARTITION variable=columns type=complete
    bool begins[T::SIMD];
#pragma HLS ARRAY_PARTITION variable=begins type=complete
teams:
    for (int team = 0; team < T::SIMD; team++) {
#pragma HLS UNROLL
        begins[team] = true;
    }
    const list_bounds list = bounds.read();
    TSN_CYCLES(T::INDEX, UNIT);
lines:
    for (unsigned line = list.first; line <= list.last; line++) {
#pragma HLS PIPELINE II=1 style=flp
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
        TSN_CYCLE;
        limb_t entries[limbs_of(types::LANES * types::ENTRY_BITS + T::END_BITS)];
#pragma HLS ARRAY_PARTITION variable=entries type=complete
        read_line(words, line, entries);
        const unsigned ends = field<T::END_BITS>(entries, types::LANES * types::ENTRY_BITS).to_uint();
        typename types::sums_t ended = 0;
    lanes:
        for (int lane = 0; lane < types::LANES; lane++) {
#pragma HLS UNROLL
            const int team = lane / T::PE, row = lane % T::PE;
            const bool is_first = begins[team], is_last = ends == unsigned(team + 1);
            const unsigned word = field<T::WORD_BITS>(entries, lane * types::ENTRY_BITS).to_uint();
            const unsigned gap = field<T::GAP_BITS>(entries, lane * types::ENTRY_BITS + T::WORD_BITS).to_uint();
            const bool is_used = gap != types::NOTHING;
            const unsigned column = (is_first ? 0 : columns[lane]) + gap;
            columns[lane] = column + (is_used ? 1 : 0);
            const typename types::word_t part = is_used ? vectors[lane][column / T::SIMD] : typename types::word_t(0);
            const int low = int(column % T::SIMD) * T::INPUT_BITS;
            const typename types::input_t x = ap_uint<T::INPUT_BITS>(part.range(low + T::INPUT_BITS - 1, low));
            const typename types::accumulator_t before = is_first ? typename types::accumulator_t(0) : accumulators[lane];
            accumulators[lane] = before + product<T, T::MULTIPLIER>(decode<T::CENTROID_BITS>(codebook, list.first_centroid, word, is_used), x);
            if (row == T::PE - 1) begins[team] = is_last;
            if (is_last) ended.range(T::ACCUMULATOR_BITS * (row + 1) - 1, T::ACCUMULATOR_BITS * row) = accumulators[lane];
        }
        if (ends != 0) sums.write(ended);
    }
}

// The sums of every turn, in the order in which they ended: results, each at the place of its row.
template <class T, class SCALES>
void list_results(hls::stream<typename list_types<T>::sums_t> &sums,
                  ap_uint<T::OUTPUT_BITS> (&results)[T::PE][T::ROW_FOLDS], hls::stream<list_scale> &scale,
                  const SCALES &scales) {
    typedef list_types<T> types;
    const list_scale own = scale.read();
    TSN_ROWS(T::ROW_FOLDS * T::PE);
turns:
    for (int turn = 0; turn < T::ROW_FOLDS; turn++) {
#pragma HLS PIPELINE II=1 style=flp
        const typename types::sums_t ended = sums.read();
        limb_t line[limbs_of(T::PE * types::TURN_BITS)];
#pragma HLS ARRAY_PARTITION variable=line type=complete
        read_line(scales, own.slot * T::ROW_FOLDS + turn, line);
    rows:
        for (int q = 0; q < T::PE; q++) {
#pragma HLS UNROLL
            const int low = q * types::TURN_BITS;
            const typename types::accumulator_t sum = ap_uint<T::ACCUMULATOR_BITS>(
                ended.range(T::ACCUMULATOR_BITS * (q + 1) - 1, T::ACCUMULATOR_BITS * q));
            const unsigned place = field<T::PLACE_BITS>(line, low + T::MULTIPLIER_BITS + T::OFFSET_BITS).to_uint();
            TSN_ROW(place * T::PE + q, sum);
            results[q][place] = requantize<T::OUTPUT_BITS, T::OUTPUT_SIGNED>(scaled<T>(sum, line, low), own.shift);
        }
    }
}

// Results of a vector in the order of channels.
template <class T>
void list_output(ap_uint<T::OUTPUT_BITS> (&results)[T::PE][T::ROW_FOLDS],
                 hls::stream<ap_uint<T::PE * T::OUTPUT_BITS> > &out) {
words:
    for (int row_fold = 0; row_fold < T::ROW_FOLDS; row_fold++) {
#pragma HLS PIPELINE II=1 style=flp
        ap_uint<T::PE * T::OUTPUT_BITS> word = 0;
    rows:
        for (int q = 0; q < T::PE; q++) {
#pragma HLS UNROLL
            word.range(T::OUTPUT_BITS * (q + 1) - 1, T::OUTPUT_BITS * q) = results[q][row_fold];
        }
        out.write(word);
    }
}

// All vectors of some inferences. What a vector gives never waits for a later one.
template <class T, class WORDS, class CODEBOOK, class SCALES, class PARAMETERS>
void list_vectors(hls::stream<typename list_types<T>::word_t> &in,
                  hls::stream<ap_uint<T::PE * T::OUTPUT_BITS> > &out, hls::stream<said_t> &said,
                  unsigned long long vectors, const WORDS &words, const CODEBOOK &codebook, const SCALES &scales,
                  const PARAMETERS &parameters_of) {
    typedef list_types<T> types;
vectors:
    for (unsigned long long vector = 0; vector < vectors; vector++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
#pragma HLS DATAFLOW
        typename types::word_t copies[types::LANES][T::COLUMN_FOLDS];
#pragma HLS ARRAY_PARTITION variable=copies type=complete dim=1
        ap_uint<T::OUTPUT_BITS> results[T::PE][T::ROW_FOLDS];
#pragma HLS ARRAY_PARTITION variable=results type=complete dim=1
        hls::stream<typename types::sums_t> sums("sums");
        hls::stream<list_bounds> bounds("bounds");
        hls::stream<list_scale> scale("scale");
#pragma HLS STREAM variable=sums depth=2
#pragma HLS STREAM variable=bounds depth=2
#pragma HLS STREAM variable=scale depth=4
        list_task<T>(said, bounds, scale, parameters_of);
        list_vector<T>(in, copies);
        list_sums<T>(copies, sums, bounds, words, codebook);
        list_results<T>(sums, results, scale, scales);
        list_output<T>(results, out);
    }
}

// T says the folding, the widths, and IS_LOADED: whether lists, codebook, scales and parameters hold one task or all.
template <class T, class WORDS, class CODEBOOK, class MASK, class SCALES, class PARAMETERS>
void lists(hls::stream<ap_uint<T::SIMD * T::INPUT_BITS> > &in, hls::stream<ap_uint<T::PE * T::OUTPUT_BITS> > &out,
           hls::stream<said_t> &said, unsigned inferences, const WORDS &words, const CODEBOOK &codebook, const MASK &,
           const SCALES &scales, const PARAMETERS &parameters_of) {
#pragma HLS INLINE
    list_vectors<T>(in, out, said, static_cast<unsigned long long>(T::POSITIONS) * inferences, words, codebook, scales,
                    parameters_of);
}

}  // namespace tsn

#endif
