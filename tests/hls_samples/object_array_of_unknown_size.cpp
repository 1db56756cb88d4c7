// An array whose size comes with the call.
int top(int count) {  // breaks dynamic-stack
    int buffer[count];
    for (int i = 0; i < count; i++) buffer[i] = i;
    return buffer[count - 1];
}
