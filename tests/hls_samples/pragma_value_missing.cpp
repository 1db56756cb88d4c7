// An option that needs a value.
int sum(const int (&x)[8]) {
    int total = 0;
    for (int i = 0; i < 8; i++) {
#pragma HLS PIPELINE II  // breaks pragma-value
        total += x[i];
    }
    return total;
}
