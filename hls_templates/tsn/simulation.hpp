// What C simulation sees of the hardware: cycles of loops, integers on streams, accumulators, memories. All of it is
// empty in synthesis.
#ifndef TSN_SIMULATION_HPP
#define TSN_SIMULATION_HPP

#include "memory.hpp"

#ifdef __SYNTHESIS__

#define TSN_CYCLES(unit, loop)
#define TSN_CYCLE
#define TSN_ACCUMULATOR(value)
#define TSN_ROWS(count)
#define TSN_ROW(row, value)
#define TSN_TAP(unit, bits, is_signed, channel, words)

#else

#include <map>
#include <vector>

namespace tsn {
namespace simulation {

enum loop { WINDOW, UNIT, LOOPS };

// What one unit did: the integers that it sent, in the order of its stream, and the cycles of its loops.
struct record {
    std::vector<long long> integers;
    unsigned long long cycles[LOOPS];
};

inline record &of_unit(int unit) {
    static std::map<int, record> all;
    return all[unit];
}

// Where raw accumulators go, row after row; null: nowhere.
inline std::vector<long long> *&accumulators() {
    static std::vector<long long> *target = nullptr;
    return target;
}

// The raw accumulators of a vector whose rows end in another order.
class rows {
    const std::size_t first, count;

public:
    explicit rows(std::size_t count) : first(accumulators() ? accumulators()->size() : 0), count(count) {
        if (accumulators()) accumulators()->resize(first + count);
    }
    void set(std::size_t row, long long value) {
        if (accumulators() && row < count) (*accumulators())[first + row] = value;
    }
};

class counter {
    unsigned long long &total, count;

public:
    counter(int unit, loop which) : total(of_unit(unit).cycles[which]), count(0) {}
    ~counter() { total += count; }
    void tick() { ++count; }
};

// Record what stands in a stream, and leave it there.
template <int BITS, bool SIGNED, int WIDTH>
void tap(int unit, hls::stream<ap_uint<WIDTH> > &channel, unsigned long long words) {
    std::vector<long long> &integers = of_unit(unit).integers;
    for (unsigned long long i = 0; i < words; i++) {
        const ap_uint<WIDTH> word = channel.read();
        for (int low = 0; low < WIDTH; low += BITS) {
            const ap_uint<BITS> bits = word.range(low + BITS - 1, low);
            integers.push_back(typename integer<BITS, SIGNED>::type(bits).to_int64());
        }
        channel.write(word);
    }
}

// A memory of a unit; kinds are numbered like load packets.
struct memory {
    int unit, kind;
    bool is_loaded;
    unsigned lines, limbs;
    limb_t (*read)(unsigned line, unsigned limb);
    void (*write)(unsigned line, unsigned limb, limb_t value);
};

template <class ELEMENT, int LIMBS, ELEMENT (*ARRAY)[LIMBS]>
struct access {
    static limb_t read(unsigned line, unsigned index) { return limb(ARRAY[line][index]); }
    static void write(unsigned line, unsigned index, limb_t value) { ARRAY[line][index] = value; }
};

// All memories of the accelerator. It defines them.
std::vector<memory> memories();

// What a reset does to the accelerator. It defines it.
void reset();

// Send unit vectors, one a column, through a matrix unit alone: accumulators() gets the rows of each. Returns how many
// rows there are. Rows of a depthwise unit read a vector each: each gets the same. The accelerator defines it by calls of probe_unit.
unsigned probe(int unit, unsigned task, const std::vector<unsigned> &columns);

template <class T, class CALL>
unsigned probe_unit(unsigned task, const std::vector<unsigned> &columns, CALL call) {
    const unsigned inferences = (columns.size() + T::POSITIONS - 1) / T::POSITIONS;
    const int lanes = T::DEPTHWISE ? T::PE : T::SIMD, ones = T::DEPTHWISE ? T::PE : 1;
    hls::stream<ap_uint<lanes * T::INPUT_BITS> > in("probe");
    hls::stream<ap_uint<T::PE * T::OUTPUT_BITS> > out("probed");
    hls::stream<said_t> said("said");
    for (unsigned inference = 0; inference < inferences; inference++) said.write(task);
    for (unsigned vector = 0; vector < inferences * T::POSITIONS; vector++) {
        for (unsigned fold = 0; fold < T::COLUMN_FOLDS * (T::DEPTHWISE ? T::ROW_FOLDS : 1); fold++) {
            ap_uint<lanes * T::INPUT_BITS> word = 0;
            if (vector < columns.size() && columns[vector] / T::SIMD == fold % T::COLUMN_FOLDS) {
                for (int one = 0; one < ones; one++) word[(columns[vector] % T::SIMD + one) * T::INPUT_BITS] = 1;
            }
            in.write(word);
        }
    }
    call(in, out, said, inferences);
    while (!out.empty()) out.read();
    return T::ROW_FOLDS * T::PE;
}

}  // namespace simulation
}  // namespace tsn

#define TSN_CYCLES(unit, loop) tsn::simulation::counter cycles(unit, tsn::simulation::loop)
#define TSN_CYCLE cycles.tick()
#define TSN_ACCUMULATOR(value) \
    if (tsn::simulation::accumulators()) tsn::simulation::accumulators()->push_back((value).to_int64())
#define TSN_ROWS(count) tsn::simulation::rows raw_rows(count)
#define TSN_ROW(row, value) raw_rows.set(row, (value).to_int64())
#define TSN_TAP(unit, bits, is_signed, channel, words) tsn::simulation::tap<bits, is_signed>(unit, channel, words);

#endif
#endif
