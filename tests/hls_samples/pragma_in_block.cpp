// An interface is that of a function, not of a loop.
void top(int x, int &y) {
    y = 0;
    for (int i = 0; i < 4; i++) {
#pragma HLS INTERFACE mode=s_axilite port=x  // breaks pragma-place
        y += x;
    }
}
