// The CRC-32 of zlib and Ethernet, a beat of 64 bits at a time. tsn_crc.sv is the same.
#ifndef TSN_CRC_HPP
#define TSN_CRC_HPP

#include "types.hpp"

namespace tsn {

// Bit i of the next register is the parity of these bits of the beat, after the register was added to its lower half.
static const limb_t crc_rows[32] = {
    0x04d101df481b4e5a, 0x09a203be90369cb5, 0x1344077d206d396b, 0x26880efa40da72d7,
    0x4d101df481b4e5af, 0x9a203be90369cb5e, 0x3091760d4ec8d8e6, 0x6122ec1a9d91b1cd,
    0xc245d8353b23639a, 0x805ab1b53e5d896e, 0x046462b534a05c86, 0x08c8c56a6940b90c,
    0x11918ad4d2817218, 0x232315a9a502e430, 0x46462b534a05c860, 0x8c8c56a6940b90c0,
    0x1dc9ac92600c6fda, 0x3b935924c018dfb5, 0x7726b2498031bf6a, 0xee4d649300637ed5,
    0xd84bc8f948ddb3f0, 0xb446902dd9a029bb, 0x6c5c2184fb5b1d2c, 0xd8b84309f6b63a59,
    0xb5a187cca5773ae8, 0x6f920e4602f53b8a, 0xdf241c8c05ea7715, 0xba9938c743cfa071,
    0x71e37051cf840eb8, 0xe3c6e0a39f081d70, 0xc35cc098760b74bb, 0x826880efa40da72d};

inline unsigned parity(limb_t bits) {
#pragma HLS INLINE
halves:
    for (int half = 32; half > 0; half /= 2) {
#pragma HLS UNROLL
        bits ^= bits >> half;
    }
    return bits & 1;
}

// The register after a beat; it begins with the complement of the CRC before, and the CRC is its complement. What comes
// of the beat waits for no register, so that the loop through the register is as short as can be.
inline unsigned crc_after(unsigned crc, limb_t beat) {
#pragma HLS INLINE
    unsigned next = 0;
bits:
    for (int i = 0; i < 32; i++) {
#pragma HLS UNROLL
        next |= (parity(beat & crc_rows[i]) ^ parity(crc & crc_rows[i])) << i;
    }
    return next;
}

}  // namespace tsn

#endif
