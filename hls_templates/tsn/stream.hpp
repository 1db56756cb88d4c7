// Streams between units: copies, and words of other widths.
#ifndef TSN_STREAM_HPP
#define TSN_STREAM_HPP

#include "types.hpp"

namespace tsn {

// Every word to two readers. T: WIDTH bits a word, WORDS an inference.
template <class T>
void copy(hls::stream<ap_uint<T::WIDTH> > &in, hls::stream<ap_uint<T::WIDTH> > &first,
          hls::stream<ap_uint<T::WIDTH> > &second, unsigned inferences) {
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    words:
        for (unsigned i = 0; i < T::WORDS; i++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            const ap_uint<T::WIDTH> word = in.read();
            first.write(word);
            second.write(word);
        }
    }
}

// Words of FROM lanes to words of TO lanes, BITS each; an inference has ELEMENTS lanes, and what its last word holds
// beyond them is dropped. A step reads a word if too few lanes wait to write one, and writes one if enough do: of the
// wider words one moves now and then, of the narrower one with every step. GRAIN divides FROM and TO.
template <class T>
void convert(hls::stream<ap_uint<T::FROM * T::BITS> > &in, hls::stream<ap_uint<T::TO * T::BITS> > &out,
             unsigned inferences) {
    const unsigned reads = (T::ELEMENTS + T::FROM - 1) / T::FROM, writes = T::ELEMENTS / T::TO;
    const unsigned steps = reads > writes ? reads : writes;
    const int width = (T::FROM + T::TO) * T::BITS;
    ap_uint<width> waiting = 0;
    int lanes = 0;
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    steps:
        for (unsigned step = 0; step < steps; step++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            if (lanes < T::TO) {
                const ap_uint<T::FROM * T::BITS> word = in.read();
            places:
                for (int place = 0; place < T::TO; place += T::GRAIN) {
#pragma HLS UNROLL
                    if (place == lanes) waiting.range((place + T::FROM) * T::BITS - 1, place * T::BITS) = word;
                }
                lanes += T::FROM;
            }
            if (lanes >= T::TO) {
                out.write(waiting.range(T::TO * T::BITS - 1, 0));
                waiting = ap_uint<width>(waiting.range(width - 1, T::TO * T::BITS));
                lanes -= T::TO;
            }
            if (step == steps - 1) lanes = 0;
        }
    }
}

}  // namespace tsn

#endif
