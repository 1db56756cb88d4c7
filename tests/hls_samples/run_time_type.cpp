// Types are gone at run time.
struct shape {
    int sides;
};

bool top(const shape &x) {
    return typeid(x) == typeid(shape);  // breaks run-time-type
}
