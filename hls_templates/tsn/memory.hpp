// Memories: lines of limbs that are constants, or that load packets write; and the words of a line.
#ifndef TSN_MEMORY_HPP
#define TSN_MEMORY_HPP

#include "types.hpp"

// Tables of constants. In simulation they can be changed, so that the test bench can plant faults.
#ifdef __SYNTHESIS__
#define TSN_TABLE static const tsn::limb_t
#else
#define TSN_TABLE static tsn::limb_t
#endif

namespace tsn {

inline limb_t limb(limb_t table_entry) { return table_entry; }
template <int BITS>
limb_t limb(const ap_uint<BITS> &loaded) {
#pragma HLS INLINE
    return loaded.to_uint64();
}

// All limbs of one line.
template <class MEMORY, int LIMBS>
void read_line(const MEMORY &memory, unsigned address, limb_t (&line)[LIMBS]) {
#pragma HLS INLINE
limbs:
    for (int i = 0; i < LIMBS; i++) {
#pragma HLS UNROLL
        line[i] = limb(memory[address][i]);
    }
}

// BITS bits of a line from bit `low` on.
template <int BITS, int LIMBS>
ap_uint<BITS> field(const limb_t (&line)[LIMBS], int low) {
#pragma HLS INLINE
    const int first = low / 64, offset = low % 64;
    limb_t found = line[first] >> offset;
    if (offset + BITS > 64) found |= line[first + 1] << (64 - offset);
    return ap_uint<BITS>(found);
}

// The centroid that a word stands for: `prefix | code` is its place in the codebooks of a region, which begin at
// `first`. 0 where the task does not use the word.
template <int CENTROID_BITS, class CODEBOOK>
ap_int<CENTROID_BITS> decode(const CODEBOOK &codebook, unsigned first, unsigned word, bool is_used) {
#pragma HLS INLINE
    const ap_int<CENTROID_BITS> centroid = ap_uint<CENTROID_BITS>(limb(codebook[first + word][0]));
    return is_used ? centroid : ap_int<CENTROID_BITS>(0);
}

// The word of one task: whether it is known, the region of its words, its shift, and two left shifts of an addition.
template <int REGION_BITS>
struct parameters {
    limb_t line;

    ap_uint<1> is_known() const { return ap_uint<1>(line); }
    unsigned region() const { return static_cast<unsigned>(line >> 1) & ((1U << REGION_BITS) - 1); }
    shift_t shift(int index) const { return shift_t(line >> (1 + REGION_BITS + 6 * index)); }
};

// How many classes a task has: the highest bits of its word in the head's memory. T: PARAMETER_BITS of a word, CLASS_BITS of the classes.
template <class T, class MEMORY>
unsigned classes_of(const MEMORY &memory, unsigned slot) {
#pragma HLS INLINE
    limb_t line[limbs_of(T::PARAMETER_BITS)];
#pragma HLS ARRAY_PARTITION variable=line type=complete
    read_line(memory, slot, line);
    return field<T::CLASS_BITS>(line, T::PARAMETER_BITS - T::CLASS_BITS).to_uint();
}

}  // namespace tsn

#endif
