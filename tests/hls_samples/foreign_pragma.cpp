// A pragma of another tool.
int sum(const int (&x)[8]) {
    int total = 0;
#pragma omp parallel for  // breaks foreign-pragma
    for (int i = 0; i < 8; i++) total += x[i];
    return total;
}
