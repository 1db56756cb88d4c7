/* Start of a program on a Cortex-M of qemu (mps2-an385, mps2-an386), whose output goes to the host: `make qemu`. */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t tsn_data_source[], tsn_data[], tsn_data_end[], tsn_bss[], tsn_bss_end[], tsn_stack[];
extern int main(void);
extern void initialise_monitor_handles(void); /* of newlib's semihosting */
void tsn_reset(void);
void _init(void);
void _fini(void);

void tsn_reset(void) {
    const uint32_t *source = tsn_data_source;
    for (uint32_t *target = tsn_data; target < tsn_data_end; target++) {
        *target = *source++;
    }
    for (uint32_t *target = tsn_bss; target < tsn_bss_end; target++) {
        *target = 0;
    }
    initialise_monitor_handles();
    exit(main());
}

void _init(void) {}
void _fini(void) {}

typedef union {
    uint32_t *stack;
    void (*handler)(void);
} vector_t;

extern const vector_t tsn_vectors[2];
__attribute__((section(".vectors"), used)) const vector_t tsn_vectors[2] = {{.stack = tsn_stack}, {.handler = tsn_reset}};
