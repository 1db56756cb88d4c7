// Calls of an accelerator from C without an operating system: its registers (tsn_registers.h, of the same source as
// the documentation), and how activations lie in the beats of its streams. Streams are moved by what stands beside it,
// a DMA or a processor's port: tsn_start, then as many beats as the call takes, then tsn_wait.
//
// base: the address of the registers. A system that reaches them otherwise defines TSN_READ32 and TSN_WRITE32.
#ifndef TSN_DRIVER_H
#define TSN_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "tsn_registers.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef TSN_READ32
#define TSN_READ32(address) (*(volatile uint32_t *)(address))
#define TSN_WRITE32(address, value) (*(volatile uint32_t *)(address) = (value))
#endif

enum { TSN_RUN = 0, TSN_LOAD = 1, TSN_RUN_TASKS = 2, TSN_CLASSES = 0x80, TSN_ALL_TASKS = 0xFFFF };

typedef enum {
    TSN_DONE = 0,
    TSN_UNKNOWN_TASK = 1,
    TSN_NOT_LOADED = 2,
    TSN_UNKNOWN_COMMAND = 3,
    TSN_WRONG_LOAD = 4,
    TSN_REFUSED_HEADERS = 5,  // the logits of those inferences are all TSN_REFUSED, their class is -1
    TSN_ABORTED = 6,
    TSN_OTHER_NETWORK = 253,  // of the driver: what it was compiled for is not what is there
    TSN_OTHER_DESIGN = 254,
    TSN_BUSY = 255  // of the driver: the call still runs
} tsn_status;

#define TSN_REFUSED INT32_MIN

// Whether an accelerator has these fingerprints (tsn_numbers.h): TSN_DONE, TSN_OTHER_NETWORK or TSN_OTHER_DESIGN.
tsn_status tsn_check(uintptr_t base, uint32_t network, uint32_t design);

// A status in a line of English.
const char *tsn_text(tsn_status status);

// Begin a call: count inferences of a task, or a load of count beats. With TSN_RUN_TASKS every inference has a task of its
// own, and begins with a beat more, the number of its task. With the bit TSN_CLASSES in either command an inference gives
// one beat: the class with the largest logit, the first of equal ones. TSN_BUSY: a call is under way, nothing was written.
tsn_status tsn_start(uintptr_t base, uint8_t command, uint16_t task, uint32_t count);

// End the call that was begun; tsn_wait then tells TSN_ABORTED, or how it had ended. What was given until then counts for
// nothing, and what sends beats must forget those that were not taken.
void tsn_abort(uintptr_t base);

// The answer to the call that was begun, or TSN_BUSY after so many looks without one.
tsn_status tsn_wait(uintptr_t base, uint32_t looks);

// Clock cycles of the last call, from its start until everything stood still.
uint32_t tsn_cycles(uintptr_t base);

// Beats of an input of so many activations, container_bits each (8 or 16, see the README): its last may be part empty.
size_t tsn_beats(size_t activations, unsigned container_bits);

// Activations as beats of 64 bits, the first in the lowest bits; beats: room for tsn_beats of them.
void tsn_pack(uint64_t *beats, const int32_t *activations, size_t count, unsigned container_bits);

// The class with the largest logit, the first of equal ones; count is at least 1.
size_t tsn_largest(const int32_t *logits, size_t count);

#ifdef __cplusplus
}
#endif

#endif
