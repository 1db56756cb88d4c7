// Prints fields of a line of three limbs: width, first bit, content.
#include <cstdio>

#include "tsn/memory.hpp"

template <int BITS>
void print(const tsn::limb_t (&line)[3]) {
    for (int low = 0; low + BITS <= 192; low++) {
        std::printf("%d %d %llx\n", BITS, low, tsn::field<BITS>(line, low).to_uint64());
    }
}

int main() {
    const tsn::limb_t line[3] = {0x0123456789ABCDEFULL, 0xFEDCBA9876543210ULL, 0x13579BDF02468ACEULL};
    print<1>(line);
    print<4>(line);
    print<6>(line);
    print<16>(line);
    print<32>(line);
    print<63>(line);
    print<64>(line);
    return 0;
}
