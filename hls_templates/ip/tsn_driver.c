#include "tsn_driver.h"

#define ADDRESS(base, name) ((base) + offsetof(tsn_registers_t, name))

tsn_status tsn_check(uintptr_t base, uint32_t network, uint32_t design) {
    if (TSN_READ32(ADDRESS(base, design)) != design) return TSN_OTHER_DESIGN;
    return TSN_READ32(ADDRESS(base, network)) == network ? TSN_DONE : TSN_OTHER_NETWORK;
}

const char *tsn_text(tsn_status status) {
    switch (status) {
    case TSN_DONE: return "done";
    case TSN_UNKNOWN_TASK: return "there is no such task";
    case TSN_NOT_LOADED: return "the task is not loaded";
    case TSN_UNKNOWN_COMMAND: return "unknown command";
    case TSN_WRONG_LOAD: return "what was loaded is not whole, or of another task or design; nothing is loaded any more";
    case TSN_REFUSED_HEADERS: return "a header names no task that is there";
    case TSN_ABORTED: return "the call was aborted";
    case TSN_OTHER_NETWORK: return "the accelerator is of another network than this program; build both of one export";
    case TSN_OTHER_DESIGN: return "the accelerator is of another design than this program; build both of one export";
    case TSN_BUSY: return "the call does not end";
    }
    return "unknown status";
}

tsn_status tsn_start(uintptr_t base, uint8_t command, uint16_t task, uint32_t count) {
    if ((TSN_READ32(ADDRESS(base, control)) & TSN_REGISTERS__CONTROL__IDLE_bm) == 0) return TSN_BUSY;
    TSN_WRITE32(ADDRESS(base, task), task);
    TSN_WRITE32(ADDRESS(base, count), count);
    TSN_WRITE32(ADDRESS(base, command), command);
    TSN_WRITE32(ADDRESS(base, control), TSN_REGISTERS__CONTROL__START_bm);
    return TSN_DONE;
}

void tsn_abort(uintptr_t base) {
    TSN_WRITE32(ADDRESS(base, control), TSN_REGISTERS__CONTROL__ABORT_bm);
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
