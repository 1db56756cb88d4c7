// Jumps have no loop that could be pipelined.
int top(int x) {
again:
    x -= 3;
    if (x > 0) goto again;  // breaks goto
    return x;
}
