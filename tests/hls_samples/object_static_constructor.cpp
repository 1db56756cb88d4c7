// breaks static-constructor: the table is computed before the top function is called
static int square(int x) { return x * x; }

static const int table[2] = {square(3), square(4)};

int top(int x) { return table[x & 1]; }
