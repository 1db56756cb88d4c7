/* What the files of the runtime share. Numbers come from the sections; all logic is here, the same for every network.
 *
 * A section is a head (magic, size, CRC-32 of what follows, version, place of the records, digests of the network
 * before and with it), data, the name of the task, and a record a layer: integers of 7 bits a byte, lowest first, the
 * highest bit set in all bytes but the last. All other integers have their lowest byte first.
 */
#ifndef TSN_INTERNAL_H
#define TSN_INTERNAL_H

#include <limits.h>
#include <string.h>

#include "tsn.h"

#if UINT_MAX < 0xFFFFFFFF
#error "the runtime needs a compiler whose int has 32 bits"
#endif

#if -1 >> 1 != -1
#error "the runtime needs a compiler that shifts negative integers arithmetically"
#endif

#if defined(__GNUC__) /* a loop keeps its values in registers where it is a function of its own */
#define APART __attribute__((noinline))
#else
#define APART
#endif

#define MAGIC 0x314E5354u /* "TSN1" */
enum { SIZE_AT = 4, CRC_AT = 8, VERSION_AT = 12, RECORDS_AT = 16, LAYERS_AT = 20, OUTPUTS_AT = 24, NAME_AT = 28, HEAD = 48 };

enum { PRODUCTS, MAX_POOL, AVERAGE_POOL, ADD };
enum { UINT8, INT8, UINT16, INT16, INT32 };
enum { IN_LIST, IN_BANK };

/* What a record says, in this order. Places (.._AT) are bytes from the start of a section, those of tensors bytes of
 * the scratch buffer plus 1, or 0 for the input. */
enum {
    KIND, INDEX, SOURCE_AT, SOURCE_TYPE, OTHER_AT, OTHER_TYPE, TARGET_AT, TARGET_TYPE, TARGET_BITS,
    CHANNELS, HEIGHT, WIDTH, OUT_CHANNELS, OUT_HEIGHT, OUT_WIDTH,
    KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_DOWN, STRIDE_RIGHT, PADDING_TOP, PADDING_LEFT, GROUPS,
    SOURCE_SHIFT, OTHER_SHIFT, IS_WIDE, IS_NARROW,
    IS_BIAS, SHIFT, MULTIPLIER_BITS, ADDEND_BITS, SCALES_AT,
    LAYOUT, BANK, GAP_BITS, VALUE_BITS, VALUE_BYTES, TABLE_AT, WORDS_AT, MASK_AT, ENTRIES,
    FIELDS
};

typedef struct {
    uint32_t field[FIELDS];
    uint64_t addend;    /* the smallest of all channels, as two's complement */
    int32_t multiplier; /* likewise */
    int32_t low, high;  /* of the output */
    const uint8_t *scales;
} layer_t;

typedef struct {
    int64_t addend;
    int32_t multiplier;
} scale_t; /* of a channel */

static inline uint32_t read32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* At least 25 bits from bit `at` on; sections end with 3 bytes that belong to nothing. */
static inline uint32_t window(const uint8_t *p, uint32_t at) { return read32(p + (at >> 3)) >> (at & 7u); }

static inline uint32_t low_bits(uint32_t value, uint32_t bits) { return value & ((1u << bits) - 1u); }

/* One integer of a tensor. */
static inline int32_t get(const uint8_t *x, uint32_t type, uint32_t i) {
    uint16_t u;
    int16_t s;
    switch (type) {
    case UINT8: return x[i];
    case INT8: return (int8_t)x[i];
    case UINT16: memcpy(&u, x + 2u * i, 2); return u;
    default: memcpy(&s, x + 2u * i, 2); return s;
    }
}

static inline void put(uint8_t *y, uint32_t type, uint32_t i, int32_t value) {
    uint16_t half = (uint16_t)value;
    if (type <= INT8) {
        y[i] = (uint8_t)value;
    } else if (type == INT32) {
        memcpy(y + 4u * i, &value, 4);
    } else {
        memcpy(y + 2u * i, &half, 2);
    }
}

typedef struct {
    const uint8_t *words, *mask, *table;
    uint32_t gap_bits, value_bits, value_bytes;
    uint32_t entry, entries; /* of a list; of a bank: the next place, and the number of places */
    uint32_t next;           /* the place behind the current one */
    uint32_t at;             /* place of the current weight; UINT32_MAX behind the last */
    int32_t value;
} weights_t;

/* tsn_sections.c: heads, CRC-32 and records */
uint32_t tsn_crc_byte(uint32_t crc, uint32_t byte);
tsn_status tsn_check_head(const tsn_section *section);
tsn_status tsn_check_section(const tsn_section *section);
const uint8_t *tsn_read_layer(const uint8_t *section, const uint8_t *p, layer_t *layer); /* the record behind it */

/* tsn_weights.c: weights and scales as numbers */
weights_t tsn_weights(const tsn_net *net, const uint8_t *section, const layer_t *layer); /* in front of the first one */
void tsn_advance(weights_t *w);
scale_t tsn_scale(const layer_t *layer, uint32_t channel);
int32_t tsn_requantized(const layer_t *layer, const scale_t *scale, int64_t sum);

/* tsn_linear.c, tsn_windows.c: layers */
void tsn_linear(const layer_t *layer, const weights_t *w, const uint8_t *x, uint8_t *y);
void tsn_convolve(const layer_t *layer, weights_t *w, const uint8_t *x, uint8_t *y);
void tsn_pool(const layer_t *layer, const uint8_t *x, uint8_t *y);
void tsn_add(const layer_t *layer, const uint8_t *a, const uint8_t *b, uint8_t *y);

#endif
