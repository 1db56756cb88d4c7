// Tests the network on the board, then classifies the golden inputs.
#include <tsn_net.h>

#include <golden.h>

static uint32_t scratch[TSN_SCRATCH_WORDS];

void setup() {
    Serial.begin(115200);
    tsn_net net;
    tsn_status status = tsn_init(&net, &tsn_constants, scratch, sizeof scratch);
    if (status == TSN_OK) {
        status = tsn_self_test(&net, tsn_goldens, TSN_GOLDENS);
    }
    if (status != TSN_OK) {
        Serial.print("FAIL: status ");
        Serial.println((int)status);
        return;
    }
    for (uint32_t i = 0; i < TSN_GOLDENS; i++) {
        Serial.print(tsn_task_name(&net, tsn_goldens[i].task));
        Serial.print(": class ");
        Serial.println((int)tsn_classify(&net, tsn_goldens[i].task, tsn_goldens[i].input));
    }
    Serial.println("PASS");
}

void loop() {}
