// Two functions that call one another: no text of one line shows it.
static int odd(unsigned x);

static int even(unsigned x) {  // breaks recursion
    return x == 0 ? 1 : odd(x - 1);
}

static int odd(unsigned x) {  // breaks recursion
    return x == 0 ? 0 : even(x - 1);
}

int top(unsigned x) { return even(x); }
