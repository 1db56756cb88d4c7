/* Tasks that arrive later: nothing in a patch is believed before it is checked, see tsn_internal.h. */
#include "tsn_internal.h"

#define MOST (1u << 24) /* integers of a tensor */
#define MOST_WEIGHTS (1u << 28)

/* What numbers of a section must stay within. */
typedef struct {
    const tsn_net *net;
    const uint8_t *section;
    uint32_t data_end; /* bytes of the section in front of its records */
    uint32_t tensors;  /* bytes of the scratch buffer for tensors */
    uint32_t outputs;
} bounds_t;

static int is_within(uint64_t first, uint64_t size, uint64_t low, uint64_t high) {
    return first >= low && first <= high && size <= high - first;
}

/* The product of `count` numbers; 0 where one of them is 0, or it is more than `most`. */
static uint32_t product(const uint32_t *numbers, uint32_t count, uint32_t most) {
    uint64_t result = 1;
    for (uint32_t i = 0; i < count; i++) {
        result *= numbers[i]; /* both are below 2**32 */
        if (result == 0u || result > most) {
            return 0;
        }
    }
    return (uint32_t)result;
}

/* A tensor that is read, or written where it is not the input. */
static int is_tensor(const bounds_t *b, uint32_t at, uint32_t type, uint32_t count, int is_written) {
    uint32_t width = type <= INT8 ? 1u : 2u;
    if (count == 0u || type > INT16) {
        return 0;
    }
    if (at == 0u) {
        return !is_written && count == b->net->network->inputs && width == b->net->network->input_bytes;
    }
    return is_within(at - 1u, (uint64_t)count * width, 0, b->tensors);
}

static int are_tensors(const bounds_t *b, const uint32_t *f, int is_last) {
    uint32_t count = product(&f[CHANNELS], 3, MOST), outputs = product(&f[OUT_CHANNELS], 3, MOST);
    if (!is_tensor(b, f[SOURCE_AT], f[SOURCE_TYPE], count, 0) || (f[TARGET_TYPE] == INT32) != is_last) {
        return 0;
    }
    if (f[KIND] == ADD && !is_tensor(b, f[OTHER_AT], f[OTHER_TYPE], count, 0)) {
        return 0;
    }
    return is_last ? outputs == b->outputs : is_tensor(b, f[TARGET_AT], f[TARGET_TYPE], outputs, 1);
}

/* Whether a window goes `outputs` times into `inputs` with padding on both sides, and no further. */
static int is_window(uint32_t inputs, uint32_t outputs, uint32_t kernel, uint32_t stride, uint32_t padding) {
    if (kernel == 0u || stride == 0u || stride > MOST || padding > MOST || kernel > inputs + 2u * padding) {
        return 0;
    }
    return outputs == (inputs + 2u * padding - kernel) / stride + 1u;
}

static int is_geometry(const uint32_t *f) {
    int is_add = f[KIND] == ADD, is_products = f[KIND] == PRODUCTS;
    if (!is_window(f[HEIGHT], f[OUT_HEIGHT], f[KERNEL_HEIGHT], f[STRIDE_DOWN], f[PADDING_TOP]) ||
        !is_window(f[WIDTH], f[OUT_WIDTH], f[KERNEL_WIDTH], f[STRIDE_RIGHT], f[PADDING_LEFT])) {
        return 0;
    }
    if (is_products) {
        return f[GROUPS] != 0u && f[CHANNELS] % f[GROUPS] == 0u && f[OUT_CHANNELS] % f[GROUPS] == 0u;
    }
    return f[CHANNELS] == f[OUT_CHANNELS] && (f[PADDING_TOP] | f[PADDING_LEFT]) == 0u &&
           (!is_add || (f[HEIGHT] == f[OUT_HEIGHT] && f[WIDTH] == f[OUT_WIDTH]));
}

static int are_scales(const bounds_t *b, const uint32_t *f) {
    uint64_t channels = f[KIND] == ADD ? 1u : f[OUT_CHANNELS];
    if (f[KIND] == MAX_POOL) {
        return f[SCALES_AT] <= b->data_end;
    }
    return f[SHIFT] <= (f[IS_NARROW] ? 31u : 62u) && f[MULTIPLIER_BITS] <= 24u && f[ADDEND_BITS] <= 64u &&
           f[SOURCE_SHIFT] <= 62u && f[OTHER_SHIFT] <= 62u &&
           is_within(f[SCALES_AT], (channels * (f[MULTIPLIER_BITS] + f[ADDEND_BITS]) + 7u) / 8u, HEAD, b->data_end);
}

/* Whether entries of a width, and the table that their values come from, lie within [HEAD, end). `f`: of the fields from
 * VALUE_BITS on, or from BANK_VALUE_BITS on. */
static int are_words(const uint32_t *f, uint32_t count, uint32_t gap_bits, uint32_t most_code, uint32_t end) {
    uint32_t bits = f[0], bytes = f[1], table_at = f[2], words_at = f[3];
    uint64_t all = (uint64_t)count * (gap_bits + bits);
    return bits >= 1u && bits <= 16u && gap_bits <= 8u && bytes <= 2u && all <= UINT32_MAX &&
           is_within(words_at, (all + 7u) / 8u, HEAD, end) &&
           is_within(table_at, bytes == 0u ? 0u : (most_code + 1ull) * bytes, HEAD, end);
}

static int is_list(const bounds_t *b, const uint32_t *f, uint32_t places) {
    uint32_t gap_bits = f[GAP_BITS], entries = f[ENTRIES], each = gap_bits + f[VALUE_BITS], at = UINT32_MAX, most = 0;
    if (entries == 0u) {
        return (f[GAP_BITS] | f[VALUE_BITS] | f[VALUE_BYTES] | f[TABLE_AT] | f[WORDS_AT]) == 0u;
    }
    if (!are_words(&f[VALUE_BITS], entries, gap_bits, 0, b->data_end) || (gap_bits == 0u && entries != places) ||
        (gap_bits == 8u && f[VALUE_BITS] == 8u && entries % 2u != 0u)) { /* that loop takes two at a time */
        return 0;
    }
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t bits = window(b->section + f[WORDS_AT], i * each), code = low_bits(bits >> gap_bits, f[VALUE_BITS]);
        at += gap_bits == 0u ? 1u : low_bits(bits, gap_bits);
        if (at >= places) {
            return 0;
        }
        most = code > most ? code : most;
    }
    return are_words(&f[VALUE_BITS], entries, gap_bits, most, b->data_end);
}

static int is_mask(const bounds_t *b, const uint32_t *f, uint32_t places) {
    const tsn_network *network = b->net->network;
    const uint32_t *of_bank = &f[BANK_VALUE_BITS];
    uint32_t most = 0;
    if (f[PLACES] == 0u) {
        return (f[BANK_VALUE_BITS] | f[BANK_VALUE_BYTES] | f[BANK_TABLE_AT] | f[BANK_WORDS_AT] | f[MASK_AT]) == 0u;
    }
    if (f[PLACES] != places || f[BANK] < network->tasks || f[BANK] >= network->section_count ||
        !is_within(f[MASK_AT], (places + 7u) / 8u, HEAD, b->data_end)) {
        return 0;
    }
    const uint8_t *bank = network->sections[f[BANK]].data, *mask = b->section + f[MASK_AT];
    uint32_t end = read32(bank + RECORDS_AT);
    if (read32(bank + CRC_AT) != read32(b->section + BANK_CRC_AT) || !are_words(of_bank, places, 0, 0, end) ||
        (places % 8u != 0u && mask[places / 8u] >> places % 8u != 0)) {
        return 0;
    }
    for (uint32_t i = 0; i < places; i++) {
        uint32_t code = low_bits(window(bank + f[BANK_WORDS_AT], i * f[BANK_VALUE_BITS]), f[BANK_VALUE_BITS]);
        most = (mask[i / 8u] >> i % 8u & 1) != 0 && code > most ? code : most;
    }
    return are_words(of_bank, places, 0, most, end);
}

static tsn_status check_layer(const bounds_t *b, const layer_t *layer, int is_last) {
    const uint32_t *f = layer->field;
    if (f[KIND] > ADD) {
        return TSN_BAD_LAYER;
    }
    if (!are_tensors(b, f, is_last) || !is_geometry(f) || !are_scales(b, f)) {
        return TSN_BAD_RECORD;
    }
    if (f[KIND] == PRODUCTS) {
        uint32_t shape[4] = {f[OUT_CHANNELS], f[CHANNELS] / f[GROUPS], f[KERNEL_HEIGHT], f[KERNEL_WIDTH]};
        uint32_t places = product(shape, 4, MOST_WEIGHTS);
        return places != 0u && is_list(b, f, places) && is_mask(b, f, places) ? TSN_OK : TSN_BAD_RECORD;
    }
    return TSN_OK;
}

/* Whether two texts that end with 0 stand in the data from `at` on. */
static int are_texts(const bounds_t *b, uint32_t at) {
    uint32_t ends = 0;
    for (; at >= HEAD && at < b->data_end && ends < 2u; at++) {
        ends += b->section[at] == 0u;
    }
    return ends == 2u;
}

/* Whether the bank whose words a section reads is there. */
static int is_known_bank(const tsn_network *network, uint32_t crc) {
    for (uint32_t i = network->tasks; i < network->section_count; i++) {
        if (read32(network->sections[i].data + CRC_AT) == crc) {
            return 1;
        }
    }
    return crc == 0u;
}

static tsn_status check_task(const tsn_net *net, const tsn_section *section) {
    const uint8_t *data = section->data, *record, *end = data + section->size - BEHIND;
    uint32_t layers = read32(data + LAYERS_AT);
    bounds_t b = {net, data, read32(data + RECORDS_AT), read32(data + TENSORS_AT), read32(data + OUTPUTS_AT)};
    if (!is_within(b.data_end, BEHIND, HEAD, section->size) || !are_texts(&b, read32(data + NAME_AT)) || layers == 0u ||
        b.outputs == 0u || b.tensors % 4u != 0u) {
        return TSN_BAD_RECORD;
    }
    if (b.outputs > net->network->most_logits) {
        return TSN_NO_ROOM;
    }
    if ((uint64_t)b.tensors + 4ull * b.outputs > net->scratch_bytes) {
        return TSN_NO_SCRATCH;
    }
    record = data + b.data_end;
    for (uint32_t i = 0; i < layers; i++) {
        layer_t layer;
        record = tsn_read_layer(section, record, &layer);
        tsn_status status = record == 0 ? TSN_BAD_RECORD : check_layer(&b, &layer, i + 1u == layers);
        if (status != TSN_OK) {
            return status;
        }
    }
    return record == end ? TSN_OK : TSN_BAD_RECORD;
}

static int is_same(const uint8_t *a, const uint8_t *b) { return read32(a) == read32(b) && read32(a + 4) == read32(b + 4); }

tsn_status tsn_add_task(tsn_net *net, const void *patch, uint32_t size) {
    const uint8_t *data = (const uint8_t *)patch, *last = tsn_task_section(net, tsn_task_count(net) - 1u)->data;
    uint32_t added = net->added;
    do {
        tsn_section section = {data, size};
        if (size >= HEAD && read32(data + SIZE_AT) < size) {
            section.size = read32(data + SIZE_AT); /* another one follows */
        }
        tsn_status status = tsn_check_section(&section);
        if (status == TSN_OK && (!is_same(data + BEFORE_AT, last + AFTER_AT) ||
                                 !is_known_bank(net->network, read32(data + BANK_CRC_AT)))) {
            status = TSN_FOREIGN;
        }
        if (status == TSN_OK && added == net->room_count) {
            status = TSN_NO_ROOM;
        }
        status = status == TSN_OK ? check_task(net, &section) : status;
        if (status != TSN_OK) {
            return status;
        }
        net->room[added++] = section;
        last = data;
        data += section.size;
        size -= section.size;
    } while (size != 0u);
    net->added = added;
    return TSN_OK;
}
