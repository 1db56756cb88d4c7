// What is read here has never been written.
int top(int x) {
    int total;
    if (x > 3) total = x;
    for (int i = 0; i < 3; i++) {
        int x = i;  // breaks compiler-warning
        total = x;
    }
    return total;
}
