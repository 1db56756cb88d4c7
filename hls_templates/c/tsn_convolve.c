/* Convolutions, see tsn_internal.h. */
#include "tsn_internal.h"

/* Sums of so many outputs at a time, and so many weights, stand on the stack. */
#ifndef TSN_SUMS
#define TSN_SUMS 64u
#endif
typedef union {
    uint32_t narrow[TSN_SUMS]; /* two's complement */
    int64_t wide[TSN_SUMS];
} sums_t;

/* A weight of one output channel, and which place of its window it meets: from the first one of the window on. */
typedef struct {
    int32_t value;
    uint32_t place;
    uint32_t down, right;
} tap_t;

typedef struct {
    tap_t tap[TSN_SUMS];
    uint32_t count;
} taps_t;

/* The place of the weight that a walk is at, in the kernels of one output channel. */
typedef struct {
    uint32_t at, channel, down, right;
} cursor_t;

/* Takes the next weights in front of `end`; 0 where there are no more. */
static APART uint32_t take(taps_t *taps, weights_t *w, cursor_t *c, uint32_t end, const layer_t *layer) {
    const uint32_t *f = layer->field;
    uint32_t count = 0;
    for (; count < TSN_SUMS && w->at < end; tsn_advance(w)) {
        c->right += w->at - c->at;
        for (c->at = w->at; c->right >= f[KERNEL_WIDTH]; c->right -= f[KERNEL_WIDTH]) {
            if (++c->down == f[KERNEL_HEIGHT]) {
                c->down = 0;
                c->channel++;
            }
        }
        tap_t *tap = &taps->tap[count++];
        tap->value = w->value;
        tap->place = (c->channel * f[HEIGHT] + c->down) * f[WIDTH] + c->right;
        tap->down = c->down;
        tap->right = c->right;
    }
    taps->count = count;
    return count;
}

/* Windows that lie inside of x, which is their first place: one, and four that are `step` apart. */

static APART void inside_one(const taps_t *taps, const uint8_t *x, uint32_t *sums) {
    uint32_t sum = *sums;
    for (const tap_t *tap = taps->tap, *end = tap + taps->count; tap < end; tap++) {
        sum += (uint32_t)(tap->value * x[tap->place]);
    }
    *sums = sum;
}

static APART void inside_four(const taps_t *taps, const uint8_t *x, uint32_t step, uint32_t *sums) {
    const uint8_t *x1 = x + step, *x2 = x1 + step, *x3 = x2 + step;
    uint32_t sum0 = sums[0], sum1 = sums[1], sum2 = sums[2], sum3 = sums[3];
    for (const tap_t *tap = taps->tap, *end = tap + taps->count; tap < end; tap++) {
        int32_t value = tap->value;
        uint32_t place = tap->place;
        sum0 += (uint32_t)(value * x[place]);
        sum1 += (uint32_t)(value * x1[place]);
        sum2 += (uint32_t)(value * x2[place]);
        sum3 += (uint32_t)(value * x3[place]);
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

/* A window anywhere, of any type; its first place is (top, left) of x, which may be negative as two's complement. */
static APART int64_t anywhere(const layer_t *layer, const taps_t *taps, const uint8_t *x, uint32_t top, uint32_t left) {
    const uint32_t *f = layer->field;
    uint32_t height = f[HEIGHT], width = f[WIDTH], type = f[SOURCE_TYPE], first = top * width + left;
    int64_t sum = 0;
    for (const tap_t *tap = taps->tap, *end = tap + taps->count; tap < end; tap++) {
        if (top + tap->down < height && left + tap->right < width) {
            sum += (int64_t)tap->value * get(x, type, first + tap->place);
        }
    }
    return sum;
}

/* Outputs of one channel that follow one another: the first one, and how many. */
typedef struct {
    uint32_t row, column, count;
} block_t;

/* Adds what some weights give to the sums of a block. */
static void add_taps(const layer_t *layer, const taps_t *taps, block_t b, const uint8_t *x, sums_t *sums) {
    const uint32_t *f = layer->field;
    uint32_t step = f[STRIDE_RIGHT], reach = f[WIDTH] + f[PADDING_LEFT], is_common = f[SOURCE_TYPE] == UINT8;
    uint32_t begin = (f[PADDING_LEFT] + step - 1u) / step; /* columns whose windows lie inside: from here on */
    uint32_t end = reach < f[KERNEL_WIDTH] ? 0u : (reach - f[KERNEL_WIDTH]) / step + 1u; /* and in front of here */
    for (uint32_t i = 0, count; i < b.count; i += count) {
        uint32_t top = b.row * f[STRIDE_DOWN] - f[PADDING_TOP], left = b.column * step - f[PADDING_LEFT];
        uint32_t first = top * f[WIDTH] + left;
        int is_inside = is_common && top < f[HEIGHT] && top + f[KERNEL_HEIGHT] <= f[HEIGHT] && b.column >= begin;
        count = 1;
        if (f[IS_WIDE]) {
            sums->wide[i] += anywhere(layer, taps, x, top, left);
        } else if (is_inside && b.column + 4u <= end && i + 4u <= b.count) {
            inside_four(taps, x + first, step, &sums->narrow[i]);
            count = 4;
        } else if (is_inside && b.column < end) {
            inside_one(taps, x + first, &sums->narrow[i]);
        } else {
            sums->narrow[i] += (uint32_t)anywhere(layer, taps, x, top, left);
        }
        b.column += count;
        if (b.column == f[OUT_WIDTH]) {
            b.column = 0;
            b.row++;
        }
    }
}

/* The outputs of a block of channel `out`, from walks that are at its first weights. */
static void convolve_block(const layer_t *layer, weights_t *walks, uint32_t out, block_t b, const uint8_t *x, uint8_t *y) {
    const uint32_t *f = layer->field;
    uint32_t area = f[KERNEL_HEIGHT] * f[KERNEL_WIDTH], inputs = f[CHANNELS] / f[GROUPS], first = out * inputs * area;
    uint32_t width = f[SOURCE_TYPE] <= INT8 ? 1u : 2u;
    uint32_t begin = out / (f[OUT_CHANNELS] / f[GROUPS]) * inputs * f[HEIGHT] * f[WIDTH] * width;
    uint32_t place = (out * f[OUT_HEIGHT] + b.row) * f[OUT_WIDTH] + b.column;
    scale_t scale = tsn_scale(layer, out);
    sums_t sums;
    taps_t taps;
    memset(&sums, 0, sizeof sums);
    for (uint32_t walk = 0; walk < 2u; walk++) {
        cursor_t cursor = {first, 0, 0, 0};
        while (take(&taps, &walks[walk], &cursor, first + inputs * area, layer) != 0u) {
            add_taps(layer, &taps, b, x + begin, &sums);
        }
    }
    for (uint32_t i = 0; i < b.count; i++) {
        int64_t sum = f[IS_WIDE] ? sums.wide[i] : (int32_t)sums.narrow[i];
        put(y, f[TARGET_TYPE], place + i, tsn_requantized(layer, &scale, sum));
    }
}

void tsn_convolve(const layer_t *layer, const weights_t *listed, const weights_t *masked, const uint8_t *x, uint8_t *y) {
    const uint32_t *f = layer->field;
    uint32_t outputs = f[OUT_HEIGHT] * f[OUT_WIDTH];
    weights_t start[2] = {*listed, *masked}, walks[2];
    tsn_advance(&start[0]);
    tsn_advance(&start[1]);
    for (uint32_t out = 0; out < f[OUT_CHANNELS]; out++) {
        for (uint32_t i = 0; i < outputs; i += TSN_SUMS) {
            block_t block = {i / f[OUT_WIDTH], i % f[OUT_WIDTH], outputs - i < TSN_SUMS ? outputs - i : TSN_SUMS};
            walks[0] = start[0];
            walks[1] = start[1];
            convolve_block(layer, walks, out, block, x, y);
        }
        start[0] = walks[0];
        start[1] = walks[1];
    }
}
