/* What tsn.h promises. */
#include "tsn_internal.h"

static const uint8_t *tensor(const tsn_net *net, const void *input, uint32_t at) {
    return at == 0u ? (const uint8_t *)input : net->scratch + (at - 1u);
}

static tsn_status run_layer(const tsn_net *net, const uint8_t *section, const layer_t *layer, const void *input, uint8_t *y) {
    const uint32_t *f = layer->field;
    const uint8_t *x = tensor(net, input, f[SOURCE_AT]);
    if (f[KIND] == PRODUCTS) {
        weights_t listed = tsn_listed(section, layer), masked = tsn_masked(net, section, layer);
        if (is_linear(f)) {
            tsn_linear(layer, &listed, &masked, x, y);
        } else {
            tsn_convolve(layer, &listed, &masked, x, y);
        }
    } else if (f[KIND] == MAX_POOL || f[KIND] == AVERAGE_POOL) {
        tsn_pool(layer, x, y);
    } else if (f[KIND] == ADD) {
        tsn_add(layer, x, tensor(net, input, f[OTHER_AT]), y);
    } else {
        return TSN_BAD_LAYER;
    }
    return TSN_OK;
}

const tsn_section *tsn_task_section(const tsn_net *net, uint32_t task) {
    uint32_t own = net->network->tasks;
    return task < own ? &net->network->sections[task] : task - own < net->added ? &net->room[task - own] : 0;
}

void tsn_give_room(tsn_net *net, tsn_section *room, uint32_t count) {
    net->room = room;
    net->room_count = count;
    net->added = 0;
}

tsn_status tsn_init(tsn_net *net, const tsn_network *network, void *scratch, uint32_t scratch_bytes) {
    if (scratch == 0 || ((uintptr_t)scratch & 3u) != 0u || scratch_bytes < network->scratch_bytes) {
        return TSN_NO_SCRATCH;
    }
    net->network = network;
    net->scratch = (uint8_t *)scratch;
    net->scratch_bytes = scratch_bytes;
    tsn_give_room(net, 0, 0);
    for (uint32_t i = 0; i < network->section_count; i++) {
        tsn_status status = tsn_check_head(&network->sections[i]);
        if (status != TSN_OK) {
            return status;
        }
    }
    return TSN_OK;
}

int32_t tsn_element(const void *values, uint32_t type, uint32_t i) {
    return type == INT32 ? ((const int32_t *)values)[i] : get((const uint8_t *)values, type, i);
}

tsn_status tsn_observe(
    const tsn_net *net, uint32_t task, const void *input, int32_t *logits, tsn_observer observer, void *context) {
    const tsn_section *found = tsn_task_section(net, task);
    if (found == 0) {
        return TSN_NO_TASK;
    }
    const uint8_t *section = found->data, *record = section + read32(section + RECORDS_AT);
    for (uint32_t i = 0, layers = read32(section + LAYERS_AT); i < layers; i++) {
        layer_t layer;
        record = tsn_read_layer(found, record, &layer);
        if (record == 0) {
            return TSN_BAD_RECORD;
        }
        layer.scales = section + layer.field[SCALES_AT];
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

/* Logits stand behind the tensors of a task in the scratch buffer where the caller gives no room for them. */
static int32_t *own_logits(const tsn_net *net, uint32_t task) {
    const tsn_section *section = tsn_task_section(net, task);
    return (int32_t *)(void *)(net->scratch + (section == 0 ? 0u : read32(section->data + TENSORS_AT)));
}

int32_t tsn_classify(const tsn_net *net, uint32_t task, const void *input) {
    int32_t *logits = own_logits(net, task), best = 0;
    tsn_status status = tsn_run(net, task, input, logits);
    if (status != TSN_OK) {
        return (int32_t)status;
    }
    for (uint32_t i = 1; i < tsn_logit_count(net, task); i++) {
        best = logits[i] > logits[best] ? (int32_t)i : best;
    }
    return best;
}

uint32_t tsn_task_count(const tsn_net *net) { return net->network->tasks + net->added; }

const char *tsn_task_name(const tsn_net *net, uint32_t task) {
    const tsn_section *section = tsn_task_section(net, task);
    return section == 0 ? 0 : (const char *)(section->data + read32(section->data + NAME_AT));
}

uint32_t tsn_logit_count(const tsn_net *net, uint32_t task) {
    const tsn_section *section = tsn_task_section(net, task);
    return section == 0 ? 0 : read32(section->data + OUTPUTS_AT);
}

const char *tsn_digest(const tsn_net *net) {
    const char *name = tsn_task_name(net, tsn_task_count(net) - 1u);
    while (*name++ != 0) {
    }
    return name;
}

uint32_t tsn_version(void) { return TSN_VERSION; }

static tsn_status check_golden(const tsn_net *net, const tsn_golden *golden) {
    const uint8_t *input = (const uint8_t *)golden->input;
    uint32_t crc = 0xFFFFFFFFu, type = net->network->input_bytes == 1u ? UINT8 : UINT16;
    for (uint32_t i = 0; i < net->network->inputs; i++) {
        uint32_t value = (uint32_t)get(input, type, i);
        crc = tsn_crc_byte(crc, value);
        crc = type == UINT8 ? crc : tsn_crc_byte(crc, value >> 8);
    }
    for (uint32_t i = 0; i < 4u * golden->outputs; i++) {
        crc = tsn_crc_byte(crc, (uint32_t)golden->logits[i / 4u] >> (i % 4u * 8u));
    }
    return ~crc == golden->crc ? TSN_OK : TSN_BAD_GOLDEN;
}

tsn_status tsn_self_test(const tsn_net *net, const tsn_golden *golden, uint32_t count) {
    uint32_t own = net->network->section_count;
    for (uint32_t i = 0; i < own + net->added; i++) {
        tsn_status status = tsn_check_section(i < own ? &net->network->sections[i] : &net->room[i - own]);
        if (status != TSN_OK) {
            return status;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        int32_t *logits = own_logits(net, golden[i].task);
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
