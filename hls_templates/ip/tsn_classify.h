// Inferences and loads where the streams are registers (tsn_mapped.sv): tsn_driver.h and the numbers of the network.
#ifndef TSN_CLASSIFY_H
#define TSN_CLASSIFY_H

#include "tsn_driver.h"
#include "tsn_mapped.h"
#include "tsn_numbers.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef TSN_LOOKS
#define TSN_LOOKS 1000000  // at a register, before something that does not happen is given up as TSN_BUSY
#endif

// One inference of a task: TSN_ACTIVATIONS integers in, TSN_LOGITS out.
tsn_status tsn_infer(uintptr_t base, uint16_t task, const int32_t *activations, int32_t *logits);

// Load the beats of a file of tasks/, for its task or TSN_ALL_TASKS.
tsn_status tsn_load(uintptr_t base, uint16_t task, const uint64_t *beats, uint32_t count);

// The class of an input, or minus the tsn_status of a call that failed.
int tsn_classify(uintptr_t base, uint16_t task, const int32_t *activations);

#ifdef __cplusplus
}
#endif

#endif
