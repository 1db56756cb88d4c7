// Prints what the operations of ap_int.h that the templates use give for pseudo-random operands, one a line:
// what, width, operands, result; numbers as hexadecimal digits of their bits.
#include <cstdio>

#include "ap_int.h"

typedef unsigned long long u64;

static u64 next() {
    static u64 state = 1;
    state += 0x9E3779B97F4A7C15ULL;
    u64 mixed = (state ^ state >> 30) * 0xBF58476D1CE4E5B9ULL;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBULL;
    return mixed ^ mixed >> 31;
}

// Few bits, many bits, none or all of them: both ends of every range come up.
static u64 operand() {
    const u64 choice = next() % 8, value = next();
    return choice == 0 ? 0 : choice == 1 ? ~0ULL : choice == 2 ? 1ULL << value % 64 : value >> value % 64;
}

template <int W, class WORD>
void print(const WORD &word) {
    std::printf(" ");
    for (int low = (W - 1) / 64 * 64; low >= 0; low -= 64) {
        const int high = low + 63 < W ? low + 63 : W - 1;
        const ap_uint<64> piece = word.range(high, low);
        std::printf("%016llx", piece.to_uint64());
    }
}

static void print(long long value) { std::printf(" %016llx", static_cast<u64>(value)); }

template <int W, class A, class B>
void arithmetic(const char *sign) {
    const A a = operand();
    const B b = operand();
    const int amount = next() % W;
    const ap_uint<6> shift = amount;
    std::printf("arithmetic %s %d", sign, W);
    print<W>(a);
    print<W>(b);
    print(amount);
    print(ap_int<64>(a + b).to_int64());
    print(ap_int<64>(a - b).to_int64());
    print(ap_int<64>(a * b).to_int64());
    print(ap_int<64>(a * 3 + b - 1).to_int64());
    print(ap_int<64>(a >> shift).to_int64());
    print((a < b) + 2 * (a == b) + 4 * (a > 0) + 8 * (a != b) + 16 * (b >= a));
    const B narrowed = a * b;
    print<W>(narrowed);
    A sum = a;
    sum += b;
    sum -= 5;
    ++sum;
    print<W>(sum);
    std::printf("\n");
}

template <int W, int V, class A, class B>
void bits(const char *sign) {
    A a = 0;
    for (int low = 0; low < W; low += 64) a.range(low + 63 < W ? low + 63 : W - 1, low) = ap_uint<64>(operand());
    const int low = next() % W, high = low + next() % (W - low), bit = next() % W;
    std::printf("bits %s %d %d %d %d %d", sign, W, V, low, high, bit);
    print<W>(a);
    const B other = a;
    print<V>(other);
    const ap_uint<V> cut = a.range(high, low);
    print<V>(cut);
    print(a[bit]);
    A changed = a;
    changed.range(high, low) = other.range(V - 1, 0);
    print<W>(changed);
    changed[bit] = !a[bit];
    print<W>(changed);
    changed.range(high, low) = ap_uint<64>(~0ULL);
    print<W>(changed);
    const ap_uint<1> one = a[bit];
    print(one.to_uint());
    print(a.to_uint());
    print(a.to_int());
    std::printf("\n");
}

template <int W>
void all() {
    for (int i = 0; i < 200; i++) {
        arithmetic<W, ap_int<W>, ap_int<W> >("ss");
        arithmetic<W, ap_uint<W>, ap_int<W> >("us");
        arithmetic<W, ap_uint<W>, ap_uint<W> >("uu");
    }
}
template <int W, int V>
void both() {
    for (int i = 0; i < 100; i++) {
        bits<W, V, ap_int<W>, ap_int<V> >("ss");
        bits<W, V, ap_int<W>, ap_uint<V> >("su");
        bits<W, V, ap_uint<W>, ap_int<V> >("us");
        bits<W, V, ap_uint<W>, ap_uint<V> >("uu");
    }
}

int main() {
    all<1>();
    all<2>();
    all<8>();
    all<13>();
    all<20>();
    all<30>();
    both<1, 1>();
    both<8, 5>();
    both<16, 32>();
    both<33, 64>();
    both<64, 8>();
    both<64, 65>();
    both<65, 64>();
    both<100, 128>();
    both<128, 17>();
    both<200, 192>();
    return 0;
}
