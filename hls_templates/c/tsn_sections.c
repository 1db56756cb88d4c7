/* Sections: heads, CRC-32 and records, see tsn_internal.h. */
#include "tsn_internal.h"

static uint64_t read_varint(const uint8_t **p, const uint8_t *end) {
    uint64_t value = 0;
    uint32_t shift = 0;
    uint8_t byte = 0x80u;
    while ((byte & 0x80u) != 0u && *p < end && shift < 64u) {
        byte = *(*p)++;
        value |= (uint64_t)(byte & 0x7Fu) << shift;
        shift += 7u;
    }
    return value;
}

/* 0 1 2 3 ... are 0 -1 1 -2 ... */
static uint64_t signed_of(uint64_t value) { return value >> 1 ^ (0u - (value & 1u)); }

void tsn_prepare(layer_t *layer) {
    const uint32_t *f = layer->field;
    layer->multipliers = ones(f[MULTIPLIER_BITS] & 31u);
    layer->addends = ones(f[ADDEND_BITS] & 31u);
    layer->rounds = f[SHIFT] != 0u;
    layer->below_half = ones((f[SHIFT] - layer->rounds) & 31u);
    layer->is_common = f[IS_NARROW] != 0u && f[ADDEND_BITS] <= 24u && f[TARGET_TYPE] == UINT8 && f[TARGET_BITS] == 8u;
}

const uint8_t *tsn_read_layer(const tsn_section *section, const uint8_t *p, layer_t *layer) {
    const uint8_t *end = section->data + section->size - BEHIND;
    for (uint32_t i = 0; i < FIELDS; i++) {
        if (p < end && *p < 0x80u) { /* nearly always */
            layer->field[i] = *p++;
            continue;
        }
        uint64_t value = read_varint(&p, end);
        if (value > UINT32_MAX) {
            return 0;
        }
        layer->field[i] = (uint32_t)value;
    }
    layer->multiplier = (uint32_t)signed_of(read_varint(&p, end));
    if (p == end) {
        return 0;
    }
    layer->addend = signed_of(read_varint(&p, end));
    uint32_t type = layer->field[TARGET_TYPE], bits = layer->field[TARGET_BITS];
    if (type > INT32 || bits == 0u || bits > (type == INT32 ? 32u : type >= UINT16 ? 16u : 8u)) {
        return 0;
    }
    layer->low = type == INT32 ? INT32_MIN : (type & 1u) != 0u ? -(1 << (bits - 1u)) : 0;
    layer->high = type == INT32 ? INT32_MAX : layer->low + (1 << bits) - 1;
    tsn_prepare(layer);
    return p;
}

uint32_t tsn_crc_byte(uint32_t crc, uint32_t byte) {
    crc ^= byte & 0xFFu;
    for (uint32_t bit = 0; bit < 8u; bit++) {
        crc = crc >> 1 ^ ((crc & 1u) ? 0xEDB88320u : 0u);
    }
    return crc;
}

tsn_status tsn_check_head(const tsn_section *section) {
    if (section->size < HEAD || read32(section->data + SIZE_AT) != section->size) {
        return TSN_BAD_SIZE;
    }
    if (read32(section->data) != MAGIC) {
        return TSN_BAD_MAGIC;
    }
    return read32(section->data + VERSION_AT) == TSN_VERSION ? TSN_OK : TSN_BAD_VERSION;
}

tsn_status tsn_check_section(const tsn_section *section) {
    tsn_status status = tsn_check_head(section);
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = VERSION_AT; status == TSN_OK && i < section->size; i++) {
        crc = tsn_crc_byte(crc, section->data[i]);
    }
    return status != TSN_OK || ~crc == read32(section->data + CRC_AT) ? status : TSN_BAD_CRC;
}
