#include "tsn_classify.h"

#define STREAM(base, name) ((base) + offsetof(tsn_mapped_t, name))

static int has_come(uintptr_t base, uint32_t flag) {
    uint32_t looks = TSN_LOOKS;
    while (looks-- > 0) {
        if (TSN_READ32(STREAM(base, streams)) & flag) return 1;
    }
    return 0;
}

static tsn_status answer(uintptr_t base) {
    return tsn_wait(base, TSN_LOOKS);
}

// A call that is refused takes no beat: it is over with its answer.
static tsn_status send(uintptr_t base, const uint64_t *beats, uint32_t count) {
    for (uint32_t beat = 0; beat < count; beat++) {
        if (!has_come(base, TSN_MAPPED__STREAMS__TAKES_bm)) return answer(base);
        TSN_WRITE32(STREAM(base, beats[0].low), (uint32_t)beats[beat]);
        TSN_WRITE32(STREAM(base, beats[0].high), (uint32_t)(beats[beat] >> 32));
    }
    return TSN_DONE;
}

static tsn_status infer(uintptr_t base, uint8_t command, uint16_t task, const int32_t *activations, int32_t *words,
                        size_t count) {
    static uint64_t beats[TSN_BEATS];
    tsn_pack(beats, activations, TSN_ACTIVATIONS, TSN_CONTAINER_BITS);
    tsn_status status = tsn_check(base, TSN_NETWORK_PRINT, TSN_DESIGN_PRINT);
    if (status == TSN_DONE) status = tsn_start(base, command, task, 1);
    if (status == TSN_DONE) status = send(base, beats, TSN_BEATS);
    if (status != TSN_DONE) return status;
    for (size_t i = 0; i < count; i++) {
        if (!has_come(base, TSN_MAPPED__STREAMS__GIVES_bm)) return TSN_BUSY;
        words[i] = (int32_t)TSN_READ32(STREAM(base, logit));
    }
    return answer(base);
}

tsn_status tsn_infer(uintptr_t base, uint16_t task, const int32_t *activations, int32_t *logits) {
    return infer(base, TSN_RUN, task, activations, logits, TSN_LOGITS);
}

tsn_status tsn_load(uintptr_t base, uint16_t task, const uint64_t *beats, uint32_t count) {
    tsn_status status = tsn_check(base, TSN_NETWORK_PRINT, TSN_DESIGN_PRINT);
    if (status == TSN_DONE) status = tsn_start(base, TSN_LOAD, task, count);
    if (status == TSN_DONE) status = send(base, beats, count);
    return status == TSN_DONE ? answer(base) : status;
}

int tsn_classify(uintptr_t base, uint16_t task, const int32_t *activations) {
    int32_t largest = 0;
    const tsn_status status = infer(base, TSN_RUN | TSN_CLASSES, task, activations, &largest, 1);
    return status == TSN_DONE ? (int)largest : -(int)status;
}
