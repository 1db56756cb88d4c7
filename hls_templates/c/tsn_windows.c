/* Convolutions, pooling and additions, see tsn_internal.h. */
#include "tsn_internal.h"

/* Sums of up to TSN_SUMS outputs at a time, on the stack. */
#ifndef TSN_SUMS
#define TSN_SUMS 128u
#endif
typedef union {
    int32_t narrow[TSN_SUMS];
    int64_t wide[TSN_SUMS];
} sums_t;

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
    scale_t scale = tsn_scale(layer, out);
    sums_t sums;
    memset(&sums, 0, sizeof sums);
    for (; w->at < first + inputs * area; tsn_advance(w)) {
        uint32_t place = w->at - first;
        spread(&sums, layer, b, x, group * inputs + place / area, place % area, w->value);
    }
    for (uint32_t row = 0; row < b.rows; row++) {
        for (uint32_t column = 0; column < b.columns; column++) {
            uint32_t i = row * b.columns + column;
            int64_t sum = f[IS_WIDE] ? sums.wide[i] : sums.narrow[i];
            uint32_t place = (out * f[OUT_HEIGHT] + b.top + row) * f[OUT_WIDTH] + b.left + column;
            put(y, f[TARGET_TYPE], place, tsn_requantized(layer, &scale, sum));
        }
    }
}

void tsn_convolve(const layer_t *layer, weights_t *w, const uint8_t *x, uint8_t *y) {
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

void tsn_pool(const layer_t *layer, const uint8_t *x, uint8_t *y) {
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
            scale_t scale = tsn_scale(layer, channel);
            most = tsn_requantized(layer, &scale, sum);
        }
        put(y, f[TARGET_TYPE], place, most);
    }
}

void tsn_add(const layer_t *layer, const uint8_t *a, const uint8_t *b, uint8_t *y) {
    const uint32_t *f = layer->field;
    scale_t scale = tsn_scale(layer, 0);
    for (uint32_t i = 0; i < f[CHANNELS] * f[HEIGHT] * f[WIDTH]; i++) {
        int64_t first = get(a, f[SOURCE_TYPE], i) * ((int64_t)1 << f[SOURCE_SHIFT]);
        int64_t second = get(b, f[OTHER_TYPE], i) * ((int64_t)1 << f[OTHER_SHIFT]);
        put(y, f[TARGET_TYPE], i, tsn_requantized(layer, &scale, first + second));
    }
}
