// A pointer whose target is a pointer.
int top(int **x) {  // breaks pointer-to-pointer
    return x[0][0];
}
