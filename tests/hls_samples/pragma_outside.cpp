// A pragma at file scope: pragmas of HLS belong into functions.
static const int table[4] = {1, 2, 3, 4};
#pragma HLS BIND_STORAGE variable=table type=rom_1p impl=bram  // breaks pragma-place

int top(int x) { return table[x & 3]; }
