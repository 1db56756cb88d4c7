// For programs of the LiteX simulation of tsn_litex.py: where the accelerator is, and a console.
#ifndef TSN_LITEX_H
#define TSN_LITEX_H

#include "generated/mem.h"
#include "tsn_classify.h"

void tsn_print(const char *text);
void tsn_print_number(int32_t number);

#endif
