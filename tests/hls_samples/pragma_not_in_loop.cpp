// There is nothing to unroll here.
int top(int x) {
#pragma HLS UNROLL  // breaks pragma-place
    return 2 * x;
}
