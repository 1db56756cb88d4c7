// Runs tsn_bench as a model of CXXRTL, where TSN_CXXRTL is defined, or of Verilator. testbench.sv does the same in
// Icarus Verilog, and says what the files hold and what is told.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <ios>
#include <string>
#include <vector>

using Chunks = std::vector<std::uint32_t>;  // of 32 bits, the lowest first

#ifdef TSN_CXXRTL
#include "tsn_bench.cc"

using Model = cxxrtl_design::p_tsn__bench;
#define PORT(name) p_##name

static void begin() {}

static void settle(Model& model) { model.step(); }

template <size_t bits>
static void set(cxxrtl::value<bits>& port, std::uint64_t number) { port.template set<std::uint64_t>(number); }

template <typename Port>
static std::uint32_t get(const Port& port) { return port.template get<std::uint32_t>(); }

template <size_t bits>
static Chunks chunks(const cxxrtl::value<bits>& port) { return {port.data, port.data + port.chunks}; }

template <size_t bits>
static Chunks chunks(const cxxrtl::wire<bits>& port) { return chunks(port.curr); }
#else
#include "Vtsn_bench.h"

using Model = Vtsn_bench;
#define PORT(name) name

// Registers without a reset begin with anything; nothing may depend on it.
static void begin() { Verilated::randReset(2); }

static void settle(Model& model) { model.eval(); }

template <typename Port>
static void set(Port& port, std::uint64_t number) { port = static_cast<Port>(number); }

static std::uint32_t get(std::uint32_t port) { return port; }

static Chunks chunks(std::uint64_t port) {
    return {static_cast<std::uint32_t>(port), static_cast<std::uint32_t>(port >> 32)};
}

template <size_t size>
static Chunks chunks(const VlWide<size>& port) { return {port.data(), port.data() + size}; }
#endif

template <typename Port>
static std::string hexadecimal(const Port& port) {
    std::string text;
    for (std::uint32_t chunk : chunks(port)) {
        char digits[9];
        std::snprintf(digits, sizeof digits, "%08x", static_cast<unsigned>(chunk));
        text.insert(0, digits);
    }
    return text;
}

// The calls and beats of the files, one after the other, at the ports of a model.
class Calls {
  public:
    explicit Calls(Model& model) : model_(model), calls_("calls.txt"), beats_("beats.txt") {
        unsigned stalls = 0, meddles = 0;
        calls_ >> stalls >> seed_ >> meddles;
        beats_ >> std::hex;
        set(model_.PORT(stalls), stalls);
        set(model_.PORT(meddles), meddles);
        reset();
    }

    void reset() {
        set(model_.PORT(reset), 1);
        set(model_.PORT(seed), seed_++);
        set(model_.PORT(call), 0);
        set(model_.PORT(aborts), 0);
        set(model_.PORT(offered), 0);
    }

    // False where there is no more call.
    bool next_call() {
        std::uint64_t beat = 0;  // those that a refused call has not taken; one of them has been offered
        for (++taken_; taken_ < beats_of_call_; ++taken_) beats_ >> beat;
        unsigned task = 0, count = 0, command = 0;
        if (!(calls_ >> task >> count >> command >> beats_of_call_ >> reset_after_ >> abort_after_)) return false;
        set(model_.PORT(call), 1);
        set(model_.PORT(aborts), 0);
        set(model_.PORT(taskid), task);
        set(model_.PORT(count), count);
        set(model_.PORT(command), command);
        taken_ = 0;
        offer();
        return true;
    }

    void next_beat() {
        ++taken_;
        offer();
    }

    unsigned long taken() const { return taken_; }
    unsigned long reset_after() const { return reset_after_; }
    unsigned long abort_after() const { return abort_after_; }
    void abort() { set(model_.PORT(aborts), 1); }

  private:
    void offer() {
        std::uint64_t beat = 0;
        set(model_.PORT(offered), taken_ < beats_of_call_ && beats_ >> beat);
        set(model_.PORT(beat), beat);
    }

    Model& model_;
    std::ifstream calls_, beats_;
    unsigned long beats_of_call_ = 0, taken_ = 0, reset_after_ = 0, abort_after_ = 0;
    unsigned seed_ = 0;
};

int main() {
    begin();
    Model model;
    Calls calls(model);
    unsigned long since_reset = 0, since_call = 0;  // cycles
    for (;;) {
        set(model.PORT(clk), 0);
        settle(model);
        // What happens in this cycle; it is told before the clock rises, and answered after it.
        const bool is_taken = get(model.PORT(taken)), is_ended = get(model.PORT(ended));
        if (get(model.PORT(sends))) {
            std::printf("words %s %s\n", hexadecimal(model.PORT(sent)).c_str(), hexadecimal(model.PORT(words)).c_str());
        }
        if (get(model.PORT(given))) {
            std::printf("logit %08x %x %u\n", static_cast<unsigned>(get(model.PORT(logit))),
                        static_cast<unsigned>(get(model.PORT(keep))), static_cast<unsigned>(get(model.PORT(last))));
        }
        if (is_ended) {
            std::printf("call %u %u %lu %s\n", static_cast<unsigned>(get(model.PORT(status))),
                        static_cast<unsigned>(get(model.PORT(cycles))), calls.taken() + is_taken,
                        hexadecimal(model.PORT(steps)).c_str());
        }
        if (get(model.PORT(stuck)) || get(model.PORT(misread))) {
            std::puts(get(model.PORT(stuck)) ? "stuck" : "misread");
            return 0;
        }
        ++since_reset;
        ++since_call;
        const bool is_reset = since_reset > 8 && !is_ended && since_call == calls.reset_after();
        set(model.PORT(clk), 1);
        settle(model);
        if (is_taken) calls.next_beat();
        if (since_reset > 8 && !is_ended && since_call == calls.abort_after()) calls.abort();
        if (is_reset) {
            std::puts("reset");
            calls.reset();
            since_reset = 0;
        }
        if (since_reset == 4) set(model.PORT(reset), 0);
        if (is_ended || since_reset == 8) {
            if (!calls.next_call()) return 0;
            since_call = 0;
        }
    }
}
