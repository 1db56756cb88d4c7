// AXI4-Stream beats for C simulation: data, keep, strobe and last, no side channels.
#ifndef TSN_CSIM_AP_AXI_SDATA_H
#define TSN_CSIM_AP_AXI_SDATA_H

#include "ap_int.h"

template <int DATA, int USER, int ID, int DEST>
struct ap_axiu {
    static_assert(USER == 0 && ID == 0 && DEST == 0, "no side channels");
    ap_uint<DATA> data;
    ap_uint<DATA / 8> keep;
    ap_uint<DATA / 8> strb;
    ap_uint<1> last;
};

#endif
