// breaks foreign-code: the variable is defined by the host
extern int shared_with_the_host;

int top(int x) { return x + shared_with_the_host; }
