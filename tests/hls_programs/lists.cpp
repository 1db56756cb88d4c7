// Runs units of cases.hpp, which the test writes: reads the inputs of every task, prints results and cycles of each.
#include <cinttypes>
#include <cstdio>

#include "tsn/types.hpp"

#include "cases.hpp"
#include "tsn/lists.hpp"

template <class T, class WORDS, class CODEBOOK, class SCALES, class PARAMETERS>
bool run(const WORDS &words, const CODEBOOK &codebook, const SCALES &scales, const PARAMETERS &parameters_of) {
    const bool no_mask = false;
    for (unsigned task = 0; task < T::TASKS; task++) {
        hls::stream<ap_uint<T::SIMD * T::INPUT_BITS> > in("in");
        hls::stream<ap_uint<T::PE * T::OUTPUT_BITS> > out("out");
        hls::stream<tsn::said_t> said("said");
        for (int inference = 0; inference < T::INFERENCES; inference++) said.write(task);
        for (int word = 0; word < T::INFERENCES * T::POSITIONS * T::COLUMN_FOLDS; word++) {
            uint64_t given;
            if (std::scanf("%" SCNu64, &given) != 1) return false;
            in.write(given);
        }
        unsigned long long &cycles = tsn::simulation::of_unit(T::INDEX).cycles[tsn::simulation::UNIT];
        const unsigned long long before = cycles;
        tsn::lists<T>(in, out, said, T::INFERENCES, words, codebook, no_mask, scales, parameters_of);
        std::printf("%d %u %llu %d:", T::INDEX, task, cycles - before, int(in.empty()));
        while (!out.empty()) std::printf(" %llu", static_cast<unsigned long long>(out.read().to_uint64()));
        std::printf("\n");
    }
    return true;
}

#define RUN(number) \
    if (!run<unit_##number>(words_##number, codebook_##number, scales_##number, tasks_##number)) return 1;

int main() {
    CASES(RUN)
    return 0;
}
