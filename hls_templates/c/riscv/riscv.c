/* What dump.c needs of a C library, and the start of a program on RV32 in qemu's user mode: calls of Linux. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { OPENAT = 56, CLOSE = 57, READ = 63, WRITE = 64, EXIT = 93 };
enum { THIS_FOLDER = -100, CREATE_AND_WRITE = 01101, READ_AND_WRITE_BY_ALL = 0666 };

extern int main(void);
void riscv_main(void);

__asm__(".globl _start\n"
        "_start: .option push\n"
        ".option norelax\n"
        "la gp, __global_pointer$\n"
        ".option pop\n"
        "j riscv_main\n");

static int32_t call(int32_t number, intptr_t a, intptr_t b, intptr_t c, intptr_t d) {
    register intptr_t a7 __asm__("a7") = number, a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
    register intptr_t a3 __asm__("a3") = d;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3) : "memory");
    return (int32_t)a0;
}

void riscv_main(void) {
    call(EXIT, main(), 0, 0, 0);
    for (;;) {
    }
}

void *memcpy(void *to, const void *from, size_t size) {
    unsigned char *target = (unsigned char *)to;
    const unsigned char *source = (const unsigned char *)from;
    for (size_t i = 0; i < size; i++) {
        target[i] = source[i];
    }
    return to;
}

void *memset(void *to, int byte, size_t size) {
    unsigned char *target = (unsigned char *)to;
    for (size_t i = 0; i < size; i++) {
        target[i] = (unsigned char)byte;
    }
    return to;
}

FILE *fopen(const char *name, const char *mode) {
    static FILE files[2];
    static int used;
    FILE *file = &files[used++];
    int flags = mode[0] == 'w' ? CREATE_AND_WRITE : 0;
    file->number = call(OPENAT, THIS_FOLDER, (intptr_t)name, flags, READ_AND_WRITE_BY_ALL);
    return file->number < 0 ? NULL : file;
}

size_t fread(void *to, size_t size, size_t count, FILE *file) {
    return call(READ, file->number, (intptr_t)to, (intptr_t)(size * count), 0) == (int32_t)(size * count) ? count : 0;
}

static int send(FILE *file) {
    size_t used = file->used;
    file->used = 0;
    return call(WRITE, file->number, (intptr_t)file->bytes, (intptr_t)used, 0) == (int32_t)used ? 0 : -1;
}

size_t fwrite(const void *from, size_t size, size_t count, FILE *file) {
    if (file->used + size * count > sizeof file->bytes && send(file) != 0) {
        return 0;
    }
    memcpy(file->bytes + file->used, from, size * count);
    file->used += size * count;
    return count;
}

int fclose(FILE *file) {
    int status = send(file);
    return call(CLOSE, file->number, 0, 0, 0) == 0 ? status : -1;
}
