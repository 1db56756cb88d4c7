/* What weights and scales are as numbers, see tsn_internal.h. */
#include "tsn_internal.h"

static uint64_t bits_at(const uint8_t *p, uint32_t at, uint32_t bits) {
    uint64_t value = 0;
    uint32_t got = 0;
    while (got < bits) {
        uint32_t part = bits - got < 24u ? bits - got : 24u;
        value |= (uint64_t)low_bits(window(p, at + got), part) << got;
        got += part;
    }
    return value;
}

scale_t tsn_scale(const layer_t *layer, uint32_t channel) {
    uint32_t bits = layer->field[MULTIPLIER_BITS], more = layer->field[ADDEND_BITS], at = channel * (bits + more);
    uint64_t addend = more <= 24u ? low_bits(window(layer->scales, at + bits), more) : bits_at(layer->scales, at + bits, more);
    scale_t scale;
    scale.multiplier = (int32_t)(layer->multiplier + low_bits(window(layer->scales, at), bits));
    scale.addend = (int64_t)(layer->addend + addend);
    return scale;
}

int32_t tsn_requantized(const layer_t *layer, const scale_t *scale, int64_t sum) {
    uint32_t shift = layer->field[SHIFT];
    if (layer->field[IS_NARROW]) {
        int32_t value = tsn_rounded(layer, (uint32_t)scale->multiplier, (uint32_t)scale->addend, (uint32_t)sum);
        return value < layer->low ? layer->low : value > layer->high ? layer->high : value;
    }
    uint64_t multiplier = (uint64_t)scale->multiplier, addend = (uint64_t)scale->addend, exact = (uint64_t)sum;
    exact = layer->field[IS_BIAS] ? (exact + addend) * multiplier : exact * multiplier + addend;
    int64_t value = (int64_t)exact;
    if (shift != 0u) {
        int64_t half = (int64_t)1 << (shift - 1u);
        value = (int64_t)(exact + (uint64_t)(half - 1) + (uint64_t)(value >> shift & 1)) >> shift;
    }
    return value < layer->low ? layer->low : value > layer->high ? layer->high : (int32_t)value;
}

/* A walk over the weights that a task uses, by rising place in (out, in / groups, kernel height, kernel width). */

static int32_t value_of(const weights_t *w, uint32_t code) {
    if (w->value_bytes == 0u) { /* the value itself */
        uint32_t sign = 1u << (w->value_bits - 1u);
        return (int32_t)(code ^ sign) - (int32_t)sign;
    }
    if (w->value_bytes == 1u) {
        return (int8_t)w->table[code];
    }
    const uint8_t *entry = w->table + code + code;
    return (int16_t)(uint16_t)(entry[0] | entry[1] << 8);
}

void tsn_advance(weights_t *w) {
    if (w->mask != 0) {
        while (w->entry < w->entries) {
            uint32_t bits = (uint32_t)w->mask[w->entry >> 3] >> (w->entry & 7u);
            if (bits == 0u) {
                w->entry = (w->entry | 7u) + 1u;
                continue;
            }
            while ((bits & 1u) == 0u) {
                bits >>= 1;
                w->entry++;
            }
            w->at = w->entry++;
            w->value = value_of(w, low_bits(window(w->words, w->at * w->value_bits), w->value_bits));
            return;
        }
        w->at = UINT32_MAX;
    } else if (w->entry < w->entries) {
        uint32_t bits = window(w->words, w->entry * (w->gap_bits + w->value_bits));
        w->at += w->gap_bits == 0u ? 1u : low_bits(bits, w->gap_bits);
        w->value = value_of(w, low_bits(bits >> w->gap_bits, w->value_bits));
        w->entry++;
    } else {
        w->at = UINT32_MAX;
    }
}

weights_t tsn_listed(const uint8_t *section, const layer_t *layer) {
    const uint32_t *f = layer->field;
    weights_t w = {section + f[WORDS_AT], 0, section + f[TABLE_AT], f[GAP_BITS], f[VALUE_BITS], f[VALUE_BYTES],
                   0, f[ENTRIES], UINT32_MAX, 0};
    return w;
}

weights_t tsn_masked(const tsn_net *net, const uint8_t *section, const layer_t *layer) {
    const uint32_t *f = layer->field;
    const uint8_t *words = f[PLACES] == 0u ? section : net->network->sections[f[BANK]].data;
    weights_t w = {words + f[BANK_WORDS_AT], section + f[MASK_AT], words + f[BANK_TABLE_AT], 0,
                   f[BANK_VALUE_BITS], f[BANK_VALUE_BYTES], 0, f[PLACES], UINT32_MAX, 0};
    return w;
}
