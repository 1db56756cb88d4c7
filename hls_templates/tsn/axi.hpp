// The two AXI streams: activations in, 64 bits a beat; logits out, one a beat.
#ifndef TSN_AXI_HPP
#define TSN_AXI_HPP

#include "crc.hpp"
#include "load.hpp"

namespace tsn {

// What a call runs: inferences of a task, or with headers of the tasks that they name. Of all tasks, or of `task` alone where
// that is loaded; then `classes` are those of that task.
struct run {
    unsigned task, inferences, classes;
    bool has_headers, wants_classes;
};

// The activations of some inferences, out of containers of CONTAINER_BITS, and what is said of each. Every inference
// begins with a beat; if there are headers, with one that names its task. A header that names none that is there is refused:
// its inference runs as task 0, and its logits are marked.
//
// T: BITS an activation, WORDS beats an inference. TASKS: which tasks there are, and their classes.
template <class T, class TASKS, int READERS>
void read_activations(hls::stream<axis64> &s_axis, hls::stream<ap_uint<64 / T::CONTAINER_BITS * T::BITS> > &out,
                      hls::stream<said_t> (&said)[READERS], const run &call, bool &has_refused) {
    const int lanes = 64 / T::CONTAINER_BITS;
    const unsigned long long beats =
        static_cast<unsigned long long>(call.inferences) * (T::WORDS + (call.has_headers ? 1 : 0));
    bool is_first = true, found_refused = false;
    unsigned word = 0;
beats:
    for (unsigned long long i = 0; i < beats; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
#pragma HLS PIPELINE II=1 style=flp
        const ap_uint<64> data = s_axis.read().data;
        const limb_t header = data.to_uint64();
        const bool is_header = is_first && call.has_headers;
        if (is_first) {
            const bool is_good = !is_header || (header >> TASK_ID_BITS == 0 && TASKS::is_there(unsigned(header), call.task));
            const unsigned task = !is_good ? 0 : is_header ? unsigned(header) : call.task;
            said_t all = task;
            all.range(TASK_ID_BITS + CLASSES_BITS - 1, TASK_ID_BITS) = ap_uint<CLASSES_BITS>(TASKS::classes(task, call.classes));
            all[TASK_ID_BITS + CLASSES_BITS] = !is_good;
            found_refused = found_refused || !is_good;
        readers:
            for (int reader = 0; reader < READERS; reader++) {
#pragma HLS UNROLL
                said[reader].write(all);
            }
        }
        if (!is_header) {
            ap_uint<lanes * T::BITS> activations = 0;
        lanes:
            for (int lane = 0; lane < lanes; lane++) {
#pragma HLS UNROLL
                activations.range(T::BITS * (lane + 1) - 1, T::BITS * lane) =
                    data.range(T::CONTAINER_BITS * lane + T::BITS - 1, T::CONTAINER_BITS * lane);
            }
            out.write(activations);
            word = word == T::WORDS - 1 ? 0 : word + 1;
        }
        is_first = !is_header && word == 0;
    }
    has_refused = found_refused;
}

// Load packets to the units, as they come, and the mark that there are no more; then activations. A load is whole if its
// first beat is `load_head` and its last one the CRC-32 of all others, which begins with the number of the design. It
// has the beats that its head says; where the head is 0 there is none.
template <class T, class TASKS, class CONTROL, int READERS>
void read_input(hls::stream<axis64> &s_axis, hls::stream<load_beat> &load,
                hls::stream<ap_uint<64 / T::CONTAINER_BITS * T::BITS> > &out, hls::stream<said_t> (&said)[READERS],
                const run &call, bool &has_refused, limb_t load_head) {
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
    read_activations<T, TASKS>(s_axis, out, said, call, has_refused);
}

// The logits of some inferences, ROWS each; the lowest number where the header was refused. Or, if the call wants classes,
// of each the class with the largest logit, of equal ones the first; -1 where the header was refused.
template <class T>
void write_logits(hls::stream<ap_uint<32> > &in, hls::stream<said_t> &said, hls::stream<axis32> &m_axis,
                  const run &call, unsigned inferences) {
    bool is_refused = false;
    unsigned classes = 0, largest_class = 0;
    ap_int<32> largest = 0;
inferences:
    for (unsigned inference = 0; inference < inferences; inference++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1
    logits:
        for (unsigned i = 0; i < T::ROWS; i++) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II=1 style=flp
            const bool is_last = i == T::ROWS - 1;
            if (i == 0) {
                const said_t all = said.read();
                is_refused = all[TASK_ID_BITS + CLASSES_BITS];
                classes = all.range(TASK_ID_BITS + CLASSES_BITS - 1, TASK_ID_BITS).to_uint();
            }
            const ap_uint<32> logit = in.read();
            const ap_int<32> number = logit;
            if (i == 0 || (i < classes && number > largest)) {
                largest = number;
                largest_class = i;
            }
            axis32 beat;
            if (call.wants_classes) {
                beat.data = is_refused ? 0xFFFFFFFFU : largest_class;
            } else {
                beat.data = is_refused ? ap_uint<32>(0x80000000U) : logit;
            }
            beat.keep = 0xF;
            beat.strb = 0xF;
            beat.last = inference == inferences - 1 && is_last;
            if (is_last || !call.wants_classes) m_axis.write(beat);
        }
    }
}

}  // namespace tsn

#endif
