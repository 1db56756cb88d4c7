/* mutate_patch PATCH COUNT SEED REPAIRED: adds COUNT mutations of a patch to the network beside it. Where REPAIRED is 1,
 * sizes and CRC-32 are made right again after a mutation, so that only the checks of its numbers stand in its way; what is
 * added nevertheless runs. Prints how many mutations were unchanged, refused and added. Every buffer is exactly as large
 * as it must be, for sanitizers to see who leaves it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tsn_net.h"

static uint64_t state;

static uint32_t random_below(uint32_t count) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % count);
}

static uint32_t read32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void write32(uint8_t *p, uint32_t value) {
    for (uint32_t i = 0; i < 4; i++) {
        p[i] = (uint8_t)(value >> 8u * i);
    }
}

/* A byte of the first section: of its head, its data or its records. */
static uint32_t a_place(const uint8_t *data, uint32_t size) {
    uint32_t records = read32(data + 16), which = random_below(4);
    if (which == 0 || records >= size) {
        return random_below(size);
    }
    return which == 1 ? 12 + random_below(44) : records + random_below(size - records);
}

static uint32_t mutate(uint8_t *data, uint32_t size) {
    static const uint32_t ends[] = {0, 1, 2, 3, 4, 7, 8, 15, 16, 24, 31, 32, 62, 63, 64, 127, 255, 256, 65535, 65536,
                                    1u << 24, 1u << 28, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu};
    uint32_t place = a_place(data, size), other = a_place(data, size), some = 1 + random_below(8);
    switch (random_below(7)) {
    case 0: data[place] ^= (uint8_t)(1u << random_below(8)); return size;
    case 1: data[place] = (uint8_t)random_below(256); return size;
    case 2: data[place] = (uint8_t)(data[place] + (random_below(2) ? 1 : 255)); return size;
    case 3: data[place] = data[other]; return size;
    case 4: /* a number at an end of its range, as the head or a record would have it */
        if (place < 56 && place + 4 <= size) {
            write32(data + place / 4 * 4, ends[random_below(sizeof ends / sizeof ends[0])]);
        } else {
            for (uint32_t value = ends[random_below(sizeof ends / sizeof ends[0])]; place < size; value >>= 7) {
                data[place++] = (uint8_t)(value < 128 ? value : value | 128);
                if (value < 128) {
                    break;
                }
            }
        }
        return size;
    case 5: /* bytes are gone */
        some = some < size - place ? some : size - place;
        memmove(data + place, data + place + some, size - place - some);
        return size - some;
    default: /* bytes are there twice */
        some = some < size - place ? some : size - place;
        memmove(data + place + some, data + place, size - place);
        return size + some;
    }
}

static void repair(uint8_t *data, uint32_t size) {
    while (size >= 56) {
        uint32_t own = read32(data + 4), crc = 0xFFFFFFFFu;
        own = own < 56 || own > size || random_below(2) ? size : own;
        write32(data + 4, own);
        for (uint32_t i = 12; i < own; i++) {
            crc ^= data[i];
            for (uint32_t bit = 0; bit < 8; bit++) {
                crc = crc >> 1 ^ ((crc & 1u) ? 0xEDB88320u : 0u);
            }
        }
        write32(data + 8, ~crc);
        data += own;
        size -= own;
    }
}

static uint8_t *read_file(const char *path, uint32_t *size) {
    FILE *file = fopen(path, "rb");
    uint8_t *data = (uint8_t *)malloc(1 << 20);
    if (file == NULL || data == NULL) {
        exit(100);
    }
    *size = (uint32_t)fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

static void run_all(const tsn_net *net, tsn_input *input) {
    int32_t *logits = (int32_t *)malloc(TSN_MOST_LOGITS * sizeof *logits);
    for (uint32_t task = 0; task < tsn_task_count(net); task++) {
        for (uint32_t i = 0; i < TSN_INPUTS; i++) {
            input[i] = (tsn_input)random_below(65536);
        }
        if (tsn_run(net, task, input, logits) != TSN_OK || tsn_classify(net, task, input) < 0 ||
            strlen(tsn_task_name(net, task)) > 1u << 20) {
            exit(101); /* what was added must run */
        }
    }
    if (tsn_self_test(net, NULL, 0) != TSN_OK || strlen(tsn_digest(net)) > 1u << 20) {
        exit(101);
    }
    free(logits);
}

int main(int argc, char **argv) {
    uint32_t size, unchanged = 0, refused = 0, added = 0, count = argc == 5 ? (uint32_t)atoi(argv[2]) : 0;
    uint8_t *patch = read_file(argc == 5 ? argv[1] : "", &size), *scratch = (uint8_t *)malloc(TSN_SCRATCH_BYTES);
    tsn_input *input = (tsn_input *)malloc(TSN_INPUTS * sizeof *input);
    tsn_section *room = (tsn_section *)malloc(16 * sizeof *room);
    tsn_net net;
    state = (uint64_t)atoi(argv[3]);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *work = (uint8_t *)malloc(size + 64);
        uint32_t length = size;
        memcpy(work, patch, size);
        for (uint32_t changes = 1 + random_below(3); changes > 0 && length >= 64; changes--) {
            length = mutate(work, length);
            length = length > size + 32 ? size + 32 : length;
        }
        if (atoi(argv[4])) {
            repair(work, length);
        }
        uint8_t *exact = (uint8_t *)malloc(length);
        memcpy(exact, work, length);
        free(work);
        memset(scratch, 0, TSN_SCRATCH_BYTES);
        if (tsn_init(&net, &tsn_constants, scratch, TSN_SCRATCH_BYTES) != TSN_OK) {
            return 102;
        }
        tsn_give_room(&net, room, 16);
        tsn_status status = tsn_add_task(&net, exact, length);
        if (length == size && memcmp(exact, patch, size) == 0) {
            unchanged++;
        } else if (status == TSN_OK) {
            added++;
        } else {
            refused++;
        }
        if ((status == TSN_OK) != (net.added != 0)) {
            return 103; /* all or none */
        }
        run_all(&net, input);
        free(exact);
    }
    free(patch);
    free(scratch);
    free(input);
    free(room);
    printf("%u unchanged, %u refused, %u added\n", (unsigned)unchanged, (unsigned)refused, (unsigned)added);
    return 0;
}
