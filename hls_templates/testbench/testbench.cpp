// Self-checking test bench: everything in golden.dat goes through the accelerator, and every integer is compared.
//
//     testbench golden.dat [--rtl] [--dump FILE] [--flip LAYER.MEMORY:LINE:BIT]
//
// Compared are the integers behind every unit, the checksums of all memories, the raw accumulators of unit vectors, the
// answers to calls that must be refused, and the cycles of every unit. --dump writes the integers that were computed:
// int32, call by call and unit by unit. --flip plants a fault: one bit of one memory. --rtl is for co-simulation, where
// only what comes out of the accelerator can be seen: logits and status. Exit code 0: all is equal.
#include <cstdarg>
#include <exception>

#include "accelerator.hpp"
#include "golden.hpp"
#include "tsn/control.hpp"
#include "tsn/load.hpp"
#include "tsn/simulation.hpp"

namespace {

using tsn::simulation::memory;

const char *const KINDS[] = {"words", "codebook", "mask", "scales", "task"};
const int MAX_TOLD = 10;

// The checksum that zlib computes of the integers' little-endian bytes.
template <class NUMBER>
uint32_t checksum(const NUMBER *values, std::size_t count) {
    static uint32_t table[256];
    for (uint32_t i = 0; table[255] == 0 && i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320U : 0);
    }
    uint32_t sum = ~0U;
    for (std::size_t i = 0; i < count; i++) {
        for (int low = 0; low < 64; low += 8) sum = sum >> 8 ^ table[(sum ^ uint64_t(values[i]) >> low) & 0xFF];
    }
    return ~sum;
}

// One bit of one memory that is flipped.
struct fault {
    std::string memory;
    unsigned line, bit;

    explicit fault(const std::string &text) {
        const std::size_t second = text.rfind(':'), first = second == 0 ? second : text.rfind(':', second - 1);
        if (first == std::string::npos || second == first) throw std::runtime_error("--flip " + text + ": no fault");
        memory = text.substr(0, first);
        line = std::stoul(text.substr(first + 1, second - first - 1));
        bit = std::stoul(text.substr(second + 1));
    }
};

class testbench {
    const golden::data &golden;
    const bool is_rtl;
    const std::vector<fault> &faults;
    const std::vector<memory> memories;
    std::FILE *const dump;
    uint32_t loaded_task;
    uint64_t wrong, integers, checksums, probes;

    // What is wrong, as printf takes it.
    void fail(const char *format, ...) {
        if (wrong++ >= MAX_TOLD) return;
        std::va_list values;
        va_start(values, format);
        std::printf("FAIL ");
        std::vprintf(format, values);
        std::printf("\n");
        va_end(values);
    }

    std::string name_of(const memory &which) const {
        return golden.units.at(which.unit).name + "." + KINDS[which.kind];
    }

    void plant_faults(bool is_loaded) {
        for (const fault &each : faults) {
            bool is_there = false;
            for (const memory &which : memories) {
                if (name_of(which) != each.memory) continue;
                is_there = each.line < which.lines && each.bit / 64 < which.limbs;
                if (!is_there || which.is_loaded != is_loaded) continue;
                which.write(each.line, each.bit / 64, which.read(each.line, each.bit / 64) ^ 1ULL << each.bit % 64);
            }
            if (!is_there) throw std::runtime_error("--flip " + each.memory + ": no such memory, line or bit");
        }
    }

    // One call of the accelerator. What is refused must be neither read nor answered.
    uint32_t call(uint32_t command, uint32_t task, uint32_t count, const uint64_t *first, std::size_t beats,
                  hls::stream<tsn::axis32> &logits) {
        const uint32_t beats_of_input = golden.beats_of_input(), rest = golden.elements * golden.container_bytes % 8;
        hls::stream<tsn::axis64> in("s_axis");
        for (std::size_t i = 0; i < beats; i++) {
            const bool is_partial = command == tsn::RUN && rest != 0 && i % beats_of_input == beats_of_input - 1;
            tsn::axis64 beat;
            beat.data = first[i];
            beat.keep = is_partial ? (1U << rest) - 1 : 0xFFU;
            beat.strb = beat.keep;
            beat.last = i == beats - 1;
            in.write(beat);
        }
        ap_uint<32> status = 0, network = 0, design = 0;
        tsn_accelerator(in, logits, task, count, command, status, network, design);
        if (status != tsn::DONE && status != tsn::BAD_PACKET) {
            if (in.size() != beats || !logits.empty()) fail("a call that is refused reads or writes");
            while (!in.empty()) in.read();
        }
        return status.to_uint();
    }

    void load(uint32_t task) {
        for (const golden::load &each : golden.loads) {
            if (each.task != task || loaded_task == task) continue;
            hls::stream<tsn::axis32> nothing("m_axis");
            const uint32_t beats = each.packets.size();
            const uint32_t status = call(tsn::LOAD, task, beats, each.packets.data(), beats, nothing);
            if (status != tsn::DONE) fail("load of task %u: status %u", task, status);
            plant_faults(true);
            loaded_task = task;
        }
    }

    void check_images(uint32_t task) {
        for (const golden::image &image : golden.images) {
            if (image.task != task) continue;
            for (const memory &which : memories) {
                if (which.unit != int(image.unit) || which.kind != int(image.kind)) continue;
                std::vector<uint64_t> limbs;
                for (unsigned line = 0; line < which.lines; line++) {
                    for (unsigned limb = 0; limb < which.limbs; limb++) limbs.push_back(which.read(line, limb));
                }
                if (checksum(limbs.data(), limbs.size()) != image.checksum) {
                    fail("memory %s: another checksum", name_of(which).c_str());
                }
                checksums++;
            }
        }
    }

    void check_probes(uint32_t task) {
        for (const golden::probe &probe : golden.probes) {
            if (probe.task != task) continue;
            std::vector<long long> accumulators;
            tsn::simulation::accumulators() = &accumulators;
            const unsigned rows = tsn::simulation::probe(probe.unit, task, probe.columns);
            tsn::simulation::accumulators() = nullptr;
            for (std::size_t i = 0; i < probe.columns.size(); i++) {
                if (checksum(&accumulators.at(i * rows), rows) != probe.checksums[i]) {
                    fail("probe of layer %s, task %u, column %u: other weights",
                         golden.units.at(probe.unit).name.c_str(), task, probe.columns[i]);
                }
                probes++;
            }
        }
    }

    std::vector<long long> expected_logits(const golden::call &call) const {
        const std::size_t rows = golden.units.back().integers;
        const std::vector<int32_t> &all = golden.runs[call.run].integers.back();
        const auto first = all.begin() + std::size_t(call.first) * rows;
        return std::vector<long long>(first, first + std::size_t(call.inferences) * rows);
    }

    void check_logits(const std::vector<long long> &head, hls::stream<tsn::axis32> &logits) {
        if (logits.size() != head.size()) fail("m_axis: %zu beats", logits.size());
        for (std::size_t i = 0; !logits.empty(); i++) {
            const tsn::axis32 beat = logits.read();
            if (i >= head.size()) continue;
            if (int32_t(beat.data.to_uint()) != head[i]) fail("m_axis: another logit than the head gives");
            if (beat.keep != 0xF || beat.strb != 0xF) fail("m_axis: TKEEP or TSTRB is not 0xF");
            if ((beat.last == 1) != (i == head.size() - 1)) fail("m_axis: TLAST at the wrong beat");
        }
    }

    void check_unit(const golden::call &call, uint32_t number) {
        const golden::unit &unit = golden.units[number];
        const golden::run &run = golden.runs[call.run];
        const std::vector<long long> &found = tsn::simulation::of_unit(number).integers;
        if (found.size() != std::size_t(call.inferences) * unit.integers) {
            fail("layer %s: %zu integers", unit.name.c_str(), found.size());
            return;
        }
        for (std::size_t i = 0; i < found.size(); i++) {
            const int32_t computed = int32_t(found[i]);
            if (dump) std::fwrite(&computed, sizeof computed, 1, dump);
            if (!run.is_known) continue;
            const int32_t expected = run.integers[number][std::size_t(call.first) * unit.integers + i];
            integers++;
            if (computed != expected) {
                fail("layer %s, task %u, inference %zu, integer %zu: %d, expected %d", unit.name.c_str(), run.task,
                     call.first + i / unit.integers, i % unit.integers, computed, expected);
            }
        }
    }

    void check_call(const golden::call &which) {
        const golden::run &run = golden.runs.at(which.run);
        load(run.task);
        hls::stream<tsn::axis32> logits("m_axis");
        const uint64_t *first = run.inputs.data() + std::size_t(which.first) * golden.beats_of_input();
        const std::size_t beats = std::size_t(which.inferences) * golden.beats_of_input();
        const uint32_t status = call(tsn::RUN, run.task, which.inferences, first, beats, logits);
        if (status != tsn::DONE) {
            fail("task %u: status %u", run.task, status);
            return;
        }
        if (is_rtl) {
            if (!run.is_known) throw std::runtime_error("no expected logits, which is all that --rtl compares");
            check_logits(expected_logits(which), logits);
            integers += std::size_t(which.inferences) * golden.units.back().integers;
            return;
        }
        for (uint32_t number = 0; number < golden.units.size(); number++) check_unit(which, number);
        check_logits(tsn::simulation::of_unit(golden.units.size() - 1).integers, logits);
        for (uint32_t number = 0; number < golden.units.size(); number++) {
            tsn::simulation::of_unit(number).integers.clear();
        }
    }

    void check_refusals() {
        for (const golden::refusal &refusal : golden.refusals) {
            hls::stream<tsn::axis32> nothing("m_axis");
            const uint32_t status = call(refusal.command, refusal.task, refusal.count, refusal.packets.data(),
                                         refusal.packets.size(), nothing);
            if (status != refusal.status) {
                fail("command %u, task %u: status %u, expected %u", refusal.command, refusal.task, status,
                     refusal.status);
            }
        }
    }

    // Every memory, and what it gives for unit vectors; cycles count from here.
    void check_memories() {
        check_images(tsn::ALL_TASKS);
        uint32_t tasks = 0;
        for (const golden::image &image : golden.images) tasks = image.task == tsn::ALL_TASKS ? tasks : image.task + 1;
        for (const golden::probe &probe : golden.probes) tasks = probe.task < tasks ? tasks : probe.task + 1;
        for (uint32_t task = 0; task < tasks; task++) {
            load(task);
            check_images(task);
            check_probes(task);
        }
        for (uint32_t number = 0; number < golden.units.size(); number++) {
            for (unsigned long long &cycles : tsn::simulation::of_unit(number).cycles) cycles = 0;
        }
    }

    // inferences: of every task.
    void check_cycles(const std::vector<uint64_t> &inferences) {
        for (uint32_t number = 0; number < golden.units.size(); number++) {
            const golden::unit &unit = golden.units[number];
            const unsigned long long *found = tsn::simulation::of_unit(number).cycles;
            unsigned long long window = 0, own = 0;
            for (uint32_t task = 0; task < unit.cycles.size(); task++) {
                window += inferences[task] * unit.window_cycles;
                own += inferences[task] * unit.cycles[task];
            }
            if (found[tsn::simulation::WINDOW] != window || found[tsn::simulation::UNIT] != own) {
                fail("layer %s: %llu and %llu cycles, expected %llu and %llu", unit.name.c_str(),
                     found[tsn::simulation::WINDOW], found[tsn::simulation::UNIT], window, own);
            }
        }
    }

public:
    testbench(const golden::data &golden, const std::vector<fault> &faults, std::FILE *dump, bool is_rtl)
        : golden(golden), is_rtl(is_rtl), faults(faults), memories(tsn::simulation::memories()), dump(dump),
          loaded_task(tsn::ALL_TASKS + 1), wrong(0), integers(0), checksums(0), probes(0) {}

    bool passes() {
        plant_faults(false);
        check_refusals();
        load(tsn::ALL_TASKS);
        if (!is_rtl) check_memories();
        std::vector<uint64_t> inferences(golden.units.empty() ? 0 : golden.units[0].cycles.size());
        for (const golden::call &each : golden.calls) {
            check_call(each);
            inferences.at(golden.runs[each.run].task) += each.inferences;
        }
        if (!is_rtl) check_cycles(inferences);
#ifdef TSN_CSIM_HLS_STREAM_H
        for (const std::string &name : hls::leftovers()) fail("stream %s: words are left in it", name.c_str());
#endif
        std::printf("%s: %llu integers, %llu memories, %llu probes, cycles of %u units; %llu differ\n",
                    wrong ? "FAIL" : "PASS", (unsigned long long)integers, (unsigned long long)checksums,
                    (unsigned long long)probes, is_rtl ? 0 : unsigned(golden.units.size()), (unsigned long long)wrong);
        return wrong == 0;
    }
};

const char USAGE[] = "; testbench golden.dat [--rtl] [--dump FILE] [--flip LAYER.MEMORY:LINE:BIT]";

int run(const std::vector<std::string> &arguments) {
    std::vector<fault> faults;
    std::string path, dump_path;
    bool is_rtl = false;
    for (std::size_t i = 0; i < arguments.size(); i++) {
        if (arguments[i] == "--rtl") {
            is_rtl = true;
        } else if (i + 1 < arguments.size() && arguments[i] == "--flip") {
            faults.push_back(fault(arguments[++i]));
        } else if (i + 1 < arguments.size() && arguments[i] == "--dump") {
            dump_path = arguments[++i];
        } else if (path.empty() && arguments[i].compare(0, 2, "--") != 0) {
            path = arguments[i];
        } else {
            throw std::runtime_error(arguments[i] + ": unknown" + USAGE);
        }
    }
    if (path.empty()) throw std::runtime_error(std::string("no data") + USAGE);
    const golden::data golden = golden::read(path);
    std::FILE *dump = dump_path.empty() ? nullptr : std::fopen(dump_path.c_str(), "wb");
    if (!dump && !dump_path.empty()) throw std::runtime_error(dump_path + ": cannot be written");
    const bool passes = testbench(golden, faults, dump, is_rtl).passes();
    if (dump && std::fclose(dump) != 0) throw std::runtime_error(dump_path + ": cannot be written");
    return passes ? 0 : 1;
}

}  // namespace

int main(int count, char **arguments) {
    try {
        return run(std::vector<std::string>(arguments + 1, arguments + count));
    } catch (const std::exception &error) {
        std::printf("FAIL %s\n", error.what());
        return 1;
    }
}
