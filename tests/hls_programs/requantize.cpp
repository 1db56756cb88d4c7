// Reads lines "value multiplier offset shift bits signed", prints what tsn/requantize.hpp makes of each.
#include <cstdio>

#include "tsn/requantize.hpp"

typedef long long i64;

struct widths {
    static const int ACCUMULATOR_BITS = 64, MULTIPLIER_BITS = 16, OFFSET_BITS = 63, VALUE_BITS = 64;
};

template <bool SIGNED>
i64 requantized(ap_int<64> value, tsn::shift_t shift, int bits) {
    switch (bits) {
        case 1: return tsn::requantize<1, SIGNED>(value, shift).to_int64();
        case 4: return tsn::requantize<4, SIGNED>(value, shift).to_int64();
        case 8: return tsn::requantize<8, SIGNED>(value, shift).to_int64();
        case 16: return tsn::requantize<16, SIGNED>(value, shift).to_int64();
        case 32: return tsn::requantize<32, SIGNED>(value, shift).to_int64();
        default: std::printf("no format of %d bits\n", bits); return 0;
    }
}

int main() {
    i64 value, multiplier, offset;
    int shift, bits, is_signed;
    while (std::scanf("%lld %lld %lld %d %d %d", &value, &multiplier, &offset, &shift, &bits, &is_signed) == 6) {
        const tsn::limb_t line[2] = {(tsn::limb_t(multiplier) & 0xFFFF) | tsn::limb_t(offset) << 16,
                                     (tsn::limb_t(offset) & ~0ULL >> 1) >> 48};
        const ap_int<64> scaled = tsn::scaled<widths>(ap_int<64>(value), line, 0);
        const i64 found = is_signed ? requantized<true>(scaled, shift, bits) : requantized<false>(scaled, shift, bits);
        std::printf("%lld\n", found);
    }
    return 0;
}
