// A variable that is declared after its pragma.
int first(int x) {
#pragma HLS ARRAY_PARTITION variable=buffer type=complete  // breaks pragma-variable
    int buffer[4] = {x, x, x, x};
    return buffer[0];
}
