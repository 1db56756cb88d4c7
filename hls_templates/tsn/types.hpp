// Integer types, and beats of the AXI streams.
#ifndef TSN_TYPES_HPP
#define TSN_TYPES_HPP

#ifndef AP_INT_MAX_W
#define AP_INT_MAX_W 4096
#endif
#include "ap_axi_sdata.h"
#include "ap_int.h"
#include "hls_stream.h"

namespace tsn {

typedef ap_axiu<64, 0, 0, 0> axis64;
typedef ap_axiu<32, 0, 0, 0> axis32;
typedef ap_uint<6> shift_t;

// Memories are tables of 64-bit limbs, the lowest first: a table of ap_uint takes g++ fifty times as long.
typedef unsigned long long limb_t;
constexpr int limbs_of(int bits) { return (bits + 63) / 64; }

template <int BITS, bool SIGNED>
struct integer {
    typedef ap_uint<BITS> type;
};
template <int BITS>
struct integer<BITS, true> {
    typedef ap_int<BITS> type;
};

// Smallest and largest value of a format of up to 32 bits.
constexpr long long lowest(int bits, bool is_signed) { return is_signed ? -(1LL << (bits - 1)) : 0; }
constexpr long long highest(int bits, bool is_signed) { return (1LL << (is_signed ? bits - 1 : bits)) - 1; }

}  // namespace tsn

#endif
