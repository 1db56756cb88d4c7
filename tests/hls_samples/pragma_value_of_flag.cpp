// A value where the option takes none.
inline int twice(int x) {
#pragma HLS INLINE off=2  // breaks pragma-value
    return 2 * x;
}

int top(int x) { return twice(x); }
