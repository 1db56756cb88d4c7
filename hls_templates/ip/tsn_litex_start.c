// Where the processor of the LiteX simulation begins: memory holds all sections, so nothing is copied.
#include "tsn_litex.h"
#include "generated/csr.h"

int main(void);

__asm__(".section .init\n.globl _start\n_start: la sp, _stack\n call main\n call tsn_end\n");

void tsn_end(void) {
    while (!uart_txempty_read()) {}
    sim_finish_finish_write(1);
    while (1) {}
}

static void put(char letter) {
    while (uart_txfull_read()) {}
    uart_rxtx_write((uint8_t)letter);
}

void tsn_print(const char *text) {
    while (*text) put(*text++);
}

void tsn_print_number(int32_t number) {
    const uint32_t size = number < 0 ? 0u - (uint32_t)number : (uint32_t)number;
    if (number < 0) put('-');
    uint32_t power = 1;
    while (size / power >= 10) power *= 10;
    for (; power > 0; power /= 10) put((char)('0' + size / power % 10));
}

// Compilers call these, freestanding or not.
void *memset(void *to, int value, size_t count) {
    for (size_t i = 0; i < count; i++) ((volatile uint8_t *)to)[i] = (uint8_t)value;
    return to;
}

void *memcpy(void *to, const void *from, size_t count) {
    for (size_t i = 0; i < count; i++) ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}
