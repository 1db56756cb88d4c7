// A terminal.
int top(int x) {
    printf("%d", x);  // breaks system-call
    return x;
}
