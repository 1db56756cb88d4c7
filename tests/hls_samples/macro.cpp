// What a macro hides is found where it is written.
#define BUFFER(count) new int[count]  // breaks dynamic-memory

int top(int x) {
    int *buffer = BUFFER(4);
    buffer[0] = x;
    return buffer[0];
}
