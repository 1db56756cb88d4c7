// A loop that never hands anything on.
int top(int x) {
    while (true) {  // breaks endless-loop
        if (x > 100) break;
        x += x;
    }
    return x;
}
