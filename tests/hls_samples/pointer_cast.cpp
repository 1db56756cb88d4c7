// Memory is no sequence of bytes.
int top(int &x) {
    return *reinterpret_cast<short *>(&x);  // breaks pointer-cast
}
