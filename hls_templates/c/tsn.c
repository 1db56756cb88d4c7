/* See tsn.h. Numbers come from the sections; all logic is here, the same for every network.
 *
 * A section is a head (magic, size, CRC-32 of what follows, version, place of the records, digests of the network
 * before and with it), data, the name of the task, and a record a layer: integers of 7 bits a byte, lowest first, the
 * highest bit set in all bytes but the last. All other integers have their lowest byte first.
 */
#include "tsn.h"

#include <string.h>

#if -1 >> 1 != -1
#error "tsn.c needs a compiler that shifts negative integers arithmetically"
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

/* Sums of up to TSN_SUMS outputs at a time, on the stack. */
#ifndef TSN_SUMS
#define TSN_SUMS 128u
#endif
typedef union {
    int32_t narrow[TSN_SUMS];
    int64_t wide[TSN_SUMS];
} sums_t;

/* Bits ------------------------------------------------------------------------------------------------------------ */

static uint32_t read32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* At least 25 bits from bit `at` on; sections end with 3 bytes that belong to nothing. */
static uint32_t window(const uint8_t *p, uint32_t at) { return read32(p + (at >> 3)) >> (at & 7u); }

static uint32_t low_bits(uint32_t value, uint32_t bits) { return value & ((1u << bits) - 1u); }

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

static uint64_t read_varint(const uint8_t **p) {
    uint64_t value = 0;
    uint32_t shift = 0;
    uint8_t byte = **p;
    if (byte < 0x80u) {
        return *(*p)++;
    }
    do {
        byte = *(*p)++;
        value |= (uint64_t)(byte & 0x7Fu) << shift;
        shift += 7u;
    } while ((byte & 0x80u) != 0u && shift < 64u);
    return value;
}

/* 0 1 2 3 ... are 0 -1 1 -2 ... */
static uint64_t signed_of(uint64_t value) { return value >> 1 ^ (0u - (value & 1u)); }

static const uint8_t *read_layer(const uint8_t *section, const uint8_t *p, layer_t *layer) {
    for (uint32_t i = 0; i < FIELDS; i++) {
        layer->field[i] = (uint32_t)read_varint(&p);
    }
    layer->multiplier = (int32_t)signed_of(read_varint(&p));
    layer->addend = signed_of(read_varint(&p));
    layer->scales = section + layer->field[SCALES_AT];
    uint32_t type = layer->field[TARGET_TYPE], bits = layer->field[TARGET_BITS] & 31u;
    layer->low = type == INT32 ? INT32_MIN : type & 1u ? -(1 << (bits - 1u)) : 0;
    layer->high = type == INT32 ? INT32_MAX : layer->low + (1 << bits) - 1;
    return p;
}

/* Tensors --------------------------------------------------------------------------------------------------------- */

static int32_t get(const uint8_t *x, uint32_t type, uint32_t i) {
    uint16_t u;
    int16_t s;
    switch (type) {
    case UINT8: return x[i];
    case INT8: return (int8_t)x[i];
    case UINT16: memcpy(&u, x + 2u * i, 2); return u;
    default: memcpy(&s, x + 2u * i, 2); return s;
    }
}

static void put(uint8_t *y, uint32_t type, uint32_t i, int32_t value) {
    uint16_t half = (uint16_t)value;
    if (type <= INT8) {
        y[i] = (uint8_t)value;
    } else if (type == INT32) {
        memcpy(y + 4u * i, &value, 4);
    } else {
        memcpy(y + 2u * i, &half, 2);
    }
}

/* Requantization: saturate(round half to even((acc * multiplier + offset) / 2**shift)) ------------------------------ */

typedef struct {
    int64_t addend;
    int32_t multiplier;
} scale_t;

static scale_t scale_of(const layer_t *layer, uint32_t channel) {
    uint32_t bits = layer->field[MULTIPLIER_BITS], more = layer->field[ADDEND_BITS], at = channel * (bits + more);
    uint64_t addend = more <= 24u ? low_bits(window(layer->scales, at + bits), more) : bits_at(layer->scales, at + bits, more);
    scale_t scale;
    scale.multiplier = layer->multiplier + (int32_t)low_bits(window(layer->scales, at), bits);
    scale.addend = (int64_t)(layer->addend + addend);
    return scale;
}

static int32_t saturated(const layer_t *layer, int32_t value) {
    return value < layer->low ? layer->low : value > layer->high ? layer->high : value;
}

/* Where the exporter has proven that 32 bits hold the sum with its addend, the product unless IS_BIAS, and the result. */
static int32_t requantized_narrow(const layer_t *layer, scale_t scale, int32_t sum) {
    uint32_t shift = layer->field[SHIFT], low;
    int32_t value, addend = (int32_t)scale.addend;
    if (layer->field[IS_BIAS]) { /* the addend comes before the multiplier */
        int64_t product = (int64_t)(sum + addend) * scale.multiplier;
        low = (uint32_t)product;
        value = (int32_t)(shift == 0u ? low : low >> shift | (uint32_t)(product >> 32) << (32u - shift));
    } else {
        value = sum * scale.multiplier + addend;
        low = (uint32_t)value;
        value >>= shift;
    }
    value += shift != 0u && low_bits(low, shift) + (uint32_t)(value & 1) > 1u << (shift - 1u);
    return saturated(layer, value);
}

static int32_t requantized(const layer_t *layer, scale_t scale, int64_t sum) {
    uint32_t shift = layer->field[SHIFT];
    if (layer->field[IS_NARROW]) {
        return requantized_narrow(layer, scale, (int32_t)sum);
    }
    int64_t value = sum * scale.multiplier + scale.addend;
    if (layer->field[IS_BIAS]) {
        value = (sum + scale.addend) * scale.multiplier;
    }
    if (shift != 0u) {
        int64_t half = (int64_t)1 << (shift - 1u);
        value = (value + (half - 1) + (value >> shift & 1)) >> shift;
    }
    return value < layer->low ? layer->low : value > layer->high ? layer->high : (int32_t)value;
}

/* Weights: a walk over those that a task uses, by rising place in (out, in / groups, kernel height, kernel width) ---- */

typedef struct {
    const uint8_t *words, *mask, *table;
    uint32_t gap_bits, value_bits, value_bytes;
    uint32_t entry, entries; /* of a list; of a bank: the next place, and the number of places */
    uint32_t next;           /* the place behind the current one */
    uint32_t at;             /* place of the current weight; UINT32_MAX behind the last */
    int32_t value;
} weights_t;

static int32_t value_of(const weights_t *w, uint32_t code) {
    if (w->value_bytes == 0u) { /* the value itself */
        uint32_t sign = 1u << (w->value_bits - 1u);
        return (int32_t)(code ^ sign) - (int32_t)sign;
    }
    if (w->value_bytes == 1u) {
        return (int8_t)w->table[code];
    }
    return (int16_t)(uint16_t)(w->table[2u * code] | w->table[2u * code + 1u] << 8);
}

static void advance(weights_t *w) {
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
        w->at = w->next + low_bits(bits, w->gap_bits);
        w->next = w->at + 1u;
        w->value = value_of(w, low_bits(bits >> w->gap_bits, w->value_bits));
        w->entry++;
    } else {
        w->at = UINT32_MAX;
    }
}

static weights_t weights_of(const tsn_net *net, const uint8_t *section, const layer_t *layer) {
    const uint32_t *f = layer->field;
    int is_bank = f[LAYOUT] == IN_BANK;
    const uint8_t *words = is_bank ? net->network->sections[f[BANK]].data : section;
    weights_t w;
    w.words = words + f[WORDS_AT];
    w.table = words + f[TABLE_AT];
    w.mask = is_bank ? section + f[MASK_AT] : 0;
    w.gap_bits = f[GAP_BITS];
    w.value_bits = f[VALUE_BITS];
    w.value_bytes = f[VALUE_BYTES];
    w.entry = w.next = 0;
    w.entries = f[ENTRIES];
    w.at = 0;
    w.value = 0;
    return w; /* in front of the first: see advance */
}

/* Kernels --------------------------------------------------------------------------------------------------------- */

/* The sum of a row is there: requantize and store it. */
static APART int32_t finish(const layer_t *layer, uint8_t *y, uint32_t row, int32_t sum) {
    scale_t scale = scale_of(layer, row);
    put(y, layer->field[TARGET_TYPE], row, requantized(layer, scale, sum));
    return 0; /* the sum of the next row */
}

/* Any list or shared words, any type, sums of 64 bits. */
static APART void linear(const layer_t *layer, weights_t w, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS], type = layer->field[SOURCE_TYPE];
    advance(&w);
    for (uint32_t row = 0, first = 0; row < layer->field[OUT_CHANNELS]; row++, first += columns) {
        int64_t sum = 0;
        for (; w.at < first + columns; advance(&w)) {
            sum += (int64_t)w.value * get(x, type, w.at - first);
        }
        put(y, layer->field[TARGET_TYPE], row, requantized(layer, scale_of(layer, row), sum));
    }
}

/* The common cases, for x of uint8_t and sums of 32 bits. `at` is the place in a row. */

static APART void linear_dense(const layer_t *layer, const uint8_t *words, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS];
    for (uint32_t row = 0; row < layer->field[OUT_CHANNELS]; row++, words += columns) {
        int32_t sum = 0;
        for (uint32_t at = 0; at < columns; at++) {
            sum += (int8_t)words[at] * x[at];
        }
        finish(layer, y, row, sum);
    }
}

static APART void linear_bytes(const layer_t *layer, const uint8_t *words, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS], at = 0, row = 0;
    int32_t sum = 0;
    for (const uint8_t *end = words + 2u * layer->field[ENTRIES]; words < end; words += 4) { /* the number is even */
        for (at += words[0]; at >= columns; at -= columns) {
            sum = finish(layer, y, row++, sum);
        }
        sum += (int8_t)words[1] * x[at];
        for (at += 1u + words[2]; at >= columns; at -= columns) {
            sum = finish(layer, y, row++, sum);
        }
        sum += (int8_t)words[3] * x[at++];
    }
    while (row < layer->field[OUT_CHANNELS]) {
        sum = finish(layer, y, row++, sum);
    }
}

static APART void linear_bits(const layer_t *layer, const weights_t *w, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS], at = 0, row = 0, gap_bits = w->gap_bits;
    uint32_t each = gap_bits + w->value_bits, gaps = (1u << gap_bits) - 1u, codes = (1u << w->value_bits) - 1u;
    const uint8_t *words = w->words, *table = w->table;
    int32_t sum = 0;
    for (uint32_t bit = 0, end = w->entries * each; bit < end; bit += each) {
        uint32_t bits = window(words, bit);
        for (at += bits & gaps; at >= columns; at -= columns) {
            sum = finish(layer, y, row++, sum);
        }
        sum += (int8_t)table[bits >> gap_bits & codes] * x[at++];
    }
    while (row < layer->field[OUT_CHANNELS]) {
        sum = finish(layer, y, row++, sum);
    }
}

static APART void linear_masked(const layer_t *layer, const weights_t *w, const uint8_t *x, uint8_t *y) {
    uint32_t columns = layer->field[CHANNELS], row = 0, codes = (1u << w->value_bits) - 1u, first = 0;
    const uint8_t *words = w->words, *table = w->table;
    int32_t sum = 0;
    for (uint32_t place = 0; place < w->entries; place += 8u) {
        uint32_t bits = w->mask[place >> 3], at = place - first, bit = place * w->value_bits;
        for (; bits != 0u; bits >>= 1, at++, bit += w->value_bits) {
            if ((bits & 1u) != 0u) {
                for (; at >= columns; at -= columns, first += columns) {
                    sum = finish(layer, y, row++, sum);
                }
                sum += (int8_t)table[window(words, bit) & codes] * x[at];
            }
        }
    }
    while (row < layer->field[OUT_CHANNELS]) {
        sum = finish(layer, y, row++, sum);
    }
}

static void run_linear(const layer_t *layer, const weights_t *w, const uint8_t *x, uint8_t *y) {
    int is_common = layer->field[SOURCE_TYPE] == UINT8 && !layer->field[IS_WIDE];
    int is_direct = is_common && w->mask == 0 && w->value_bytes == 0u && w->value_bits == 8u;
    if (is_direct && w->gap_bits == 0u) {
        linear_dense(layer, w->words, x, y);
    } else if (is_direct && w->gap_bits == 8u) {
        linear_bytes(layer, w->words, x, y);
    } else if (is_common && w->value_bytes == 1u && w->mask == 0) {
        linear_bits(layer, w, x, y);
    } else if (is_common && w->value_bytes == 1u) {
        linear_masked(layer, w, x, y);
    } else {
        linear(layer, *w, x, y);
    }
}

/* sums[i] += value * x[first + step * i] */
static void accumulate(
    sums_t *sums, uint32_t at, uint32_t count, const layer_t *layer, const uint8_t *x, uint32_t first, int32_t value) {
    uint32_t step = layer->field[STRIDE_RIGHT], type = layer->field[SOURCE_TYPE];
    if (layer->field[IS_WIDE]) {
        for (uint32_t i = 0; i < count; i++, first += step) {
            sums->wide[at + i] += (int64_t)value * get(x, type, first);
        }
    } else if (type == UINT8) {
        for (uint32_t i = 0; i < count; i++, first += step) {
            sums->narrow[at + i] += value * x[first];
        }
    } else {
        for (uint32_t i = 0; i < count; i++, first += step) {
            sums->narrow[at + i] += value * get(x, type, first);
        }
    }
}

/* A part of an output map: rows and columns from `top` and `left` on. */
typedef struct {
    uint32_t top, left, rows, columns;
} block_t;

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* One weight, at (channel, i, j) of the kernel, with all that it meets. */
static void spread(
    sums_t *sums, const layer_t *layer, block_t b, const uint8_t *x, uint32_t channel, uint32_t inner, int32_t value) {
    const uint32_t *f = layer->field;
    uint32_t i = inner / f[KERNEL_WIDTH], j = inner % f[KERNEL_WIDTH], right = f[STRIDE_RIGHT];
    uint32_t begin = f[PADDING_LEFT] > j ? (f[PADDING_LEFT] - j + right - 1u) / right : 0u;
    uint32_t reach = f[WIDTH] + f[PADDING_LEFT];
    uint32_t end = reach > j ? smaller((reach - j - 1u) / right + 1u, b.left + b.columns) : 0u;
    begin = begin < b.left ? b.left : begin;
    for (uint32_t row = 0; row < b.rows && begin < end; row++) {
        uint32_t down = (b.top + row) * f[STRIDE_DOWN] + i;
        if (down >= f[PADDING_TOP] && down - f[PADDING_TOP] < f[HEIGHT]) {
            uint32_t line = (channel * f[HEIGHT] + down - f[PADDING_TOP]) * f[WIDTH];
            uint32_t first = line + begin * right + j - f[PADDING_LEFT];
            accumulate(sums, row * b.columns + begin - b.left, end - begin, layer, x, first, value);
        }
    }
}

static APART void convolve_block(
    const layer_t *layer, weights_t *w, uint32_t out, block_t b, const uint8_t *x, uint8_t *y) {
    const uint32_t *f = layer->field;
    uint32_t area = f[KERNEL_HEIGHT] * f[KERNEL_WIDTH], inputs = f[CHANNELS] / f[GROUPS], first = out * inputs * area;
    uint32_t group = out / (f[OUT_CHANNELS] / f[GROUPS]);
    scale_t scale = scale_of(layer, out);
    sums_t sums;
    memset(&sums, 0, sizeof sums);
    for (; w->at < first + inputs * area; advance(w)) {
        uint32_t place = w->at - first;
        spread(&sums, layer, b, x, group * inputs + place / area, place % area, w->value);
    }
    for (uint32_t row = 0; row < b.rows; row++) {
        for (uint32_t column = 0; column < b.columns; column++) {
            uint32_t i = row * b.columns + column;
            int64_t sum = f[IS_WIDE] ? sums.wide[i] : sums.narrow[i];
            uint32_t place = (out * f[OUT_HEIGHT] + b.top + row) * f[OUT_WIDTH] + b.left + column;
            put(y, f[TARGET_TYPE], place, requantized(layer, scale, sum));
        }
    }
}

static void convolve(const layer_t *layer, weights_t *w, const uint8_t *x, uint8_t *y) {
    const uint32_t *f = layer->field;
    uint32_t columns = smaller(f[OUT_WIDTH], TSN_SUMS), rows = TSN_SUMS / columns;
    for (uint32_t out = 0; out < f[OUT_CHANNELS]; out++) {
        weights_t start = *w;
        for (uint32_t top = 0; top < f[OUT_HEIGHT]; top += rows) {
            for (uint32_t left = 0; left < f[OUT_WIDTH]; left += columns) {
                block_t block = {top, left, smaller(rows, f[OUT_HEIGHT] - top), smaller(columns, f[OUT_WIDTH] - left)};
                *w = start;
                convolve_block(layer, w, out, block, x, y);
            }
        }
    }
}

static void pool(const layer_t *layer, const uint8_t *x, uint8_t *y) {
    const uint32_t *f = layer->field;
    uint32_t type = f[SOURCE_TYPE], outputs = f[OUT_HEIGHT] * f[OUT_WIDTH];
    for (uint32_t place = 0; place < f[OUT_CHANNELS] * outputs; place++) {
        uint32_t channel = place / outputs, down = place % outputs / f[OUT_WIDTH], right = place % f[OUT_WIDTH];
        uint32_t first = (channel * f[HEIGHT] + down * f[STRIDE_DOWN]) * f[WIDTH] + right * f[STRIDE_RIGHT];
        int32_t most = get(x, type, first);
        int64_t sum = 0;
        for (uint32_t i = 0; i < f[KERNEL_HEIGHT]; i++) {
            for (uint32_t j = 0; j < f[KERNEL_WIDTH]; j++) {
                int32_t value = get(x, type, first + i * f[WIDTH] + j);
                sum += value;
                most = value > most ? value : most;
            }
        }
        if (f[KIND] == AVERAGE_POOL) {
            scale_t scale = scale_of(layer, channel);
            most = requantized(layer, scale, sum);
        }
        put(y, f[TARGET_TYPE], place, most);
    }
}

static void add(const layer_t *layer, const uint8_t *a, const uint8_t *b, uint8_t *y) {
    const uint32_t *f = layer->field;
    scale_t scale = scale_of(layer, 0);
    for (uint32_t i = 0; i < f[CHANNELS] * f[HEIGHT] * f[WIDTH]; i++) {
        int64_t first = get(a, f[SOURCE_TYPE], i) * ((int64_t)1 << f[SOURCE_SHIFT]);
        int64_t second = get(b, f[OTHER_TYPE], i) * ((int64_t)1 << f[OTHER_SHIFT]);
        put(y, f[TARGET_TYPE], i, requantized(layer, scale, first + second));
    }
}

static const uint8_t *tensor(const tsn_net *net, const void *input, uint32_t at) {
    return at == 0u ? (const uint8_t *)input : net->scratch + (at - 1u);
}

static tsn_status run_layer(const tsn_net *net, const uint8_t *section, const layer_t *layer, const void *input, uint8_t *y) {
    const uint32_t *f = layer->field;
    const uint8_t *x = tensor(net, input, f[SOURCE_AT]);
    if (f[KIND] == PRODUCTS) {
        weights_t w = weights_of(net, section, layer);
        if (f[HEIGHT] * f[WIDTH] * f[KERNEL_HEIGHT] * f[KERNEL_WIDTH] == 1u && f[GROUPS] == 1u) {
            run_linear(layer, &w, x, y);
        } else {
            advance(&w);
            convolve(layer, &w, x, y);
        }
    } else if (f[KIND] == MAX_POOL || f[KIND] == AVERAGE_POOL) {
        pool(layer, x, y);
    } else if (f[KIND] == ADD) {
        add(layer, x, tensor(net, input, f[OTHER_AT]), y);
    } else {
        return TSN_BAD_LAYER;
    }
    return TSN_OK;
}

/* What tsn.h promises --------------------------------------------------------------------------------------------- */

static uint32_t crc_byte(uint32_t crc, uint32_t byte) {
    crc ^= byte & 0xFFu;
    for (uint32_t bit = 0; bit < 8u; bit++) {
        crc = crc >> 1 ^ ((crc & 1u) ? 0xEDB88320u : 0u);
    }
    return crc;
}

static tsn_status check_head(const tsn_section *section) {
    if (section->size < HEAD || read32(section->data + SIZE_AT) != section->size) {
        return TSN_BAD_SIZE;
    }
    if (read32(section->data) != MAGIC) {
        return TSN_BAD_MAGIC;
    }
    return read32(section->data + VERSION_AT) == TSN_VERSION ? TSN_OK : TSN_BAD_VERSION;
}

static tsn_status check_section(const tsn_section *section) {
    tsn_status status = check_head(section);
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = VERSION_AT; status == TSN_OK && i < section->size; i++) {
        crc = crc_byte(crc, section->data[i]);
    }
    return status != TSN_OK || ~crc == read32(section->data + CRC_AT) ? status : TSN_BAD_CRC;
}

tsn_status tsn_init(tsn_net *net, const tsn_network *network, void *scratch, uint32_t scratch_bytes) {
    if (scratch == 0 || ((uintptr_t)scratch & 3u) != 0u || scratch_bytes < network->scratch_bytes) {
        return TSN_NO_SCRATCH;
    }
    net->network = network;
    net->scratch = (uint8_t *)scratch;
    for (uint32_t i = 0; i < network->section_count; i++) {
        tsn_status status = check_head(&network->sections[i]);
        if (status != TSN_OK) {
            return status;
        }
    }
    return TSN_OK;
}

static const uint8_t *task_section(const tsn_net *net, uint32_t task) {
    return task < net->network->tasks ? net->network->sections[task].data : 0;
}

int32_t tsn_element(const void *values, uint32_t type, uint32_t i) {
    return type == INT32 ? ((const int32_t *)values)[i] : get((const uint8_t *)values, type, i);
}

tsn_status tsn_observe(
    const tsn_net *net, uint32_t task, const void *input, int32_t *logits, tsn_observer observer, void *context) {
    const uint8_t *section = task_section(net, task);
    if (section == 0) {
        return TSN_NO_TASK;
    }
    const uint8_t *record = section + read32(section + RECORDS_AT);
    for (uint32_t i = 0, layers = read32(section + LAYERS_AT); i < layers; i++) {
        layer_t layer;
        record = read_layer(section, record, &layer);
        int is_head = layer.field[TARGET_TYPE] == INT32;
        uint8_t *y = is_head ? (uint8_t *)logits : net->scratch + (layer.field[TARGET_AT] - 1u);
        tsn_status status = run_layer(net, section, &layer, input, y);
        if (status != TSN_OK) {
            return status;
        }
        if (observer != 0) {
            uint32_t count = layer.field[OUT_CHANNELS] * layer.field[OUT_HEIGHT] * layer.field[OUT_WIDTH];
            observer(context, layer.field[INDEX], y, count, layer.field[TARGET_TYPE]);
        }
    }
    return TSN_OK;
}

tsn_status tsn_run(const tsn_net *net, uint32_t task, const void *input, int32_t *logits) {
    return tsn_observe(net, task, input, logits, 0, 0);
}

/* The last bytes of the scratch buffer hold logits where the caller gives no room for them. */
static int32_t *own_logits(const tsn_net *net) {
    return (int32_t *)(void *)(net->scratch + net->network->scratch_bytes - 4u * net->network->most_logits);
}

int32_t tsn_classify(const tsn_net *net, uint32_t task, const void *input) {
    int32_t *logits = own_logits(net), best = 0;
    tsn_status status = tsn_run(net, task, input, logits);
    if (status != TSN_OK) {
        return (int32_t)status;
    }
    for (uint32_t i = 1; i < tsn_logit_count(net, task); i++) {
        best = logits[i] > logits[best] ? (int32_t)i : best;
    }
    return best;
}

uint32_t tsn_task_count(const tsn_net *net) { return net->network->tasks; }

const char *tsn_task_name(const tsn_net *net, uint32_t task) {
    const uint8_t *section = task_section(net, task);
    return section == 0 ? 0 : (const char *)(section + read32(section + NAME_AT));
}

uint32_t tsn_logit_count(const tsn_net *net, uint32_t task) {
    const uint8_t *section = task_section(net, task);
    return section == 0 ? 0 : read32(section + OUTPUTS_AT);
}

const char *tsn_digest(const tsn_net *net) { return net->network->digest; }

uint32_t tsn_version(void) { return TSN_VERSION; }

static tsn_status check_golden(const tsn_net *net, const tsn_golden *golden) {
    const uint8_t *input = (const uint8_t *)golden->input;
    uint32_t crc = 0xFFFFFFFFu, type = net->network->input_bytes == 1u ? UINT8 : UINT16;
    for (uint32_t i = 0; i < net->network->inputs; i++) {
        uint32_t value = (uint32_t)get(input, type, i);
        crc = crc_byte(crc, value);
        crc = type == UINT8 ? crc : crc_byte(crc, value >> 8);
    }
    for (uint32_t i = 0; i < 4u * golden->outputs; i++) {
        crc = crc_byte(crc, (uint32_t)golden->logits[i / 4u] >> (i % 4u * 8u));
    }
    return ~crc == golden->crc ? TSN_OK : TSN_BAD_GOLDEN;
}

tsn_status tsn_self_test(const tsn_net *net, const tsn_golden *golden, uint32_t count) {
    int32_t *logits = own_logits(net);
    for (uint32_t i = 0; i < net->network->section_count; i++) {
        tsn_status status = check_section(&net->network->sections[i]);
        if (status != TSN_OK) {
            return status;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        tsn_status status = check_golden(net, &golden[i]);
        if (status == TSN_OK && golden[i].outputs != tsn_logit_count(net, golden[i].task)) {
            status = TSN_BAD_GOLDEN;
        }
        status = status == TSN_OK ? tsn_run(net, golden[i].task, golden[i].input, logits) : status;
        for (uint32_t out = 0; status == TSN_OK && out < golden[i].outputs; out++) {
            status = logits[out] == golden[i].logits[out] ? TSN_OK : TSN_WRONG_LOGITS;
        }
        if (status != TSN_OK) {
            return status;
        }
    }
    return TSN_OK;
}
