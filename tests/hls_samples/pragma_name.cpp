// A pragma with a slip of the pen: the tool ignores it, and the loop is not pipelined.
int sum(const int (&x)[8]) {
    int total = 0;
sum:
    for (int i = 0; i < 8; i++) {
#pragma HLS PIPELIN II=1  // breaks pragma-name
        total += x[i];
    }
    return total;
}
