// A thread of an operating system.
void run(int x);

void top(int x) {
    std::thread worker(run, x);  // breaks standard-library
    worker.join();
}
