// A macro that pastes a word together which the text does not show.
#define PASTED(a, b) a##b
#define BUFFER PASTED(n, ew)

int top(int x) {  // breaks foreign-code
    int *buffer = BUFFER int[4];
    buffer[0] = x;
    return buffer[0];
}
