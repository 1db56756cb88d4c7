/* Linear layers, see tsn_internal.h. */
#include "tsn_internal.h"

/* The sum of a row is there: requantize and store it. */
static APART uint32_t finish(const layer_t *layer, uint8_t *y, uint32_t row, uint32_t sum) {
    scale_t scale = tsn_scale(layer, row);
    put(y, layer->field[TARGET_TYPE], row, tsn_requantized(layer, &scale, (int32_t)sum));
    return 0; /* the sum of the next row */
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
        scale_t scale = tsn_scale(layer, row);
        put(y, layer->field[TARGET_TYPE], row, tsn_requantized(layer, &scale, sum));
    }
}

/* The common cases, for x of uint8_t and sums of 32 bits. `at` is the place in a row. */

static APART void linear_dense(const layer_t *layer, const uint8_t *words, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS];
    for (uint32_t row = 0; row < layer->field[OUT_CHANNELS]; row++, words += columns) {
        uint32_t sum = 0;
        for (uint32_t at = 0; at < columns; at++) {
            sum += (uint32_t)((int8_t)words[at] * x[at]);
        }
        finish(layer, y, row, sum);
    }
}

static APART void linear_bytes(const layer_t *layer, const uint8_t *words, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS], at = 0, row = 0, size = 2u * layer->field[ENTRIES];
    uint32_t sum = 0;
    for (const uint8_t *end = words + size; words < end; words += 4) { /* the number is even */
        for (at += words[0]; at >= columns; at -= columns) {
            sum = finish(layer, y, row++, sum);
        }
        sum += (uint32_t)((int8_t)words[1] * x[at]);
        for (at += 1u + words[2]; at >= columns; at -= columns) {
            sum = finish(layer, y, row++, sum);
        }
        sum += (uint32_t)((int8_t)words[3] * x[at++]);
    }
    while (row < layer->field[OUT_CHANNELS]) {
        sum = finish(layer, y, row++, sum);
    }
}

static APART void linear_bits(const layer_t *layer, const weights_t *w, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS], at = 0, row = 0, gap_bits = w->gap_bits;
    uint32_t each = gap_bits + w->value_bits, gaps = (1u << gap_bits) - 1u, codes = (1u << w->value_bits) - 1u;
    const uint8_t *words = w->words, *table = w->table;
    uint32_t sum = 0;
    for (uint32_t bit = 0, end = w->entries * each; bit < end; bit += each) {
        uint32_t bits = window(words, bit);
        for (at += bits & gaps; at >= columns; at -= columns) {
            sum = finish(layer, y, row++, sum);
        }
        sum += (uint32_t)((int8_t)table[bits >> gap_bits & codes] * x[at++]);
    }
    while (row < layer->field[OUT_CHANNELS]) {
        sum = finish(layer, y, row++, sum);
    }
}

static APART void linear_masked(const layer_t *layer, const weights_t *w, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS], row = 0, codes = (1u << w->value_bits) - 1u, first = 0;
    const uint8_t *words = w->words, *table = w->table;
    uint32_t sum = 0;
    for (uint32_t place = 0; place < w->entries; place += 8u) {
        uint32_t bits = w->mask[place >> 3], at = place - first, bit = place * w->value_bits;
        for (; bits != 0u; bits >>= 1, at++, bit += w->value_bits) {
            if ((bits & 1u) != 0u) {
                for (; at >= columns; at -= columns, first += columns) {
                    sum = finish(layer, y, row++, sum);
                }
                sum += (uint32_t)((int8_t)table[window(words, bit) & codes] * x[at]);
            }
        }
    }
    while (row < layer->field[OUT_CHANNELS]) {
        sum = finish(layer, y, row++, sum);
    }
}

void tsn_linear(const layer_t *layer, const weights_t *listed, const weights_t *masked, const uint8_t *x, uint8_t *y) {
    int is_common = layer->field[SOURCE_TYPE] == UINT8 && !layer->field[IS_WIDE];
    int is_listed = is_common && masked->entries == 0u;
    int is_direct = is_listed && listed->value_bytes == 0u && listed->value_bits == 8u;
    if (is_direct && listed->gap_bits == 0u) {
        linear_dense(layer, listed->words, x, y);
    } else if (is_direct && listed->gap_bits == 8u) {
        linear_bytes(layer, listed->words, x, y);
    } else if (is_listed && listed->value_bytes == 1u) {
        linear_bits(layer, listed, x, y);
    } else if (is_common && listed->entries == 0u && masked->value_bytes == 1u) {
        linear_masked(layer, masked, x, y);
    } else {
        linear(layer, *listed, *masked, x, y);
    }
}
