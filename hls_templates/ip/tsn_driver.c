#include "tsn_driver.h"

#define ADDRESS(base, name) ((base) + offsetof(tsn_registers_t, name))

tsn_status tsn_start(uintptr_t base, uint8_t command, uint16_t task, uint32_t count) {
    if ((TSN_READ32(ADDRESS(base, control)) & TSN_REGISTERS__CONTROL__IDLE_bm) == 0) return TSN_BUSY;
    TSN_WRITE32(ADDRESS(base, task), task);
    TSN_WRITE32(ADDRESS(base, count), count);
    TSN_WRITE32(ADDRESS(base, command), command);
    TSN_WRITE32(ADDRESS(base, control), TSN_REGISTERS__CONTROL__START_bm);
    return TSN_DONE;
}

tsn_status tsn_wait(uintptr_t base, uint32_t looks) {
    while (looks-- > 0) {
        if (TSN_READ32(ADDRESS(base, control)) & TSN_REGISTERS__CONTROL__DONE_bm) {
            return (tsn_status)TSN_READ32(ADDRESS(base, status));
        }
    }
    return TSN_BUSY;
}

uint32_t tsn_cycles(uintptr_t base) {
    return TSN_READ32(ADDRESS(base, cycles));
}

size_t tsn_beats(size_t activations, unsigned container_bits) {
    const size_t lanes = 64 / container_bits;
    return (activations + lanes - 1) / lanes;
}

void tsn_pack(uint64_t *beats, const int32_t *activations, size_t count, unsigned container_bits) {
    const size_t lanes = 64 / container_bits;
    const uint64_t mask = ((uint64_t)1 << container_bits) - 1;
    for (size_t beat = 0; beat < tsn_beats(count, container_bits); beat++) beats[beat] = 0;
    for (size_t i = 0; i < count; i++) {
        beats[i / lanes] |= ((uint64_t)(uint32_t)activations[i] & mask) << (i % lanes * container_bits);
    }
}

size_t tsn_largest(const int32_t *logits, size_t count) {
    size_t largest = 0;
    for (size_t i = 1; i < count; i++) {
        if (logits[i] > logits[largest]) largest = i;
    }
    return largest;
}
