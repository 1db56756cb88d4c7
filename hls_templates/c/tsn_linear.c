/* Linear layers, see tsn_internal.h. */
#include "tsn_internal.h"

static APART void finish_any(const layer_t *layer, uint8_t *y, uint32_t row, int64_t sum) {
    scale_t scale = tsn_scale(layer, row);
    put(y, layer->field[TARGET_TYPE], row, tsn_requantized(layer, &scale, sum));
}

/* Where a walk over the weights of all rows is. */
typedef struct {
    const layer_t *layer;
    uint8_t *y;
    uint32_t row;
    int32_t columns;
} rows_t;

/* The sum of a row is there: requantize and store it. `at`, the next place less the columns of the row, is 0 or lies in a
 * later one: gives it less the columns of that row, and finishes those between, which have no weights. */
static APART int32_t finish(rows_t *r, int32_t at, uint32_t sum) {
    const layer_t *layer = r->layer;
    do {
        uint32_t row = r->row++;
        if (layer->is_common) {
            uint32_t bits = layer->field[MULTIPLIER_BITS], bit = row * (bits + layer->field[ADDEND_BITS]);
            uint32_t multiplier = layer->multiplier + (window(layer->scales, bit) & layer->multipliers);
            uint32_t addend = (uint32_t)layer->addend + (window(layer->scales, bit + bits) & layer->addends);
            int32_t value = tsn_rounded(layer, multiplier, addend, sum);
            value = value > 0 ? value : 0;
            r->y[row] = (uint8_t)(value < UINT8_MAX ? value : UINT8_MAX);
        } else {
            finish_any(layer, r->y, row, (int32_t)sum);
        }
        at -= r->columns;
        sum = 0;
    } while (RARELY(at >= 0));
    return at;
}

static void finish_rest(rows_t *r, uint32_t sum) {
    for (; r->row < r->layer->field[OUT_CHANNELS]; sum = 0) {
        finish(r, 0, sum);
    }
}

/* Any weights, any type, sums of 64 bits. */
static APART void linear(const layer_t *layer, weights_t listed, weights_t masked, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS], type = layer->field[SOURCE_TYPE];
    tsn_advance(&listed);
    tsn_advance(&masked);
    for (uint32_t row = 0, first = 0; row < layer->field[OUT_CHANNELS]; row++, first += columns) {
        int64_t sum = 0;
        for (; listed.at < first + columns; tsn_advance(&listed)) {
            sum += (int64_t)listed.value * get(x, type, listed.at - first);
        }
        for (; masked.at < first + columns; tsn_advance(&masked)) {
            sum += (int64_t)masked.value * get(x, type, masked.at - first);
        }
        finish_any(layer, y, row, sum);
    }
}

/* The common cases, for x of uint8_t and sums of 32 bits. In lists, which go on from row to row, `at` is the place in a
 * row less its columns, so that a place in a later row is one that is not below 0. */

static APART void linear_bytes(rows_t *r, const uint8_t *words, const uint8_t *x) {
    int32_t at = -r->columns - 1;
    uint32_t sum = 0, size = 2u * r->layer->field[ENTRIES];
    x += r->columns;
    for (const uint8_t *end = words + size; words < end; words += 4) { /* the number is even */
        at += words[0];
        if (RARELY(at >= 0)) {
            at = finish(r, at, sum);
            sum = 0;
        }
        sum += (uint32_t)((int8_t)words[1] * x[at]);
        at += words[2];
        if (RARELY(at >= 0)) {
            at = finish(r, at, sum);
            sum = 0;
        }
        sum += (uint32_t)((int8_t)words[3] * x[at]);
    }
    finish_rest(r, sum);
}

/* Entries of 12 bits, two in three bytes. */
static APART void linear_twelve(rows_t *r, const weights_t *w, const uint8_t *x) {
    int32_t at = -r->columns - 1;
    uint32_t gap_bits = w->gap_bits, gaps = ones(gap_bits), size = w->entries / 2u * 3u, sum = 0;
    const uint8_t *words = w->words, *table = w->table;
    x += r->columns;
    for (const uint8_t *end = words + size; words < end;) { /* the number is even */
        uint32_t two = read32(words), entry = two & 0xFFFu;
        words += 3;
        at += (int32_t)(entry & gaps);
        if (RARELY(at >= 0)) {
            at = finish(r, at, sum);
            sum = 0;
        }
        sum += (uint32_t)((int8_t)table[entry >> gap_bits] * x[at]);
        entry = two >> 12 & 0xFFFu;
        at += (int32_t)(entry & gaps);
        if (RARELY(at >= 0)) {
            at = finish(r, at, sum);
            sum = 0;
        }
        sum += (uint32_t)((int8_t)table[entry >> gap_bits] * x[at]);
    }
    finish_rest(r, sum);
}

static APART void linear_bits(rows_t *r, const weights_t *w, const uint8_t *x) {
    int32_t at = -r->columns - 1;
    uint32_t gap_bits = w->gap_bits, each = gap_bits + w->value_bits, gaps = ones(gap_bits), codes = ones(w->value_bits);
    uint32_t sum = 0;
    const uint8_t *words = w->words, *table = w->table;
    x += r->columns;
    for (uint32_t bit = 0, end = w->entries * each; bit < end; bit += each) {
        uint32_t bits = window(words, bit);
        at += (int32_t)(bits & gaps);
        if (RARELY(at >= 0)) {
            at = finish(r, at, sum);
            sum = 0;
        }
        sum += (uint32_t)((int8_t)table[bits >> gap_bits & codes] * x[at]);
    }
    finish_rest(r, sum);
}

static APART void linear_dense(rows_t *r, const uint8_t *words, const uint8_t *x) {
    uint32_t rows = r->layer->field[OUT_CHANNELS];
    while (r->row < rows) {
        uint32_t sum = 0;
        for (const uint8_t *at = x, *end = x + r->columns; at < end;) {
            sum += (uint32_t)((int8_t)*words++ * *at++);
        }
        finish(r, 0, sum);
    }
}

/* All weights, as places in a table: four in a window where they have at most 6 bits. */
static APART void linear_codes(rows_t *r, const weights_t *w, const uint8_t *x) {
    uint32_t bits = w->value_bits, codes = ones(bits), bit = 0, rows = r->layer->field[OUT_CHANNELS];
    uint32_t fours = bits <= 6u ? (uint32_t)r->columns / 4u : 0u;
    const uint8_t *words = w->words, *table = w->table;
    while (r->row < rows) {
        uint32_t sum = 0;
        const uint8_t *at = x, *end = x + r->columns;
        for (uint32_t i = fours; i != 0u; i--, bit += 4u * bits) {
            uint32_t four = window(words, bit);
            sum += (uint32_t)((int8_t)table[four & codes] * *at++);
            four >>= bits;
            sum += (uint32_t)((int8_t)table[four & codes] * *at++);
            four >>= bits;
            sum += (uint32_t)((int8_t)table[four & codes] * *at++);
            four >>= bits;
            sum += (uint32_t)((int8_t)table[four & codes] * *at++);
        }
        for (; at < end; bit += bits) {
            sum += (uint32_t)((int8_t)table[window(words, bit) & codes] * *at++);
        }
        finish(r, 0, sum);
    }
}

/* What weights that some bits take add to a sum: of bytes, which are the weights themselves, and of places in a table. */

static inline uint32_t taken_bytes(uint32_t bits, const uint8_t *words, const uint8_t *x, uint32_t sum) {
#if HAS_LOWEST
    for (; bits != 0u; bits &= bits - 1u) {
        uint32_t at = (uint32_t)__builtin_ctz(bits);
        sum += (uint32_t)((int8_t)words[at] * x[at]);
    }
#else
    for (; bits != 0u; bits >>= 1, words++, x++) {
        if ((bits & 1u) != 0u) {
            sum += (uint32_t)((int8_t)*words * *x);
        }
    }
#endif
    return sum;
}

static inline uint32_t taken_codes(uint32_t bits, const weights_t *w, uint32_t bit, const uint8_t *x, uint32_t sum) {
    uint32_t value_bits = w->value_bits, codes = ones(value_bits);
    const uint8_t *words = w->words, *table = w->table;
    for (; bits != 0u; bits >>= 1, x++, bit += value_bits) {
        if ((bits & 1u) != 0u) {
            sum += (uint32_t)((int8_t)table[window(words, bit) & codes] * *x);
        }
    }
    return sum;
}

static APART void linear_masked(rows_t *r, const weights_t *w, const uint8_t *x) {
    uint32_t columns = (uint32_t)r->columns, rows = r->layer->field[OUT_CHANNELS], place = 0;
    while (r->row < rows) {
        uint32_t sum = 0, count;
        for (uint32_t at = 0; at < columns; at += count, place += count) {
            count = columns - at < 25u ? columns - at : 25u;
            sum = taken_codes(low_bits(window(w->mask, place), count), w, place * w->value_bits, x + at, sum);
        }
        finish(r, 0, sum);
    }
}

static APART void linear_masked_bytes(rows_t *r, const weights_t *w, const uint8_t *x) {
    const uint8_t *words = w->words, *mask = w->mask;
    uint32_t rows = r->layer->field[OUT_CHANNELS], place = 0;
    while (r->row < rows) {
        uint32_t sum = 0, rest = (uint32_t)r->columns, count;
        const uint8_t *at = x;
        for (; (count = 32u - (place & 7u)) <= rest; rest -= count) { /* as many bits as a window has here */
            sum = taken_bytes(window(mask, place), words, at, sum);
            place += count;
            words += count;
            at += count;
        }
        sum = taken_bytes(low_bits(window(mask, place), rest), words, at, sum);
        place += rest;
        words += rest;
        finish(r, 0, sum);
    }
}

void tsn_linear(const layer_t *layer, const weights_t *listed, const weights_t *masked, const uint8_t *x, uint8_t *y) {
    int is_common = layer->field[SOURCE_TYPE] == UINT8 && !layer->field[IS_WIDE];
    int is_listed = is_common && masked->entries == 0u, is_masked = is_common && listed->entries == 0u;
    int is_direct = is_listed && listed->value_bytes == 0u && listed->value_bits == 8u;
    rows_t rows = {layer, y, 0, (int32_t)layer->field[CHANNELS]};
    if (is_direct && listed->gap_bits == 0u) {
        linear_dense(&rows, listed->words, x);
    } else if (is_direct && listed->gap_bits == 8u) {
        linear_bytes(&rows, listed->words, x);
    } else if (is_listed && listed->value_bytes == 1u) {
        if (listed->gap_bits == 0u) {
            linear_codes(&rows, listed, x);
        } else if (listed->gap_bits + listed->value_bits == 12u && listed->entries % 2u == 0u) {
            linear_twelve(&rows, listed, x);
        } else {
            linear_bits(&rows, listed, x);
        }
    } else if (is_masked && masked->value_bytes == 1u) {
        linear_masked(&rows, masked, x);
    } else if (is_masked && masked->value_bytes == 0u && masked->value_bits == 8u) {
        linear_masked_bytes(&rows, masked, x);
    } else {
        linear(layer, *listed, *masked, x, y);
    }
}
