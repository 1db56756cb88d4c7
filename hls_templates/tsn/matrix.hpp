// Matrix-vector-activation unit: PE rows times SIMD columns in a cycle, weights decoded from words on the way.
#ifndef TSN_MATRIX_HPP
#define TSN_MATRIX_HPP

#include "multiply.hpp"
#include "requantize.hpp"
#include "simulation.hpp"

namespace tsn {

// All vectors of some inferences, one line of weights a cycle. A vector is held while the row folds go on.
//
// DEPTHWISE: row p reads activation p of a word, SIMD is 1, and every line has a word of its own.
//
// T says the folding, the widths, and IS_LOADED: whether codebook, mask, scales and parameters hold one task or all.
template <class T, class WORDS, class CODEBOOK, class MASK, class SCALES, class PARAMETERS>
void matrix(hls::stream<ap_uint<(T::DEPTHWISE ? T::PE : T::SIMD) * T::INPUT_BITS> > &in, hls::stream<ap_uint<T::PE * T::OUTPUT_BITS> > &out,
            hls::stream<said_t> &said, unsigned inferences, const WORDS &words, const CODEBOOK &codebook, const MASK &mask,
            const SCALES &scales, const PARAMETERS &parameters_of) {
#pragma HLS INLINE
    typedef typename integer<T::INPUT_BITS, T::INPUT_SIGNED>::type input_t;
    typedef ap_int<T::ACCUMULATOR_BITS> accumulator_t;
    const int input_lanes = T::DEPTHWISE ? T::PE : T::SIMD;
    const unsigned lines = T::ROW_FOLDS * T::COLUMN_FOLDS;
    unsigned slot = 0, first_line = 0, first_centroid = 0;
    shift_t shift = 0;

    ap_uint<input_lanes * T::INPUT_BITS> held[T::COLUMN_FOLDS];
    accumulator_t accumulators[T::PE];
#pragma HLS ARRAY_PARTITION variable=accumulators type=complete
    unsigned row_fold = 0, column_fold = 0, line = 0;
    TSN_CYCLES(T::INDEX, UNIT);
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    lines:
        for (unsigned step = 0; step < T::POSITIONS * lines; step++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            TSN_CYCLE;
            if (step == 0) {
                slot = next_slot<T>(said);
                const parameters<T::REGION_BITS> own = {limb(parameters_of[slot][0])};
                first_line = own.region() * lines;
                first_centroid = T::IS_LOADED ? 0 : own.region() << T::WORD_BITS;
                shift = own.shift(0);
            }
            ap_uint<input_lanes * T::INPUT_BITS> x;
            if (row_fold == 0 || T::DEPTHWISE) {
                x = in.read();
                held[column_fold] = x;
            } else {
                x = held[column_fold];
            }
            input_t activations[input_lanes];
#pragma HLS ARRAY_PARTITION variable=activations type=complete
        activations:
            for (int s = 0; s < input_lanes; s++) {
#pragma HLS UNROLL
                activations[s] = ap_uint<T::INPUT_BITS>(x.range(T::INPUT_BITS * (s + 1) - 1, T::INPUT_BITS * s));
            }
            limb_t word_line[limbs_of(T::PE * T::SIMD * T::WORD_BITS)], mask_line[limbs_of(T::PE * T::SIMD)];
#pragma HLS ARRAY_PARTITION variable=word_line type=complete
#pragma HLS ARRAY_PARTITION variable=mask_line type=complete
            read_line(words, first_line + line, word_line);
            if (T::HAS_MASK) read_line(mask, slot * lines + line, mask_line);
            typename product_types<T>::centroid_t centroids[T::PE * T::SIMD];
            typename product_types<T>::product_t products[T::PE * T::SIMD];
#pragma HLS ARRAY_PARTITION variable=centroids type=complete
#pragma HLS ARRAY_PARTITION variable=products type=complete
        words:
            for (int lane = 0; lane < T::PE * T::SIMD; lane++) {
#pragma HLS UNROLL
                const unsigned word = field<T::WORD_BITS>(word_line, lane * T::WORD_BITS).to_uint();
                const bool is_used = !T::HAS_MASK || field<1>(mask_line, lane) != 0;
                centroids[lane] = decode<T::CENTROID_BITS>(codebook, first_centroid, word, is_used);
            }
            line_products<T, T::MULTIPLIER>::find(centroids, activations, products);
        rows:
            for (int p = 0; p < T::PE; p++) {
#pragma HLS UNROLL
                accumulator_t sum = column_fold == 0 ? accumulator_t(0) : accumulators[p];
            columns:
                for (int s = 0; s < T::SIMD; s++) {
#pragma HLS UNROLL
                    sum += products[p * T::SIMD + s];
                }
                accumulators[p] = sum;
            }
            if (column_fold == T::COLUMN_FOLDS - 1) {
                limb_t scale_line[limbs_of(T::PE * (T::MULTIPLIER_BITS + T::OFFSET_BITS))];
#pragma HLS ARRAY_PARTITION variable=scale_line type=complete
                read_line(scales, slot * T::ROW_FOLDS + row_fold, scale_line);
                ap_uint<T::PE * T::OUTPUT_BITS> y = 0;
            results:
                for (int p = 0; p < T::PE; p++) {
#pragma HLS UNROLL
                    TSN_ACCUMULATOR(accumulators[p]);
                    y.range(T::OUTPUT_BITS * (p + 1) - 1, T::OUTPUT_BITS * p) =
                        requantize<T::OUTPUT_BITS, T::OUTPUT_SIGNED>(scaled<T>(accumulators[p], scale_line, p * (T::MULTIPLIER_BITS + T::OFFSET_BITS)), shift);
                }
                out.write(y);
                column_fold = 0;
                row_fold = row_fold == T::ROW_FOLDS - 1 ? 0 : row_fold + 1;
            } else {
                column_fold++;
            }
            line = line == lines - 1 ? 0 : line + 1;
        }
    }
}

}  // namespace tsn

#endif
