/* Files, as far as dump.c needs them: see riscv.c. */
#include <stddef.h>

typedef struct {
    int number;
    size_t used;
    unsigned char bytes[4096]; /* written, and not yet sent */
} FILE;

FILE *fopen(const char *name, const char *mode);
size_t fread(void *to, size_t size, size_t count, FILE *file);
size_t fwrite(const void *from, size_t size, size_t count, FILE *file);
int fclose(FILE *file);
