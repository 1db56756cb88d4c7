/* Example: tests itself, then classifies the golden inputs. Build it with the Makefile. */
#include <stdio.h>

#include "golden.h"
#include "tsn_net.h"

static uint32_t scratch[TSN_SCRATCH_WORDS];

int main(void) {
    tsn_net net;
    tsn_status status = tsn_init(&net, &tsn_constants, scratch, sizeof scratch);
    if (status == TSN_OK) {
        status = tsn_self_test(&net, tsn_goldens, TSN_GOLDENS);
    }
    if (status != TSN_OK) {
        printf("FAIL: status %d\n", (int)status);
        return 1;
    }
    for (uint32_t i = 0; i < TSN_GOLDENS; i++) {
        int32_t best = tsn_classify(&net, tsn_goldens[i].task, tsn_goldens[i].input);
        printf("%s: class %d\n", tsn_task_name(&net, tsn_goldens[i].task), (int)best);
    }
    printf("PASS: %u tasks, %u golden inputs\n", (unsigned)tsn_task_count(&net), (unsigned)TSN_GOLDENS);
    return 0;
}
