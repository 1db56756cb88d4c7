// Requantization: round half to even, saturate. The rule of tsn_hw/core/arithmetic.py, on the same table of cases.
#ifndef TSN_REQUANTIZE_HPP
#define TSN_REQUANTIZE_HPP

#include "memory.hpp"

namespace tsn {

// value / 2**shift, rounded half to even: adding half - 1, and 1 where the quotient is odd, carries into the quotient
// exactly where it must round up.
template <int BITS>
ap_int<BITS> round_shift(ap_int<BITS> value, shift_t shift) {
#pragma HLS INLINE
    if (shift == 0) return value;
    const ap_int<BITS> quotient = value >> shift;
    ap_int<BITS> half = 0;
    half[shift.to_int() - 1] = 1;
    const ap_int<BITS> sum = value + half - 1 + (quotient[0] ? 1 : 0);
    return sum >> shift;
}

// saturate(round(value / 2**shift)) to an output format.
template <int OUTPUT_BITS, bool OUTPUT_SIGNED, int BITS>
typename integer<OUTPUT_BITS, OUTPUT_SIGNED>::type requantize(ap_int<BITS> value, shift_t shift) {
#pragma HLS INLINE
    const long long low = lowest(OUTPUT_BITS, OUTPUT_SIGNED), high = highest(OUTPUT_BITS, OUTPUT_SIGNED);
    const long long rounded = round_shift<BITS>(value, shift).to_int64();
    return typename integer<OUTPUT_BITS, OUTPUT_SIGNED>::type(rounded < low ? low : rounded > high ? high : rounded);
}

// accumulator * multiplier + offset, which stand from bit `low` of a line of scales on; T::MULTIPLIER_BITS is 0 where all
// multipliers are 1.
template <class T, int LIMBS>
ap_int<T::VALUE_BITS> scaled(ap_int<T::ACCUMULATOR_BITS> accumulator, const limb_t (&line)[LIMBS], int low) {
#pragma HLS INLINE
    const int multiplier_bits = T::MULTIPLIER_BITS > 0 ? T::MULTIPLIER_BITS : 1;
    const ap_int<multiplier_bits> multiplier = field<multiplier_bits>(line, low);
    const ap_int<T::OFFSET_BITS> offset = field<T::OFFSET_BITS>(line, low + T::MULTIPLIER_BITS);
    if (T::MULTIPLIER_BITS > 0) return accumulator * multiplier + offset;
    return accumulator + offset;
}

}  // namespace tsn

#endif
