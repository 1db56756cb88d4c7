// Loads: how memories that hold one task, or lie in UltraRAM, get their content. Packets pass through all units that
// have such memories, one after the other; each takes what is addressed to it, and what nobody took is an error.
#ifndef TSN_LOAD_HPP
#define TSN_LOAD_HPP

#include "memory.hpp"

namespace tsn {

// A beat of a packet, or the mark behind the last one (bit 64): its lowest bit says whether the load came whole.
typedef ap_uint<65> load_beat;

inline load_beat load_word(ap_uint<64> data) { return load_beat(data); }
inline load_beat load_end(bool is_whole) {
    load_beat end = is_whole;
    end[64] = 1;
    return end;
}

enum kind { WORDS, CODEBOOK, MASK, SCALES, PARAMETERS };

// The first beat of a packet: what one line of a memory is for. `limbs` beats with the line follow.
struct load_header {
    unsigned unit, kind, limbs, address;

    explicit load_header(const load_beat &beat)
        : unit(beat.range(15, 0).to_uint()),
          kind(beat.range(23, 16).to_uint()),
          limbs(beat.range(31, 24).to_uint()),
          address(beat.range(63, 32).to_uint()) {}
};

// A memory that load packets write, and one that they do not.
template <int BITS, int LINES, int LIMBS>
bool fits(const ap_uint<BITS> (&)[LINES][LIMBS], const load_header &header) {
#pragma HLS INLINE
    return header.limbs == LIMBS && header.address < LINES;
}
template <int LINES, int LIMBS>
bool fits(const limb_t (&)[LINES][LIMBS], const load_header &) {
#pragma HLS INLINE
    return false;
}
template <int BITS, int LINES, int LIMBS>
void store(ap_uint<BITS> (&memory)[LINES][LIMBS], unsigned address, unsigned limb, limb_t value) {
#pragma HLS INLINE
    memory[address][limb] = value;
}
template <int LINES, int LIMBS>
void store(const limb_t (&)[LINES][LIMBS], unsigned, unsigned, limb_t) {
#pragma HLS INLINE
}

// What a unit has not.
static const limb_t no_memory[1][1] = {{0}};

// Take the packets of unit INDEX, pass on all others, and what shows that one was cut short.
template <int INDEX, class WORDS_T, class CODEBOOK_T, class MASK_T, class SCALES_T, class PARAMETERS_T>
void load(hls::stream<load_beat> &in, hls::stream<load_beat> &out, WORDS_T &words, CODEBOOK_T &codebook, MASK_T &mask,
          SCALES_T &scales, PARAMETERS_T &parameters_of) {
#pragma HLS INLINE
    load_header header = load_header(load_beat(0));
    bool is_mine = false, is_more = true, is_whole = false;
    unsigned limb = 0;
beats:
    while (is_more) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
#pragma HLS PIPELINE II=1 style=flp
        const load_beat beat = in.read();
        if (beat[64]) {
            is_more = false;
            is_whole = beat[0];
        } else if (limb == header.limbs) {
            header = load_header(beat);
            limb = 0;
            is_mine = header.unit == INDEX && ((header.kind == WORDS && fits(words, header)) ||
                                               (header.kind == CODEBOOK && fits(codebook, header)) ||
                                               (header.kind == MASK && fits(mask, header)) ||
                                               (header.kind == SCALES && fits(scales, header)) ||
                                               (header.kind == PARAMETERS && fits(parameters_of, header)));
            if (!is_mine) out.write(beat);
        } else {
            const limb_t value = ap_uint<64>(beat.range(63, 0)).to_uint64();
            if (!is_mine) out.write(beat);
            if (is_mine && header.kind == WORDS) store(words, header.address, limb, value);
            if (is_mine && header.kind == CODEBOOK) store(codebook, header.address, limb, value);
            if (is_mine && header.kind == MASK) store(mask, header.address, limb, value);
            if (is_mine && header.kind == SCALES) store(scales, header.address, limb, value);
            if (is_mine && header.kind == PARAMETERS) store(parameters_of, header.address, limb, value);
            limb++;
        }
    }
    out.write(load_end(is_whole && (!is_mine || limb == header.limbs)));
}

// The end of the chain: whether something arrives that no unit took, or the load did not come whole.
inline void refuse(hls::stream<load_beat> &in, bool &is_refused) {
    bool is_more = true, found = false;
beats:
    while (is_more) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
#pragma HLS PIPELINE II=1 style=flp
        const load_beat beat = in.read();
        is_more = !beat[64];
        found = found || is_more || !beat[0];
    }
    is_refused = found;
}

}  // namespace tsn

#endif
