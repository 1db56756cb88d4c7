// The two AXI streams: activations in, 64 bits a beat; logits out, one a beat.
#ifndef TSN_AXI_HPP
#define TSN_AXI_HPP

#include "crc.hpp"
#include "load.hpp"

namespace tsn {

// The activations of some inferences, out of containers of CONTAINER_BITS. Every inference begins with a beat.
//
// T: BITS an activation, WORDS beats an inference.
template <class T>
void read_activations(hls::stream<axis64> &s_axis, hls::stream<ap_uint<64 / T::CONTAINER_BITS * T::BITS> > &out,
                      unsigned inferences) {
    const int lanes = 64 / T::CONTAINER_BITS;
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    beats:
        for (unsigned i = 0; i < T::WORDS; i++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            const ap_uint<64> data = s_axis.read().data;
            ap_uint<lanes * T::BITS> word = 0;
        lanes:
            for (int lane = 0; lane < lanes; lane++) {
#pragma HLS UNROLL
                word.range(T::BITS * (lane + 1) - 1, T::BITS * lane) =
                    data.range(T::CONTAINER_BITS * lane + T::BITS - 1, T::CONTAINER_BITS * lane);
            }
            out.write(word);
        }
    }
}

// Load packets to the units, as they come, and the mark that there are no more; then activations. A load is whole if its
// first beat is `load_head` and its last one the CRC-32 of all others, which begins with the number of the design. It
// has the beats that its head says; where the head is 0 there is none.
template <class T, class CONTROL>
void read_input(hls::stream<axis64> &s_axis, hls::stream<load_beat> &load,
                hls::stream<ap_uint<64 / T::CONTAINER_BITS * T::BITS> > &out, unsigned inferences,
                limb_t load_head) {
    const unsigned beats = static_cast<unsigned>(load_head >> 32);
    unsigned crc = ~CONTROL::DESIGN;
    bool is_whole = false;
packets:
    for (unsigned i = 0; i < beats; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
#pragma HLS PIPELINE II=1 style=flp
        const ap_uint<64> data = s_axis.read().data;
        const limb_t beat = data.to_uint64();
        if (i == 0) {
            is_whole = beat == load_head && beats > 1;
        } else if (i == beats - 1) {
            is_whole = is_whole && beat == static_cast<unsigned>(~crc);
        } else {
            load.write(load_word(data));
        }
        crc = crc_after(crc, beat);
    }
    load.write(load_end(is_whole));
    read_activations<T>(s_axis, out, inferences);
}

// The logits of some inferences, ROWS each.
template <class T>
void write_logits(hls::stream<ap_uint<32> > &in, hls::stream<axis32> &m_axis, unsigned inferences) {
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    logits:
        for (unsigned i = 0; i < T::ROWS; i++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            axis32 beat;
            beat.data = in.read();
            beat.keep = 0xF;
            beat.strb = 0xF;
            beat.last = inference == inferences - 1 && i == T::ROWS - 1;
            m_axis.write(beat);
        }
    }
}

}  // namespace tsn

#endif
