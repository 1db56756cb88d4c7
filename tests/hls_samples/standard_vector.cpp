// A container that grows.
int top(int x) {
    std::vector<int> values(4, x);  // breaks standard-library
    return values[0];
}
