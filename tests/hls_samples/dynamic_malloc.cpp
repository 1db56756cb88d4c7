// The same in the words of C.
int top(int x) {
    int *buffer = static_cast<int *>(malloc(4 * sizeof(int)));  // breaks dynamic-memory
    buffer[0] = x;
    return buffer[0];
}
