// What a call may do: commands, status codes, and what has been loaded. docs/hls.md has the same as a table.
#ifndef TSN_CONTROL_HPP
#define TSN_CONTROL_HPP

#include "types.hpp"

namespace tsn {

enum command { RUN, LOAD, RUN_TASKS };
const unsigned CLASSES = 0x80;  // with RUN and RUN_TASKS: the class of an inference, not its logits
enum status { DONE, UNKNOWN_TASK, NOT_LOADED, UNKNOWN_COMMAND, BAD_PACKET, REFUSED_HEADERS };

// In place of a task: LOAD what lies in UltraRAM, once, for all tasks.
const unsigned ALL_TASKS = 0xFFFF;

// The first beat of a load: what it is for, and how many beats it has.
inline limb_t load_head(unsigned task, unsigned beats) { return task | limb_t(beats) << 32; }

// What load packets have brought so far.
struct loaded {
    bool has_all, has_task;
    unsigned task;
};

// Whether a call can be carried out. T: MAX_TASKS, and which of the two loads the accelerator knows.
template <class T>
status check(unsigned command, unsigned task, bool is_known, const loaded &now) {
#pragma HLS INLINE
    if (command == LOAD && (T::LOADS_ALL || T::LOADS_TASK)) {
        const bool is_loadable = task == ALL_TASKS ? T::LOADS_ALL : T::LOADS_TASK && task < T::MAX_TASKS && is_known;
        return is_loadable ? DONE : UNKNOWN_TASK;
    }
    const unsigned run = command & ~CLASSES;
    if (run != RUN && run != RUN_TASKS) return UNKNOWN_COMMAND;
    if (run == RUN && (task >= T::MAX_TASKS || !is_known)) return UNKNOWN_TASK;
    if (T::LOADS_ALL && !now.has_all) return NOT_LOADED;
    if (T::LOADS_TASK && !(now.has_task && (now.task == task || run == RUN_TASKS))) return NOT_LOADED;
    return DONE;
}

// What has been loaded after a load. One that was refused may have written anywhere: nothing is loaded any more.
inline void note(loaded &now, unsigned task, bool is_accepted) {
#pragma HLS INLINE
    now.has_all = is_accepted && (now.has_all || task == ALL_TASKS);
    now.has_task = is_accepted && (now.has_task || task != ALL_TASKS);
    if (task != ALL_TASKS) now.task = task;
}

}  // namespace tsn

#endif
