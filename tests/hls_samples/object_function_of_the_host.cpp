// A function that is declared, and defined nowhere.
int read_sensor(int channel);

int top(int x) {  // breaks foreign-code
    return x + read_sensor(3);
}
