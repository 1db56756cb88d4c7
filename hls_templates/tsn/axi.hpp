// The two AXI streams: activations in, 64 bits a beat; logits out, one a beat.
#ifndef TSN_AXI_HPP
#define TSN_AXI_HPP

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

// Load packets to the units, as they come, and a mark that there are no more; then activations.
template <class T>
void read_input(hls::stream<axis64> &s_axis, hls::stream<load_beat> &load,
                hls::stream<ap_uint<64 / T::CONTAINER_BITS * T::BITS> > &out, unsigned inferences,
                unsigned load_beats) {
packets:
    for (unsigned i = 0; i < load_beats; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
#pragma HLS PIPELINE II=1 style=flp
        load.write(load_word(s_axis.read().data));
    }
    load.write(load_end());
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
