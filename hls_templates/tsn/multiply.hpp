// Products of words and activations. MULTIPLIER of a unit: 0, the tool chooses what multiplies; 1, LUTs; 2, one multiplier
// computes two products that share an activation.
#ifndef TSN_MULTIPLY_HPP
#define TSN_MULTIPLY_HPP

#include "types.hpp"

namespace tsn {

template <class T>
struct product_types {
    typedef ap_int<T::CENTROID_BITS> centroid_t;
    typedef typename integer<T::INPUT_BITS, T::INPUT_SIGNED>::type input_t;
    typedef ap_int<T::INPUT_BITS + T::CENTROID_BITS + 1> product_t;
};

template <class T, int MULTIPLIER>
typename product_types<T>::product_t product(typename product_types<T>::centroid_t centroid, typename product_types<T>::input_t activation) {
#pragma HLS INLINE
    typename product_types<T>::product_t found;
    if (MULTIPLIER == 1) {
        const typename product_types<T>::product_t of_luts = centroid * activation;
#pragma HLS BIND_OP variable=of_luts op=mul impl=fabric
        found = of_luts;
    } else {
        found = centroid * activation;
    }
    return found;
}

// The products of a line: row p, column s of it in lane p * SIMD + s.
template <class T, int MULTIPLIER>
struct line_products {
    typedef product_types<T> types;
    static const int LANES = T::PE * T::SIMD, INPUTS = T::DEPTHWISE ? T::PE : T::SIMD;

    static void find(const typename types::centroid_t (&centroids)[LANES],
                     const typename types::input_t (&activations)[INPUTS], typename types::product_t (&products)[LANES]) {
#pragma HLS INLINE
    lanes:
        for (int lane = 0; lane < LANES; lane++) {
#pragma HLS UNROLL
            products[lane] = product<T, MULTIPLIER>(centroids[lane], activations[T::DEPTHWISE ? lane : lane % T::SIMD]);
        }
    }
};

// Of rows p and p + 1 by one multiplier: the wide factor is both centroids, that of row p + 1 so many bits above the other
// that its product fits below, with its sign. Where that is negative it takes one of the product above it.
template <class T>
struct line_products<T, 2> {
    typedef product_types<T> types;
    static const int LANES = T::PE * T::SIMD, LOW_BITS = T::INPUT_BITS + T::CENTROID_BITS;
    typedef ap_int<LOW_BITS + T::CENTROID_BITS + 1> wide_t;

    static void find(const typename types::centroid_t (&centroids)[LANES],
                     const typename types::input_t (&activations)[T::SIMD], typename types::product_t (&products)[LANES]) {
#pragma HLS INLINE
    pairs:
        for (int pair = 0; pair < LANES / 2; pair++) {
#pragma HLS UNROLL
            const int lane = pair / T::SIMD * 2 * T::SIMD + pair % T::SIMD;
            wide_t upper = 0;
            upper.range(LOW_BITS + T::CENTROID_BITS, LOW_BITS) = ap_int<T::CENTROID_BITS + 1>(centroids[lane + T::SIMD]);
            const wide_t wide = upper + centroids[lane];
            const ap_int<2 * LOW_BITS + 1> both = wide * activations[pair % T::SIMD];
            const ap_int<LOW_BITS> low = ap_uint<LOW_BITS>(both.range(LOW_BITS - 1, 0));
            const typename types::product_t above = ap_uint<LOW_BITS + 1>(both.range(2 * LOW_BITS, LOW_BITS));
            products[lane] = low;
            products[lane + T::SIMD] = above + (low < 0 ? 1 : 0);
        }
    }
};

}  // namespace tsn

#endif
