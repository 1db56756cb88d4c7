/* For tests: adds the patches of patches.h, of which one of a single byte is the end, runs all inputs of the file "inputs",
 * each behind the number of its task, and writes the integers of every layer, then a tsn_status, as int32_t to the file
 * "integers". All numbers have this machine's order. */
#include <stdint.h>
#include <stdio.h>

#include "patches.h"
#include "tsn_net.h"

static tsn_section room[64];
static uint32_t scratch[TSN_SCRATCH_WORDS];
static tsn_input input[TSN_INPUTS];
static int32_t logits[TSN_MOST_LOGITS];

static void write_layer(void *context, uint32_t layer, const void *values, uint32_t count, uint32_t type) {
    FILE *file = (FILE *)context;
    (void)layer;
    for (uint32_t i = 0; i < count; i++) {
        int32_t value = tsn_element(values, type, i);
        fwrite(&value, sizeof value, 1, file);
    }
}

int main(void) {
    tsn_net net;
    uint32_t task;
    int32_t status = (int32_t)tsn_init(&net, &tsn_constants, scratch, sizeof scratch);
    FILE *inputs = fopen("inputs", "rb"), *integers = fopen("integers", "wb");
    if (inputs == NULL || integers == NULL) {
        return 1;
    }
    tsn_give_room(&net, room, sizeof room / sizeof room[0]);
    for (uint32_t i = 0; status == TSN_OK && patches[i].size > 1u; i++) {
        status = (int32_t)tsn_add_task(&net, patches[i].data, patches[i].size);
    }
    while (status == TSN_OK && fread(&task, sizeof task, 1, inputs) == 1 && fread(input, sizeof input, 1, inputs) == 1) {
        status = (int32_t)tsn_observe(&net, task, input, logits, write_layer, integers);
    }
    fwrite(&status, sizeof status, 1, integers);
    fclose(inputs);
    return fclose(integers) != 0;
}
