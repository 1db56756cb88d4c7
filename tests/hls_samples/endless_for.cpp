// The same, written as a for.
int top(int x) {
    for (int i = 0;; i++) {  // breaks endless-loop
        if (i > x) return i;
    }
}
