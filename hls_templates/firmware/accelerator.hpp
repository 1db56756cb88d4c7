// The accelerator: one call runs inferences of one task, or loads memories. docs/hls.md describes the protocol.
#ifndef TSN_ACCELERATOR_HPP
#define TSN_ACCELERATOR_HPP

#include "tsn/types.hpp"

void tsn_accelerator(hls::stream<tsn::axis64> &s_axis, hls::stream<tsn::axis32> &m_axis, ap_uint<16> task_id,
                     ap_uint<32> count, ap_uint<8> command, ap_uint<32> &status, ap_uint<32> &network,
                     ap_uint<32> &design);

#endif
