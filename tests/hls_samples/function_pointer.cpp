// A call of what is known at run time only.
int twice(int x) { return 2 * x; }

int top(int x) {
    int (*f)(int) = twice;  // breaks function-pointer
    return f(x);
}
