/* ESP-IDF starts here; main.c is self_test. */
int self_test(void);
void app_main(void);

void app_main(void) { self_test(); }
