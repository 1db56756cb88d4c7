/* What the files of the runtime share. Numbers come from the sections; all logic is here, the same for every network.
 *
 * A section is a head, data, and a record a layer: integers of 7 bits a byte, lowest first, the highest bit set in all
 * bytes but the last. All other integers have their lowest byte first. 3 bytes stand behind the records.
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
#define RARELY(x) __builtin_expect(x, 0)
#else
#define APART
#define RARELY(x) x
#endif

/* Whether one or two instructions find the lowest bit of a word that is 1: not on Cortex-M0, nor on RISC-V without Zbb. */
#if defined(__GNUC__) && (!defined(__arm__) || defined(__ARM_FEATURE_CLZ)) && (!defined(__riscv) || defined(__riscv_zbb))
#define HAS_LOWEST 1
#else
#define HAS_LOWEST 0
#endif

#define MAGIC 0x314E5354u /* "TSN1" */
enum { /* bytes of a head */
    SIZE_AT = 4,
    CRC_AT = 8, /* of all that follows */
    VERSION_AT = 12,
    RECORDS_AT = 16, /* place of the records: the end of the data */
    LAYERS_AT = 20,
    OUTPUTS_AT = 24,
    NAME_AT = 28, /* place of the name; the SHA-256 of the .tsn stands behind it where the task is the last one */
    TENSORS_AT = 32, /* bytes of scratch buffer in front of the logits */
    BANK_CRC_AT = 36, /* CRC-32 of the section whose words it reads, or 0 */
    BEFORE_AT = 40, /* digest of all tasks before this one, */
    AFTER_AT = 48, /* and with it */
    HEAD = 56,
    BEHIND = 3
};

enum { PRODUCTS, MAX_POOL, AVERAGE_POOL, ADD };
enum { UINT8, INT8, UINT16, INT16, INT32 };

/* What a record says, in this order. Places (.._AT) are bytes from the start of a section, those of tensors bytes of
 * the scratch buffer plus 1, or 0 for the input. Weights are those of a bank that a mask takes, a bit a place (PLACES is
 * 0 where there is none), and those of a list, an entry each: how many places it lies behind the one before, and the value. */
enum {
    KIND, INDEX, SOURCE_AT, SOURCE_TYPE, OTHER_AT, OTHER_TYPE, TARGET_AT, TARGET_TYPE, TARGET_BITS,
    CHANNELS, HEIGHT, WIDTH, OUT_CHANNELS, OUT_HEIGHT, OUT_WIDTH,
    KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_DOWN, STRIDE_RIGHT, PADDING_TOP, PADDING_LEFT, GROUPS,
    SOURCE_SHIFT, OTHER_SHIFT, IS_WIDE, IS_NARROW, /* sums need 64 bits; requantization does with 32 */
    IS_BIAS, SHIFT, MULTIPLIER_BITS, ADDEND_BITS, SCALES_AT,
    BANK, PLACES, BANK_VALUE_BITS, BANK_VALUE_BYTES, BANK_TABLE_AT, BANK_WORDS_AT, MASK_AT,
    ENTRIES, GAP_BITS, VALUE_BITS, VALUE_BYTES, TABLE_AT, WORDS_AT,
    FIELDS
};

typedef struct {
    uint32_t field[FIELDS];
    uint64_t addend;     /* the smallest of all channels, as two's complement */
    uint32_t multiplier; /* likewise */
    int32_t low, high;  /* of the output */
    uint32_t multipliers, addends; /* the bits of their fields */
    uint32_t below_half, rounds;   /* what rounding adds where IS_NARROW, and 1 where there is a shift */
    int is_common;                 /* IS_NARROW, addends that a window holds, and an output of 8 bits without a sign */
    const uint8_t *scales; /* in the section: tsn_read_layer leaves it to those who run the layer */
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

static inline uint32_t ones(uint32_t bits) { return (1u << bits) - 1u; } /* of 0 to 31 bits */

static inline uint32_t low_bits(uint32_t value, uint32_t bits) { return value & ones(bits); }

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

/* round half to even((sum * multiplier + addend) / 2**shift), or of (sum + addend) * multiplier where IS_BIAS: where the
 * exporter has proven that 32 bits hold that product with half of 2**shift. */
static inline int32_t tsn_rounded(const layer_t *layer, uint32_t multiplier, uint32_t addend, uint32_t sum) {
    uint32_t shift = layer->field[SHIFT];
    uint32_t exact = layer->field[IS_BIAS] ? (sum + addend) * multiplier : sum * multiplier + addend;
    return (int32_t)(exact + layer->below_half + (exact >> shift & layer->rounds)) >> shift;
}

typedef struct {
    const uint8_t *words, *mask, *table;
    uint32_t gap_bits, value_bits, value_bytes;
    uint32_t entry, entries; /* of a list; of a bank: the next place, and the number of places */
    uint32_t at;             /* place of the current weight; UINT32_MAX in front of the first and behind the last */
    int32_t value;
} weights_t;

/* Whether a layer is one product a row, without a window. */
static inline int is_linear(const uint32_t *f) {
    return (f[HEIGHT] | f[WIDTH] | f[OUT_HEIGHT] | f[OUT_WIDTH] | f[KERNEL_HEIGHT] | f[KERNEL_WIDTH] | f[GROUPS]) == 1u &&
           (f[PADDING_TOP] | f[PADDING_LEFT]) == 0u;
}

/* tsn.c */
const tsn_section *tsn_task_section(const tsn_net *net, uint32_t task); /* 0 where there is no such task */

/* tsn_sections.c: heads, CRC-32 and records */
uint32_t tsn_crc_byte(uint32_t crc, uint32_t byte);
tsn_status tsn_check_head(const tsn_section *section);
tsn_status tsn_check_section(const tsn_section *section);
/* Reads a record and gives the one behind it; 0 where the section ends before, or a number is none that a field has. */
const uint8_t *tsn_read_layer(const tsn_section *section, const uint8_t *p, layer_t *layer);
void tsn_prepare(layer_t *layer); /* computes what follows from the fields: part of tsn_read_layer */

/* tsn_weights.c: weights and scales as numbers. Walks begin in front of the first weight. */
weights_t tsn_listed(const uint8_t *section, const layer_t *layer);
weights_t tsn_masked(const tsn_net *net, const uint8_t *section, const layer_t *layer);
void tsn_advance(weights_t *w);
scale_t tsn_scale(const layer_t *layer, uint32_t channel);
int32_t tsn_requantized(const layer_t *layer, const scale_t *scale, int64_t sum);

/* tsn_linear.c, tsn_convolve.c, tsn_windows.c: layers */
void tsn_linear(const layer_t *layer, const weights_t *listed, const weights_t *masked, const uint8_t *x, uint8_t *y);
void tsn_convolve(const layer_t *layer, const weights_t *listed, const weights_t *masked, const uint8_t *x, uint8_t *y);
void tsn_pool(const layer_t *layer, const uint8_t *x, uint8_t *y);
void tsn_add(const layer_t *layer, const uint8_t *a, const uint8_t *b, uint8_t *y);

#endif
