// golden.dat: what the test bench sends, and what must come back. Little-endian; lists stand behind their length.
#ifndef TSN_GOLDEN_HPP
#define TSN_GOLDEN_HPP

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace golden {

typedef std::vector<uint64_t> beats;

// One unit: integers of an inference, and its cycles; those of its own loop with every task.
struct unit {
    std::string name;
    uint32_t integers;
    uint64_t window_cycles;
    std::vector<uint64_t> cycles;
};

// The checksum of a memory while a task is loaded, or (task 0xFFFF) from the start.
struct image {
    uint32_t unit, kind, task, checksum;
};

// Packets that load a task, or what all tasks use.
struct load {
    uint32_t task;
    beats packets;
};

// Checksums of the accumulators of unit vectors.
struct probe {
    uint32_t unit, task;
    std::vector<uint32_t> columns, checksums;
};

// Inputs of one task, and the integers of every unit for them if they are known.
struct run {
    uint32_t task, inferences;
    beats inputs;
    bool is_known;
    std::vector<std::vector<int32_t> > integers;
};

// One call of the accelerator: so many inferences of a run.
struct call {
    uint32_t run, first, inferences;
};

// A call that must be answered with a status other than 0.
struct refusal {
    uint32_t command, task, count, status;
    beats packets;
};

struct data {
    uint32_t elements, container_bytes;  // of an input
    std::vector<unit> units;
    std::vector<image> images;
    std::vector<load> loads;
    std::vector<probe> probes;
    std::vector<run> runs;
    std::vector<call> calls;
    std::vector<refusal> refusals;

    uint32_t beats_of_input() const { return (elements * container_bytes + 7) / 8; }
};

// A file that must be there to the last byte, and end there.
class reader {
    const std::string path;
    std::FILE *const file;

    void take(void *target, std::size_t bytes) {
        if (std::fread(target, 1, bytes, file) != bytes) throw std::runtime_error(path + ": ends too early");
    }

public:
    explicit reader(const std::string &path) : path(path), file(std::fopen(path.c_str(), "rb")) {
        if (!file) throw std::runtime_error(path + ": cannot be opened");
    }
    ~reader() {
        if (file) std::fclose(file);
    }
    uint32_t number() {
        uint32_t value;
        take(&value, sizeof value);
        return value;
    }
    uint64_t long_number() {
        uint64_t value;
        take(&value, sizeof value);
        return value;
    }
    // In pieces, so that a damaged length meets the end of the file, not that of memory.
    template <class NUMBER>
    void list(std::vector<NUMBER> &values, std::size_t length) {
        values.clear();
        while (values.size() < length) {
            const std::size_t begin = values.size(), piece = length - begin < 65536 ? length - begin : 65536;
            values.resize(begin + piece);
            take(&values[begin], piece * sizeof(NUMBER));
        }
    }
    void expect_magic(const char *magic) {
        char found[8];
        take(found, sizeof found);
        if (std::memcmp(magic, found, sizeof found) != 0) throw std::runtime_error(path + ": is no golden data");
    }
    void expect_end() {
        char rest;
        if (std::fread(&rest, 1, 1, file) != 0) throw std::runtime_error(path + ": goes on behind its end");
    }
};

inline unit read_unit(reader &in) {
    unit read;
    std::vector<char> name;
    in.list(name, in.number());
    read.name.assign(name.begin(), name.end());
    read.integers = in.number();
    read.window_cycles = in.long_number();
    in.list(read.cycles, in.number());
    return read;
}

inline probe read_probe(reader &in) {
    probe read;
    read.unit = in.number();
    read.task = in.number();
    const uint32_t columns = in.number();
    in.list(read.columns, columns);
    in.list(read.checksums, columns);
    return read;
}

inline run read_run(reader &in, const data &golden) {
    run read;
    read.task = in.number();
    read.inferences = in.number();
    in.list(read.inputs, std::size_t(read.inferences) * golden.beats_of_input());
    read.is_known = in.number() != 0;
    for (const unit &each : golden.units) {
        read.integers.push_back(std::vector<int32_t>());
        if (read.is_known) in.list(read.integers.back(), std::size_t(read.inferences) * each.integers);
    }
    return read;
}

inline data read(const std::string &path) {
    reader in(path);
    in.expect_magic("TSNGOLD2");
    data golden;
    golden.elements = in.number();
    golden.container_bytes = in.number();
    for (uint32_t left = in.number(); left > 0; left--) golden.units.push_back(read_unit(in));
    in.list(golden.images, in.number());
    for (uint32_t left = in.number(); left > 0; left--) {
        golden.loads.push_back(load());
        golden.loads.back().task = in.number();
        in.list(golden.loads.back().packets, in.number());
    }
    for (uint32_t left = in.number(); left > 0; left--) golden.probes.push_back(read_probe(in));
    for (uint32_t left = in.number(); left > 0; left--) golden.runs.push_back(read_run(in, golden));
    in.list(golden.calls, in.number());
    for (uint32_t left = in.number(); left > 0; left--) {
        golden.refusals.push_back(refusal());
        refusal &last = golden.refusals.back();
        last.command = in.number();
        last.task = in.number();
        last.count = in.number();
        last.status = in.number();
        in.list(last.packets, in.number());
    }
    in.expect_end();
    return golden;
}

}  // namespace golden

#endif
