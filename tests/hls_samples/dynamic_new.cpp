// Memory that is asked for at run time.
int top(int x) {
    int *buffer = new int[4];  // breaks dynamic-memory
    buffer[0] = x;
    return buffer[0];
}
