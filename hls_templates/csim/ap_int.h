// Integers of any width for C simulation: the part of ap_int.h that the templates in tsn/ use, with the same results.
//
// Values up to 64 bits compute in 64 bits, so every intermediate result must fit into 63 bits and a sign. Wider words
// can be stored, sliced and compared, nothing more. `<<` is an error: the vendor's keeps the width of its left operand.
// The guard is the vendor's, so that `-include` of the true header takes the place of this one.
#ifndef __AP_INT_H__
#define __AP_INT_H__

#include <type_traits>

template <int W, bool SIGNED>
class ap_word;
template <int W>
struct ap_int;
template <int W>
struct ap_uint;

// Bits high..low of a word, to read and to assign.
template <int W, bool SIGNED>
class ap_slice {
    ap_word<W, SIGNED> &word;
    const int high, low;

    template <int V, bool Q>
    friend class ap_word;

    template <class SOURCE>
    ap_slice &assign(const SOURCE &source) {
        for (int i = 0; i <= high - low; i += 64) {
            const int width = high - low + 1 - i < 64 ? high - low + 1 - i : 64;
            word.set_bits(low + i, width, source.piece(i));
        }
        return *this;
    }

public:
    ap_slice(ap_word<W, SIGNED> &word, int high, int low) : word(word), high(high), low(low) {}
    ap_slice(const ap_slice &) = default;

    // up to 64 bits, from bit i of the slice on
    unsigned long long piece(int i) const {
        const int left = high - low + 1 - i;
        return left > 0 ? word.bits(low + i, left < 64 ? left : 64) : 0;
    }
    unsigned to_uint() const { return static_cast<unsigned>(piece(0)); }
    unsigned long long to_uint64() const { return piece(0); }
    operator unsigned long long() const { return piece(0); }

    ap_slice &operator=(const ap_slice &other) { return assign(ap_word<W, false>(other)); }
    template <int V, bool Q>
    ap_slice &operator=(const ap_slice<V, Q> &other) {
        return assign(ap_word<V, false>(other));
    }
    template <int V, bool Q>
    ap_slice &operator=(const ap_word<V, Q> &other) {
        return assign(other);
    }
    ap_slice &operator=(unsigned long long value);
};

// One bit of a word, to read and to assign.
template <int W, bool SIGNED>
class ap_bit {
    ap_word<W, SIGNED> &word;
    const int index;

public:
    ap_bit(ap_word<W, SIGNED> &word, int index) : word(word), index(index) {}
    ap_bit(const ap_bit &) = default;
    operator bool() const { return word.bits(index, 1) != 0; }
    ap_bit &operator=(bool value) {
        word.set_bits(index, 1, value);
        return *this;
    }
    ap_bit &operator=(const ap_bit &other) { return *this = static_cast<bool>(other); }
};

// What holds the bits: one integer that has the value up to 64 bits, 64-bit pieces above.
template <int W, bool SIGNED, bool WIDE = (W > 64)>
class ap_bits {
protected:
    typedef typename std::conditional<SIGNED, long long, unsigned long long>::type value_t;
    value_t value;

    void set(unsigned long long low_bits, bool) { value = static_cast<value_t>(low_bits << (64 - W)) >> (64 - W); }

public:
    unsigned long long bits(int low, int width) const {
        return (static_cast<unsigned long long>(value) >> low) & (~0ULL >> (64 - width));
    }
    void set_bits(int low, int width, unsigned long long source) {
        const unsigned long long mask = (~0ULL >> (64 - width)) << low;
        set((static_cast<unsigned long long>(value) & ~mask) | ((source << low) & mask), false);
    }
    // up to 64 bits from bit i on, extended by the sign
    unsigned long long piece(int i) const {
        return i == 0 ? static_cast<unsigned long long>(value) : (SIGNED && value < 0 ? ~0ULL : 0);
    }
};

template <int W, bool SIGNED>
class ap_bits<W, SIGNED, true> {
    static const int PIECES = (W + 63) / 64;
    unsigned long long pieces[PIECES];

protected:
    void set(unsigned long long low_bits, bool negative) {
        for (int i = 0; i < PIECES; i++) set_piece(i, i == 0 ? low_bits : (negative ? ~0ULL : 0));
    }

public:
    unsigned long long bits(int low, int width) const {
        const int first = low / 64, offset = low % 64;
        unsigned long long found = pieces[first] >> offset;
        if (first + 1 < PIECES && offset + width > 64) found |= pieces[first + 1] << (64 - offset);
        return found & (~0ULL >> (64 - width));
    }
    void set_bits(int low, int width, unsigned long long source) {
        const int first = low / 64, offset = low % 64;
        const unsigned long long mask = ~0ULL >> (64 - width);
        source &= mask;
        pieces[first] = (pieces[first] & ~(mask << offset)) | (source << offset);
        if (first + 1 < PIECES && offset + width > 64) {
            pieces[first + 1] = (pieces[first + 1] & ~(mask >> (64 - offset))) | (source >> (64 - offset));
        }
    }
    unsigned long long piece(int i) const {
        const bool negative = SIGNED && (pieces[PIECES - 1] >> ((W - 1) % 64) & 1);
        if (i >= W) return negative ? ~0ULL : 0;
        const int left = W - i;
        if (left >= 64) return bits(i, 64);
        return bits(i, left) | (negative ? ~0ULL << left : 0);
    }
    void set_piece(int i, unsigned long long source) {
        pieces[i] = i == PIECES - 1 ? source & (~0ULL >> (64 - W % 64) % 64) : source;
    }
};

template <int W, bool SIGNED>
class ap_word : public ap_bits<W, SIGNED> {
    static_assert(W >= 1, "a width of at least one bit");

    template <class SOURCE>
    void copy(const SOURCE &source, std::false_type) {
        this->set(source.piece(0), false);
    }
    template <class SOURCE>
    void copy(const SOURCE &source, std::true_type) {
        for (int i = 0; i < (W + 63) / 64; i++) this->set_piece(i, source.piece(64 * i));
    }
    typedef std::integral_constant<bool, (W > 64)> is_wide;

public:
    ap_word() = default;
    template <class NATIVE, typename std::enable_if<std::is_integral<NATIVE>::value, int>::type = 0>
    ap_word(NATIVE source) {
        this->set(static_cast<unsigned long long>(source), std::is_signed<NATIVE>::value && source < NATIVE(0));
    }
    template <int V, bool Q>
    ap_word(const ap_word<V, Q> &source) {
        copy(source, is_wide());
    }
    template <int V, bool Q>
    ap_word(const ap_slice<V, Q> &source) {
        copy(source, is_wide());
    }
    template <int V, bool Q>
    ap_word(const ap_bit<V, Q> &source) {
        this->set(static_cast<bool>(source), false);
    }

    operator long long() const {
        static_assert(W <= 64 && (SIGNED || W < 64), "arithmetic is for up to 64 bits signed, 63 unsigned");
        return static_cast<long long>(this->value);
    }
    int to_int() const { return static_cast<int>(this->piece(0)); }
    unsigned to_uint() const { return static_cast<unsigned>(this->piece(0)); }
    long long to_int64() const { return static_cast<long long>(this->piece(0)); }
    unsigned long long to_uint64() const { return this->piece(0); }

    ap_slice<W, SIGNED> range(int high, int low) { return ap_slice<W, SIGNED>(*this, high, low); }
    ap_slice<W, SIGNED> range(int high, int low) const {
        return ap_slice<W, SIGNED>(const_cast<ap_word &>(*this), high, low);
    }
    ap_bit<W, SIGNED> operator[](int index) { return ap_bit<W, SIGNED>(*this, index); }
    bool operator[](int index) const { return this->bits(index, 1) != 0; }

    template <class OTHER>
    ap_word &operator+=(const OTHER &other) {
        return *this = ap_word(static_cast<long long>(*this) + other);
    }
    template <class OTHER>
    ap_word &operator-=(const OTHER &other) {
        return *this = ap_word(static_cast<long long>(*this) - other);
    }
    ap_word &operator++() { return *this += 1; }
};

// Behind the words: a compiler may look at what depends on no template argument where it stands.
template <int W, bool SIGNED>
ap_slice<W, SIGNED> &ap_slice<W, SIGNED>::operator=(unsigned long long value) {
    return assign(ap_word<64, false>(value));
}

template <int W>
struct ap_int : ap_word<W, true> {
    using ap_word<W, true>::ap_word;
    ap_int() = default;
};
template <int W>
struct ap_uint : ap_word<W, false> {
    using ap_word<W, false>::ap_word;
    ap_uint() = default;
};

template <int W, bool SIGNED, class AMOUNT>
void operator<<(const ap_word<W, SIGNED> &, const AMOUNT &) = delete;
template <int W, bool SIGNED, class AMOUNT>
void operator<<(const ap_slice<W, SIGNED> &, const AMOUNT &) = delete;

#endif
