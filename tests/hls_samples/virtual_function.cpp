// A call through a table of functions.
struct activation {
    virtual int of(int x) const { return x; }  // breaks virtual-function
};

int top(const activation &f, int x) { return f.of(x); }
