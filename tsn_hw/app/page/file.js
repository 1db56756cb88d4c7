// Reads a .tsn file of version 2: digest, header, sections. The format stands in docs/word-format.md.

const MARK = "TSN2";

/** What the page says where it cannot go on. */
class Refusal extends Error {}

/** Bit fields of a section, most significant bit first. */
class Bits {
  constructor(bytes) {
    this.bytes = bytes;
    this.position = 0;
  }

  bit() {
    const byte = this.position >> 3;
    if (byte >= this.bytes.length) throw new Refusal("the file is cut within a section");
    return (this.bytes[byte] >> (7 - (this.position++ & 7))) & 1;
  }

  field(width) {
    let value = 0;
    for (let i = 0; i < width; i++) value = value * 2 + this.bit();
    return value;
  }

  /** Two's complement; beyond 2**53 a BigInt. */
  signed(width) {
    if (width === 0) return 0;
    if (width <= 53) {
      const value = this.field(width);
      return value >= 2 ** (width - 1) ? value - 2 ** width : value;
    }
    const high = BigInt(this.field(width - 32)) << 32n;
    const value = BigInt.asIntN(width, high | BigInt(this.field(32)));
    return BigInt.asIntN(53, value) === value ? Number(value) : value;
  }
}

function sha256(bytes) {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (root) => Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
  const constants = primes.map((p) => fraction(Math.cbrt(p)));
  const state = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));
  const padded = new Uint8Array(((bytes.length + 72) >> 6) << 6);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, bytes.length * 8);
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  const w = new Int32Array(64);
  for (let start = 0; start < padded.length; start += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(start + 4 * i);
    for (let i = 16; i < 64; i++) {
      const [a, b] = [w[i - 15], w[i - 2]];
      const low = turn(a, 7) ^ turn(a, 18) ^ (a >>> 3);
      w[i] = w[i - 16] + low + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ (b >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const first = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i]) | 0;
      const second = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i] = (state[i] + value) | 0));
  }
  return state.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

/** The text that bzip2 compressed. */
function inflate(bytes) {
  const bits = new Bits(bytes);
  if (String.fromCharCode(...bytes.slice(0, 3)) !== "BZh") throw new Refusal("the header is not compressed with bzip2");
  bits.position = 32;
  const text = [];
  while (bits.field(48) === 0x314159265359) inflateBlock(bits, text);
  return new TextDecoder().decode(new Uint8Array(text));
}

function inflateBlock(bits, text) {
  bits.field(33); // its checksum, which the file's digest covers, and a mark that nobody writes
  const origin = bits.field(24);
  const ranges = Array.from({ length: 16 }, () => bits.bit());
  const alphabet = [];
  ranges.forEach((used, high) => {
    if (used) for (let low = 0; low < 16; low++) if (bits.bit()) alphabet.push(16 * high + low);
  });
  const tables = bits.field(3);
  const order = Array.from({ length: tables }, (_, i) => i);
  const selectors = Array.from({ length: bits.field(15) }, () => {
    let place = 0;
    while (bits.bit()) place++;
    order.unshift(...order.splice(place, 1));
    return order[0];
  });
  const codes = Array.from({ length: tables }, () => {
    let length = bits.field(5);
    const lengths = Array.from({ length: alphabet.length + 2 }, () => {
      while (bits.bit()) length += bits.bit() ? -1 : 1;
      return length;
    });
    return canonical(lengths, 20);
  });
  const end = alphabet.length + 1;
  const block = [];
  for (let count = 0, run = 0, weight = 1, symbol = -1; symbol !== end; count++) {
    symbol = decodeSymbol(bits, codes[selectors[Math.floor(count / 50)]]);
    if (symbol <= 1) {
      run += weight << symbol;
      weight *= 2;
      continue;
    }
    for (; run; run--) block.push(alphabet[0]);
    weight = 1;
    if (symbol === end) continue;
    alphabet.unshift(...alphabet.splice(symbol - 1, 1));
    block.push(alphabet[0]);
  }
  unsort(block, origin, text);
}

/** Undoes the Burrows-Wheeler transform and the runs of four to 259 equal bytes. */
function unsort(block, origin, text) {
  const starts = new Int32Array(257);
  for (const byte of block) starts[byte + 1]++;
  for (let byte = 0; byte < 256; byte++) starts[byte + 1] += starts[byte];
  const next = new Int32Array(block.length);
  block.forEach((byte, place) => (next[starts[byte]++] = place));
  for (let place = next[origin], left = block.length, last = -1, same = 0; left--; place = next[place]) {
    const byte = block[place];
    if (same === 4) {
      for (let i = 0; i < byte; i++) text.push(last);
      same = 0;
      last = -1;
      continue;
    }
    same = byte === last ? same + 1 : 1;
    last = byte;
    text.push(byte);
  }
}

/** The header of a file, and its sections in their order. */
function unpack(bytes) {
  const mark = String.fromCharCode(...bytes.slice(0, 4));
  if (mark !== MARK) throw new Refusal("no .tsn file of version 2; of version 1 tsn-hw page FILE.tsn makes a page");
  const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true);
  const covered = new Uint8Array(bytes.length - 32);
  covered.set(bytes.slice(0, 8));
  covered.set(bytes.slice(40), 8);
  const digest = [...bytes.slice(8, 40)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (sha256(covered) !== digest) throw new Refusal("the file is damaged: its SHA-256 does not match");
  const header = JSON.parse(inflate(bytes.slice(40, 40 + size)));
  let start = 40 + size;
  const sections = header.sizes.map((length) => bytes.slice(start, (start += length)));
  return { header, sections };
}
