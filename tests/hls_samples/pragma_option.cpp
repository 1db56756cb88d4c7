// An option that the pragma does not have.
int sum(const int (&x)[8]) {
    int total = 0;
sum:
    for (int i = 0; i < 8; i++) {
#pragma HLS UNROLL factr=4  // breaks pragma-option
        total += x[i];
    }
    return total;
}
