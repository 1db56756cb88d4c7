// There are no threads.
int top(int x) {
    thread_local int count = 0;  // breaks thread
    count += x;
    return count;
}
