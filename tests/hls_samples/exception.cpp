// Nobody catches anything in hardware.
int top(int x) {
    if (x < 0) throw x;  // breaks exception
    return x;
}
