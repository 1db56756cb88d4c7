// breaks does-not-compile: a stream that nobody has declared
int top(int x) {
    return source.read() + x;  // breaks does-not-compile
}
