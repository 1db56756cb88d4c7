// A number with a point makes the whole product one.
int top(int x) {
    return static_cast<int>(x * 0.5);  // breaks floating-point
}
