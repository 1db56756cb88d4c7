// The C driver on the Verilator model of an accelerator: what a processor and its DMA do, in cycles of one clock.
// argv: a file of lines "task container_bits outputs activation activation ..."; told: status, cycles, largest, logits.
#include <cstdio>
#include <deque>
#include <fstream>
#include <iostream>
#include <sstream>
#include <vector>

#include "Vtsn_accelerator.h"

static Vtsn_accelerator top;
static std::deque<uint64_t> sending;
static std::vector<int32_t> received;

static void tick() {
    top.s_axis_tvalid = !sending.empty();
    top.s_axis_tdata = sending.empty() ? 0 : sending.front();
    top.m_axis_tready = 1;
    top.eval();
    const bool is_sent = top.s_axis_tvalid && top.s_axis_tready, is_received = top.m_axis_tvalid;
    const int32_t logit = int32_t(top.m_axis_tdata);
    top.aclk = 1;
    top.eval();
    top.aclk = 0;
    top.eval();
    if (is_sent) sending.pop_front();
    if (is_received) received.push_back(logit);
}

extern "C" uint32_t bench_read(uintptr_t address) {
    top.s_axi_control_araddr = address & 0x7F;
    top.s_axi_control_arvalid = top.s_axi_control_rready = 1;
    for (tick(); !top.s_axi_control_rvalid; tick()) top.s_axi_control_arvalid = 0;
    const uint32_t value = top.s_axi_control_rdata;
    top.s_axi_control_arvalid = 0;
    tick();
    return value;
}

extern "C" void bench_write(uintptr_t address, uint32_t value) {
    top.s_axi_control_awaddr = address & 0x7F;
    top.s_axi_control_wdata = value;
    top.s_axi_control_wstrb = 15;
    top.s_axi_control_awvalid = top.s_axi_control_wvalid = top.s_axi_control_bready = 1;
    tick();
    top.s_axi_control_awvalid = top.s_axi_control_wvalid = 0;
    while (top.s_axi_control_bvalid) tick();
}

#include "tsn_driver.h"
#include "tsn_numbers.h"

#define REGISTER(name) (base + offsetof(tsn_registers_t, name))

// The level and what the registers tell of it: before anything; enabled, once a call has ended; with one event enabled;
// both acknowledged one by one; toggled back; not let out.
static void show_interrupts(uintptr_t base) {
    const auto show = [&] {
        tick();
        std::cout << int(top.TSN_INTERRUPT) << (bench_read(REGISTER(control)) >> 9 & 1) << bench_read(REGISTER(event_status)) << " ";
    };
    const auto call = [&] {
        tsn_start(base, TSN_RUN, 0, 0);
        while (tsn_wait(base, 1) == TSN_BUSY) {}
        show();
    };
    call();
    bench_write(REGISTER(interrupt_enable), 1);
    call();
    for (unsigned events = 1; events < 4; events++) {
        bench_write(REGISTER(event_enable), events);
        call();
        bench_write(REGISTER(event_status), 1);
        show();
        bench_write(REGISTER(event_status), 2);
        show();
        bench_write(REGISTER(event_status), bench_read(REGISTER(event_status)));
        show();
    }
    call();
    bench_write(REGISTER(interrupt_enable), 0);
    show();
    bench_write(REGISTER(event_status), 3);
    std::cout << "\n";
}

// A call that gets nothing: it does not end, is aborted, and has an answer.
static void show_abort(uintptr_t base) {
    std::cout << tsn_start(base, TSN_RUN, 0, 1) << " " << tsn_wait(base, 50) << " ";
    tsn_abort(base);
    std::cout << tsn_wait(base, 50) << " " << tsn_text(TSN_ABORTED) << "\n";
}

int main(int, char **argv) {
    const uintptr_t base = 0x40000000;
    for (int i = 0; i < 4; i++) tick();
    top.aresetn = 1;
    for (int i = 0; i < 4; i++) tick();
    std::cout << tsn_check(base, TSN_NETWORK_PRINT, TSN_DESIGN_PRINT) << " "
              << tsn_check(base, TSN_NETWORK_PRINT ^ 1, TSN_DESIGN_PRINT) << " "
              << tsn_check(base, TSN_NETWORK_PRINT, TSN_DESIGN_PRINT ^ 1) << "\n";
    show_interrupts(base);
    show_abort(base);
    std::ifstream calls(argv[1]);
    for (std::string line; std::getline(calls, line);) {
        std::istringstream in(line);
        unsigned task, container_bits, outputs;
        in >> task >> container_bits >> outputs;
        std::vector<int32_t> activations;
        for (int32_t value; in >> value;) activations.push_back(value);
        std::vector<uint64_t> beats(tsn_beats(activations.size(), container_bits));
        tsn_pack(beats.data(), activations.data(), activations.size(), container_bits);
        received.clear();
        const tsn_status begun = tsn_start(base, TSN_RUN, uint16_t(task), 1);
        const tsn_status again = tsn_start(base, TSN_RUN, uint16_t(task), 1);  // a call is under way
        sending.assign(beats.begin(), beats.end());
        const tsn_status early = tsn_wait(base, 1), status = tsn_wait(base, 100000);
        if (status != TSN_DONE) sending.clear();
        std::cout << begun << " " << again << " " << early << " " << status << " " << tsn_cycles(base) << " ";
        std::cout << (received.empty() ? 0 : tsn_largest(received.data(), outputs));
        for (int32_t logit : received) std::cout << " " << logit;
        std::cout << "\n";
    }
    top.final();
}
