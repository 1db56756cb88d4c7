// Breaks nothing: everything here looks like something that does, and is allowed. new delete goto double std::vector
#include "good.hpp"

#ifndef __SYNTHESIS__
#include <cstdio>
#include <vector>
static std::vector<double> history;
#endif

namespace tsn {

/* A pragma in a comment is none:
#pragma HLS NOTHING
*/
static const unsigned long long rom[4] = {1ULL, 2ULL, 0x1e5ULL, 4'000ULL};

struct stage {
    stage(const stage &) = delete;
    int held[2];
};

template <int SIZE, class T, int (&WEIGHTS)[SIZE]>
T weighted(const T (&x)[SIZE], T bias = T(0)) {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable=x type=complete
#pragma HLS BIND_STORAGE variable=rom type=rom_1p impl=bram latency=2
    T total = bias, products[SIZE] = {0};
#pragma HLS ARRAY_PARTITION variable=products \
    type=cyclic factor=SIZE/2 dim=1
products:
    for (int i = 0; i < SIZE; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=SIZE
#pragma HLS PIPELINE II = 1 style=flp rewind
#pragma HLS DEPENDENCE variable=products type=inter dependent=false
        if (WEIGHTS[i] != 0) {
            products[i] = x[i] * WEIGHTS[i];
        } else {
            products[i] = 0;
        }
        total += products[i];
    }
    return total;
}

}  // namespace tsn

static int weights[4] = {1, -1, 0, 3};

void top(const int (&x)[4], unsigned task_id, int &y) {
#pragma HLS INTERFACE mode=s_axilite port=task_id bundle=control offset=0x10
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
#pragma HLS BIND_STORAGE variable=weights type=ram_1p impl=lutram
    static tsn::counter now = {0};
#pragma HLS RESET variable=now.value
    const int remaining = 100, endless = 3;
    now.value += remaining - endless;
#ifdef __SYNTHESIS__
    y = tsn::weighted<4, int, weights>(x, static_cast<int>(tsn::rom[task_id & 3])) + now.value;
#else
    std::printf("%d", y);
#endif
}
