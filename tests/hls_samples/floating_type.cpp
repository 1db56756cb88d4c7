// This design is one of integers.
int top(int x) {
    const double scale = x;  // breaks floating-point
    return static_cast<int>(scale);
}
