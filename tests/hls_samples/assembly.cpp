// Instructions of a processor.
int top(int x) {
    asm("nop");  // breaks assembly
    return x;
}
