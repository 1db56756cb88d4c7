// The whole board in Verilator. Bytes of standard input come over its serial line, and what it sends goes to standard
// output, bit by bit in PERIOD cycles each. It ends with its input, and sleeps while nothing has happened for long.
#include <poll.h>
#include <unistd.h>

#include "Vtsn_board.h"
#include "verilated.h"

static Vtsn_board top;
static const long QUIET = 1L << 21;  // cycles, more than the board takes to forget a command that was broken off

// A byte that comes on the line tx, when its last bit has; else -1.
static int received() {
    static int wait = 0, bits = 0, shift = 0;
    if (bits == 0) {
        if (!top.tx) bits = 10, wait = PERIOD / 2;
        return -1;
    }
    if (wait-- > 0) return -1;
    wait = PERIOD - 1;
    shift = shift >> 1 | top.tx << 9;
    return --bits == 0 ? shift >> 1 & 0xFF : -1;
}

int main() {
    int frame = 0, bits = 0, wait = 0;
    long still = 0;
    top.rx = 1;
    for (unsigned cycle = 0;; cycle++) {
        if (wait > 0) {
            wait--;
        } else if (bits > 0) {
            top.rx = frame & 1;
            frame >>= 1;
            bits--;
            wait = PERIOD - 1;
        } else if (cycle % 16 == 0) {
            pollfd input = {0, POLLIN, 0};
            if (poll(&input, 1, still > QUIET ? -1 : 0) > 0) {
                unsigned char letter;
                if (read(0, &letter, 1) != 1) break;
                frame = letter << 1 | 0x200;
                bits = 10;
                still = 0;
            }
        }
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
        const int letter = received();
        still = letter < 0 ? still + 1 : 0;
        if (letter >= 0) {
            const unsigned char sent = (unsigned char)letter;
            if (write(1, &sent, 1) != 1) break;
        }
    }
    top.final();
    return 0;
}
