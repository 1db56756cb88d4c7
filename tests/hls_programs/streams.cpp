// Streams of simulation: order, peak, what is left, and the error of an empty read.
#include <cstdio>

#include "ap_axi_sdata.h"
#include "hls_stream.h"

int main() {
    {
        hls::stream<int> kept("kept");
        for (int i = 0; i < 5; i++) kept.write(i);
        std::printf("%d %d", kept.read(), kept.read());
        kept.write(5);
        while (kept.size() > 1) std::printf(" %d", kept.read());
        std::printf(", peak %d, empty %d\n", int(kept.peak()), kept.empty());
    }
    std::printf("left in %s\n", hls::leftovers().at(0).c_str());
    hls::stream<ap_axiu<64, 0, 0, 0> > nothing("nothing");
    try {
        nothing.read();
    } catch (const std::runtime_error &error) {
        std::printf("%s\n", error.what());
    }
    return 0;
}
