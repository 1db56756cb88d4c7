/* Pooling and additions, see tsn_internal.h. */
#include "tsn_internal.h"

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
        uint64_t first = (uint64_t)get(a, f[SOURCE_TYPE], i) << f[SOURCE_SHIFT];
        uint64_t second = (uint64_t)get(b, f[OTHER_TYPE], i) << f[OTHER_SHIFT];
        put(y, f[TARGET_TYPE], i, tsn_requantized(layer, &scale, (int64_t)(first + second)));
    }
}
