// Units without weights: pooling and addition, PE channels a cycle.
#ifndef TSN_ELEMENTWISE_HPP
#define TSN_ELEMENTWISE_HPP

#include "requantize.hpp"
#include "simulation.hpp"

namespace tsn {

// Value of lane `lane` of a word.
template <int BITS, bool SIGNED, int WIDTH>
typename integer<BITS, SIGNED>::type lane_of(const ap_uint<WIDTH> &word, int lane) {
#pragma HLS INLINE
    return ap_uint<BITS>(word.range(BITS * (lane + 1) - 1, BITS * lane));
}

// The largest of every AREA words, lane by lane. T: PE lanes of BITS, WORDS words an inference that come out.
template <class T>
void max_pool(hls::stream<ap_uint<T::PE * T::INPUT_BITS> > &in, hls::stream<ap_uint<T::PE * T::INPUT_BITS> > &out,
              unsigned inferences) {
    typedef typename integer<T::INPUT_BITS, T::INPUT_SIGNED>::type value_t;
    value_t largest[T::PE];
#pragma HLS ARRAY_PARTITION variable=largest type=complete
    unsigned seen = 0;
    TSN_CYCLES(T::INDEX, UNIT);
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    words:
        for (unsigned i = 0; i < T::WORDS * T::AREA; i++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            TSN_CYCLE;
            const ap_uint<T::PE * T::INPUT_BITS> word = in.read();
            ap_uint<T::PE * T::INPUT_BITS> y = 0;
        lanes:
            for (int p = 0; p < T::PE; p++) {
#pragma HLS UNROLL
                const value_t value = lane_of<T::INPUT_BITS, T::INPUT_SIGNED>(word, p);
                if (seen == 0 || value > largest[p]) largest[p] = value;
                y.range(T::INPUT_BITS * (p + 1) - 1, T::INPUT_BITS * p) = largest[p];
            }
            if (++seen == T::AREA) {
                seen = 0;
                out.write(y);
            }
        }
    }
}

// The sum of every AREA words, lane by lane, requantized.
template <class T, class SCALES, class PARAMETERS>
void average_pool(hls::stream<ap_uint<T::PE * T::INPUT_BITS> > &in, hls::stream<ap_uint<T::PE * T::OUTPUT_BITS> > &out,
                  hls::stream<said_t> &said, unsigned inferences, const SCALES &scales, const PARAMETERS &parameters_of) {
#pragma HLS INLINE
    shift_t shift = 0;
    limb_t scale_line[limbs_of(T::MULTIPLIER_BITS + T::OFFSET_BITS)] = {};
#pragma HLS ARRAY_PARTITION variable=scale_line type=complete
    ap_int<T::ACCUMULATOR_BITS> sums[T::PE];
#pragma HLS ARRAY_PARTITION variable=sums type=complete
    unsigned seen = 0;
    TSN_CYCLES(T::INDEX, UNIT);
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    words:
        for (unsigned i = 0; i < T::WORDS * T::AREA; i++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            TSN_CYCLE;
            if (i == 0) {
                const unsigned slot = next_slot<T>(said);
                shift = parameters<0>{limb(parameters_of[slot][0])}.shift(0);
                read_line(scales, slot, scale_line);
            }
            const ap_uint<T::PE * T::INPUT_BITS> word = in.read();
            ap_uint<T::PE * T::OUTPUT_BITS> y = 0;
        lanes:
            for (int p = 0; p < T::PE; p++) {
#pragma HLS UNROLL
                const ap_int<T::ACCUMULATOR_BITS> before = seen == 0 ? ap_int<T::ACCUMULATOR_BITS>(0) : sums[p];
                sums[p] = before + lane_of<T::INPUT_BITS, T::INPUT_SIGNED>(word, p);
                y.range(T::OUTPUT_BITS * (p + 1) - 1, T::OUTPUT_BITS * p) =
                    requantize<T::OUTPUT_BITS, T::OUTPUT_SIGNED>(scaled<T>(sums[p], scale_line, 0), shift);
            }
            if (++seen == T::AREA) {
                seen = 0;
                out.write(y);
            }
        }
    }
}

// value * 2**amount, as a chain of multiplexers.
template <int BITS>
ap_int<BITS> shifted_left(ap_int<BITS> value, shift_t amount) {
#pragma HLS INLINE
stages:
    for (int i = 0; i < 6; i++) {
#pragma HLS UNROLL
        if (amount[i]) value = value * (1LL << (1 << i));
    }
    return value;
}

// The sum of two streams, each shifted left to the finer of their grids, requantized.
template <class T, class SCALES, class PARAMETERS>
void add(hls::stream<ap_uint<T::PE * T::FIRST_BITS> > &first, hls::stream<ap_uint<T::PE * T::SECOND_BITS> > &second,
         hls::stream<ap_uint<T::PE * T::OUTPUT_BITS> > &out, hls::stream<said_t> &said, unsigned inferences, const SCALES &scales,
         const PARAMETERS &parameters_of) {
#pragma HLS INLINE
    shift_t shift = 0, first_shift = 0, second_shift = 0;
    limb_t scale_line[limbs_of(T::MULTIPLIER_BITS + T::OFFSET_BITS)] = {};
#pragma HLS ARRAY_PARTITION variable=scale_line type=complete
    TSN_CYCLES(T::INDEX, UNIT);
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    words:
        for (unsigned i = 0; i < T::WORDS; i++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            TSN_CYCLE;
            if (i == 0) {
                const unsigned slot = next_slot<T>(said);
                const parameters<0> own = {limb(parameters_of[slot][0])};
                shift = own.shift(0);
                first_shift = own.shift(1);
                second_shift = own.shift(2);
                read_line(scales, slot, scale_line);
            }
            const ap_uint<T::PE * T::FIRST_BITS> a = first.read();
            const ap_uint<T::PE * T::SECOND_BITS> b = second.read();
            ap_uint<T::PE * T::OUTPUT_BITS> y = 0;
        lanes:
            for (int p = 0; p < T::PE; p++) {
#pragma HLS UNROLL
                const ap_int<T::ACCUMULATOR_BITS> left = lane_of<T::FIRST_BITS, T::FIRST_SIGNED>(a, p);
                const ap_int<T::ACCUMULATOR_BITS> right = lane_of<T::SECOND_BITS, T::SECOND_SIGNED>(b, p);
                const ap_int<T::ACCUMULATOR_BITS> sum =
                    shifted_left(left, first_shift) + shifted_left(right, second_shift);
                y.range(T::OUTPUT_BITS * (p + 1) - 1, T::OUTPUT_BITS * p) =
                    requantize<T::OUTPUT_BITS, T::OUTPUT_SIGNED>(scaled<T>(sum, scale_line, 0), shift);
            }
            out.write(y);
        }
    }
}

}  // namespace tsn

#endif
