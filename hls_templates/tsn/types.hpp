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

// What the input says of an inference to every process that must know: its task, above it the classes of the task, and
// above them whether its header was refused.
const int TASK_ID_BITS = 16, CLASSES_BITS = 24;
typedef ap_uint<TASK_ID_BITS + CLASSES_BITS + 1> said_t;

// Where the memories of a unit hold the task of the next inference; those that are loaded hold one task.
template <class T>
unsigned next_slot(hls::stream<said_t> &said) {
#pragma HLS INLINE
    const said_t all = said.read();
    return T::IS_LOADED ? 0 : all.range(TASK_ID_BITS - 1, 0).to_uint();
}

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
