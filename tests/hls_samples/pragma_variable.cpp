// A variable of another function.
int first(int x) {
    int buffer[4] = {x, x, x, x};
    return buffer[0];
}

int second(int x) {
    int other[4] = {x, x, x, x};
#pragma HLS ARRAY_PARTITION variable=buffer type=complete  // breaks pragma-variable
    return first(other[1]);
}
