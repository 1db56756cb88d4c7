// Streams of the host.
#include <iostream>  // breaks include

int top(int x) { return x; }
