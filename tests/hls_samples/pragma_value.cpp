// A value that the option does not take.
int first(int x) {
    int buffer[4] = {x, x, x, x};
#pragma HLS ARRAY_PARTITION variable=buffer type=completely  // breaks pragma-value
    return buffer[0];
}
