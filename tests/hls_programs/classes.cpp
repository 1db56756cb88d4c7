// Inferences of ROWS logits through the output for classes, and again for logits; read: what is said of each, its logits.
#include <cstdio>
#include <vector>

#include "tsn/axi.hpp"

struct output {
    static const unsigned ROWS = TSN_ROWS;
};

static void write(const std::vector<std::vector<long>> &all, bool wants_classes) {
    hls::stream<ap_uint<32> > in("in");
    hls::stream<tsn::said_t> said("said");
    hls::stream<tsn::axis32> out("out");
    for (const auto &one : all) {
        said.write(static_cast<tsn::limb_t>(one[0]));
        for (unsigned i = 0; i < output::ROWS; i++) in.write(static_cast<unsigned>(one[1 + i]));
    }
    const tsn::run call = {0, static_cast<unsigned>(all.size()), 0, false, wants_classes};
    tsn::write_logits<output>(in, said, out, call, call.inferences);
    while (!out.empty()) {
        const tsn::axis32 beat = out.read();
        std::printf("%d %d\n", static_cast<int>(beat.data.to_uint()), int(beat.last));
    }
}

int main() {
    std::vector<std::vector<long>> all;
    for (long value; std::scanf("%ld", &value) == 1;) {
        if (all.empty() || all.back().size() == output::ROWS + 1) all.emplace_back();
        all.back().push_back(value);
    }
    write(all, true);
    write(all, false);
}
