/* For tests on the host: dump TASK INPUTS INTEGERS runs a task on all inputs of a file, tsn_input after tsn_input, and
 * writes the integers of every layer as int32_t to another. Its exit code is the negative status of the first error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tsn_net.h"

static uint32_t scratch[TSN_SCRATCH_WORDS];

static void write_layer(void *context, uint32_t layer, const void *values, uint32_t count, uint32_t type) {
    FILE *file = (FILE *)context;
    (void)layer;
    for (uint32_t i = 0; i < count; i++) {
        int32_t value = tsn_element(values, type, i);
        fwrite(&value, sizeof value, 1, file);
    }
}

int main(int argc, char **argv) {
    tsn_net net;
    tsn_input input[TSN_INPUTS];
    int32_t logits[TSN_MOST_LOGITS];
    FILE *inputs = argc == 4 ? fopen(argv[2], "rb") : NULL, *integers = argc == 4 ? fopen(argv[3], "wb") : NULL;
    tsn_status status = tsn_init(&net, &tsn_constants, scratch, sizeof scratch);
    if (inputs == NULL || integers == NULL) {
        return 100;
    }
    while (status == TSN_OK && fread(input, sizeof input, 1, inputs) == 1) {
        status = tsn_observe(&net, (uint32_t)atoi(argv[1]), input, logits, write_layer, integers);
    }
    fclose(inputs);
    return fclose(integers) != 0 ? 100 : -(int)status;
}
