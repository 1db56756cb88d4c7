// Masks and Huffman codes, as docs/word-format.md and the file format have them.

const GROUP = 10;
const LONGEST = 15;
const [RAW, CONSTANT, HUFFMAN] = [0, 1, 2];

/** How many codes have each length, and the symbols by length and value. */
function canonical(lengths, longest = LONGEST) {
  const counts = new Array(longest + 1).fill(0);
  const order = [...lengths.keys()].filter((symbol) => lengths[symbol]);
  for (const symbol of order) counts[lengths[symbol]]++;
  order.sort((a, b) => lengths[a] - lengths[b] || a - b);
  return { counts, order };
}

function decodeSymbol(bits, { counts, order }) {
  let [code, first, index] = [0, 0, 0];
  for (let length = 1; length < counts.length; length++) {
    code += bits.bit();
    if (code - first < counts[length]) return order[index + code - first];
    index += counts[length];
    first = (first + counts[length]) * 2;
    code *= 2;
  }
  throw new Refusal("a Huffman text is altered");
}

/** Lengths of an optimal code of at most 15 bits: package-merge. */
function codeLengths(counts) {
  const used = [...counts.keys()].filter((symbol) => counts[symbol]);
  const lengths = new Array(counts.length).fill(0);
  used.sort((a, b) => counts[a] - counts[b] || a - b);
  const leaves = used.map((symbol) => ({ weight: counts[symbol], leaf: true }));
  const levels = [leaves];
  for (let level = 1; level < LONGEST; level++) {
    const below = levels[level - 1];
    const packages = [];
    for (let i = 0; i + 1 < below.length; i += 2) packages.push({ weight: below[i].weight + below[i + 1].weight });
    levels.push([...leaves, ...packages].sort((a, b) => a.weight - b.weight));
  }
  let taken = 2 * used.length - 2;
  for (const level of levels.reverse()) {
    const count = level.slice(0, taken).filter((item) => item.leaf).length;
    for (let i = 0; i < count; i++) lengths[used[i]]++;
    taken = 2 * (taken - count);
  }
  return lengths;
}

/** A cursor over the bytes of a section of masks. */
class Masks {
  constructor(bytes) {
    this.bits = new Bits(bytes);
  }

  byte() {
    return this.bits.field(8);
  }

  align() {
    this.bits.position = (this.bits.position + 7) & ~7;
  }

  fields(width, count) {
    const values = Array.from({ length: count }, () => this.bits.field(width));
    this.align();
    return values;
  }

  value(width) {
    return this.byte() + (width > 8 ? 256 * this.byte() : 0);
  }

  count() {
    let [value, scale, byte] = [0, 1, 0];
    do {
      byte = this.byte();
      value += (byte & 0x7f) * scale;
      scale *= 128;
    } while (byte >= 0x80);
    return value;
  }

  huffman(lengths, count) {
    const code = canonical(lengths);
    const symbols = new Uint16Array(count);
    for (let i = 0; i < count; i++) symbols[i] = decodeSymbol(this.bits, code);
    this.align();
    return symbols;
  }

  /** The masks of so many tasks, one array of 0 and 1 a task. */
  planes(tasks, weights) {
    const planes = [];
    for (let start = 0; start < tasks; start += GROUP) {
      const width = Math.min(GROUP, tasks - start);
      const symbols = this.symbols(weights, width);
      for (let task = 0; task < width; task++) planes.push(Uint8Array.from(symbols, (symbol) => (symbol >> task) & 1));
    }
    return planes;
  }

  symbols(count, width) {
    const plan = this.byte();
    const peeled = Array.from({ length: plan >> 4 }, () => this.value(width));
    const flags = [];
    let remaining = count;
    for (const _ of peeled) {
      flags.push(this.flags(remaining));
      remaining = flags.at(-1).reduce((sum, flag) => sum + flag, 0);
    }
    let symbols = this.rest(plan & 15, remaining, width);
    while (peeled.length) {
      const [value, others, inner] = [peeled.pop(), flags.pop(), symbols];
      let place = 0;
      symbols = Uint16Array.from(others, (other) => (other ? inner[place++] : value));
    }
    return symbols;
  }

  rest(kind, count, width) {
    if (kind === RAW) return this.fields(width, count);
    if (kind === CONSTANT) return new Uint16Array(count).fill(this.value(width));
    if (kind !== HUFFMAN) throw new Refusal(`masks: ${kind} is no kind of text`);
    return this.huffman(width <= 4 ? this.fields(4, 1 << width) : [...this.symbols(1 << width, 4)], count);
  }

  flags(count) {
    const plan = this.byte();
    const density = this.byte();
    const [low, inverted] = [plan >> 1, plan & 1];
    const unary = this.unary(this.count(), density);
    const flags = new Uint8Array(count).fill(inverted);
    if (low === 0) {
      unary.forEach((bit, place) => (flags[place] = bit ^ inverted));
      return flags;
    }
    const ends = [...unary.keys()].filter((place) => unary[place]);
    const lows = this.fields(low, ends.length);
    let [place, before] = [-1, -1];
    ends.forEach((end, i) => {
      place += (end - before - 1) * 2 ** low + lows[i] + 1;
      before = end;
      flags[place] = 1 - inverted;
    });
    return flags;
  }

  unary(size, density) {
    const ones = (byte) => byte.toString(2).replaceAll("0", "").length;
    const weights = Array.from({ length: 256 }, (_, byte) => density ** ones(byte) * (32 - density) ** (8 - ones(byte)));
    const lengths = density ? codeLengths(weights) : this.fields(4, 256);
    const blocks = this.huffman(lengths, (size + 7) >> 3);
    return Uint8Array.from({ length: size }, (_, place) => (blocks[place >> 3] >> (7 - (place & 7))) & 1);
  }
}
