// A pragma that does not say which variable it is for.
int first(int x) {
    int buffer[4] = {x, x, x, x};
#pragma HLS ARRAY_PARTITION type=complete  // breaks pragma-option
    return buffer[0];
}
