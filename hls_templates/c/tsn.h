/* Inference of a packed network of several tasks: C99, integers only, no heap, no recursion, no library.
 *
 * A network is constant data (tsn_net.h, tsn_net.c): sections of bytes, one a task and one a shared weight memory, the
 * same on every machine. Tasks may arrive later, as further sections somewhere in flash. All state is in a tsn_net and in
 * a scratch buffer, which the caller owns: networks run beside one another, in threads and interrupts too, as long as
 * each has its own.
 */
#ifndef TSN_H
#define TSN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TSN_VERSION 1u /* of this runtime and of the sections that it reads */

typedef enum {
    TSN_OK = 0,
    TSN_NO_TASK = -1,       /* there is no task of that number */
    TSN_NO_SCRATCH = -2,    /* the scratch buffer is absent, too small or not aligned to 4 bytes */
    TSN_BAD_MAGIC = -3,     /* a section does not begin as it must */
    TSN_BAD_VERSION = -4,   /* a section of another version of this runtime */
    TSN_BAD_SIZE = -5,      /* a section is shorter or longer than it says */
    TSN_BAD_CRC = -6,       /* a section has another CRC-32 than it says */
    TSN_BAD_LAYER = -7,     /* a layer that this runtime does not compute */
    TSN_BAD_GOLDEN = -8,    /* golden data has another CRC-32 than it says */
    TSN_WRONG_LOGITS = -9,  /* logits differ from the golden ones */
    TSN_NO_ROOM = -10,      /* no room for another task, or for as many logits as it has */
    TSN_FOREIGN = -11,      /* a task for another network than this one with the tasks that it has now */
    TSN_BAD_RECORD = -12    /* a number in a section that no network has */
} tsn_status;

typedef struct {
    const uint8_t *data;
    uint32_t size;
} tsn_section;

/* The constants of a network. Tasks come first in `sections`, shared weight memories behind them. */
typedef struct {
    const tsn_section *sections;
    uint32_t tasks, section_count;
    uint32_t inputs;        /* integers of an input, channels first */
    uint32_t input_bytes;   /* of one of them */
    uint32_t scratch_bytes; /* that all tasks need at most */
    uint32_t most_logits;   /* that all tasks have at most, those that are added too */
} tsn_network;

/* One input of a task with its logits, and the CRC-32 of both: every integer with its lowest byte first. */
typedef struct {
    uint32_t task;
    const void *input;
    const int32_t *logits;
    uint32_t outputs, crc;
} tsn_golden;

typedef struct {
    const tsn_network *network;
    uint8_t *scratch;
    uint32_t scratch_bytes;
    tsn_section *room; /* for tasks that are added */
    uint32_t room_count, added;
} tsn_net;

/* Take a network and a scratch buffer of at least network->scratch_bytes into use; checks the heads of all sections. */
tsn_status tsn_init(tsn_net *net, const tsn_network *network, void *scratch, uint32_t scratch_bytes);

/* Room for `count` tasks that arrive later, and none of them yet. The array must stay as long as the network is used. */
void tsn_give_room(tsn_net *net, tsn_section *room, uint32_t count);

/* Add the tasks of a patch of 'tsn-hw c --patch', behind those that are there: all of them or, where anything is wrong,
 * none. Nothing of the patch is believed before it is checked, and no number in it leads out of bounds later. It is read
 * where it lies, in flash or elsewhere, at any address, and must stay there. */
tsn_status tsn_add_task(tsn_net *net, const void *patch, uint32_t size);

/* The logits of a task: tsn_logit_count of them. `input`: integers of network->input_bytes, of this machine's order. */
tsn_status tsn_run(const tsn_net *net, uint32_t task, const void *input, int32_t *logits);

/* The class of the largest logit, the first one of several; a negative tsn_status where there is none. */
int32_t tsn_classify(const tsn_net *net, uint32_t task, const void *input);

/* Called behind every layer with its number in the .tsn and its integers, of a type that tsn_element reads. */
typedef void (*tsn_observer)(void *context, uint32_t layer, const void *values, uint32_t count, uint32_t type);

/* One of the integers that an observer sees. */
int32_t tsn_element(const void *values, uint32_t type, uint32_t i);

/* tsn_run that shows every layer: for tests. */
tsn_status tsn_observe(
    const tsn_net *net, uint32_t task, const void *input, int32_t *logits, tsn_observer observer, void *context);

uint32_t tsn_task_count(const tsn_net *net);                   /* with those that were added */
const char *tsn_task_name(const tsn_net *net, uint32_t task);  /* NULL where there is no such task */
uint32_t tsn_logit_count(const tsn_net *net, uint32_t task);   /* 0 where there is no such task */
const char *tsn_digest(const tsn_net *net);                    /* SHA-256 of the .tsn with all tasks, hexadecimal */
uint32_t tsn_version(void);

/* CRC-32 of every section, then every golden input: TSN_OK, or the first fault. */
tsn_status tsn_self_test(const tsn_net *net, const tsn_golden *golden, uint32_t count);

#ifdef __cplusplus
}
#endif
#endif
