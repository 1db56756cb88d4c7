// A network of a .tsn file, and the integers that a task computes: docs/arithmetic.md.

const INPUT = -1;
const SAFE = 2 ** 53;

const product = (numbers) => numbers.reduce((a, b) => a * b, 1);
const range = ([bits, signed]) => (signed ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1]);

/** The network of a file's bytes. */
function openNetwork(bytes) {
  const { header, sections } = unpack(bytes);
  const names = header.banks.flatMap((bank, b) => bank.flatMap(({ layer }) => [`${b}/${layer}/masks`, `${b}/${layer}/codes`, `${b}/${layer}/codebooks`]));
  names.push(...header.tasks.flatMap((entry, task) => [`${task}/scales`, `${task}/routing`, ...(entry.gate ? [`${task}/gate`] : [])]));
  if (names.length !== sections.length) throw new Refusal(`${sections.length} sections, must be ${names.length}`);
  const section = Object.fromEntries(names.map((name, i) => [name, sections[i]]));
  for (const layer of header.layers) {
    const known = ["Linear", "Conv2d", "MaxPool", "AvgPool", "Add", "Flatten", "Pad"];
    if (!known.includes(layer.kind)) throw new Refusal(`layer '${layer.name}': kind ${layer.kind} is not supported by this page`);
  }
  const banks = header.banks.map((bank, b) => {
    const members = [...header.tasks.keys()].filter((task) => header.tasks[task].bank === b);
    return Object.fromEntries(bank.map((words) => [words.layer, memory(header, words, members, (kind) => section[`${b}/${words.layer}/${kind}`])]));
  });
  const tasks = header.tasks.map((task, t) => ({ ...task, steps: steps(header, task, section[`${t}/scales`]) }));
  return { input: header.input, layers: header.layers, banks, tasks };
}

/** Weights of a layer in a bank: the centroid of every weight, and the mask of every task. */
function memory(header, words, members, section) {
  const layer = header.layers[words.layer];
  const count = product(weightShape(layer));
  if (words.centroid_bits > 32) throw new Refusal(`layer '${layer.name}': centroids of ${words.centroid_bits} bits`);
  const runners = [...members.keys()].filter((prefix) => header.tasks[members[prefix]].steps.some(([index]) => index === words.layer));
  const planes = new Masks(section("masks")).planes(runners.length, count);
  const books = members.map(() => []);
  const centroids = new Bits(section("codebooks"));
  words.entries.forEach((size, i) => {
    books[words.first + i] = Array.from({ length: size }, () => centroids.signed(words.centroid_bits));
  });
  const widths = books.map((book) => Math.max(1, Math.ceil(Math.log2(Math.max(1, book.length)))));
  const codes = new Bits(section("codes"));
  const values = new Int32Array(count);
  for (let weight = 0; weight < count; weight++) {
    const owner = planes.findIndex((plane) => plane[weight]);
    if (owner >= 0) values[weight] = books[runners[owner]][codes.field(widths[runners[owner]])];
  }
  return { values, masks: new Map(runners.map((prefix, i) => [members[prefix], planes[i]])) };
}

function weightShape(layer) {
  if (layer.kind === "Linear") return [layer.out_features, layer.in_features];
  return [layer.out_channels, layer.in_channels / layer.groups, ...layer.kernel];
}

/** What a task does in every layer that it runs: multipliers, offsets, shift and output format. */
function steps(header, task, packed) {
  const bits = new Bits(packed);
  return task.steps.map(([index, shift, multiplierBits, offsetBits, ...format]) => {
    const layer = header.layers[index];
    if (shift === undefined) return { index };
    const count = ["Linear", "Conv2d"].includes(layer.kind) ? weightShape(layer)[0] : 1;
    const vector = (width, neutral) => Array.from({ length: count }, () => (width ? bits.signed(width) : neutral));
    const multiplier = vector(multiplierBits, 1);
    return { index, shift, multiplier, offset: vector(offsetBits, 0), format: format.length ? format : null };
  });
}

/** Every layer that a task runs, with its integers: {name, kind, shape, format, values}. */
function runTask(net, task, input) {
  const made = new Map([[INPUT, { name: "input", kind: "", shape: net.input.shape, format: net.input.format, values: Float64Array.from(input) }]]);
  for (const step of net.tasks[task].steps) {
    const layer = net.layers[step.index];
    const sources = layer.inputs.map((source) => made.get(source));
    const { shape, values } = accumulate(net, task, step.index, sources);
    const done = step.shift === undefined ? { format: sources[0].format, values } : { format: step.format, values: requantize(layer, shape, values, step) };
    made.set(step.index, { name: layer.name, kind: layer.kind, shape, ...done });
  }
  return [...made.values()];
}

function accumulate(net, task, index, sources) {
  const layer = net.layers[index];
  const [{ shape, format, values: x }] = sources;
  switch (layer.kind) {
    case "Linear":
    case "Conv2d": {
      const { values, masks } = net.banks[net.tasks[task].bank][index];
      const mask = masks.get(task);
      const weights = Float64Array.from(values, (value, i) => (mask[i] ? value : 0));
      bounded(layer, Math.max(...range(format).map(Math.abs)), weights);
      return layer.kind === "Linear" ? linear(layer, x, weights) : convolve(layer, shape, x, weights);
    }
    case "MaxPool":
      return pool(layer, shape, x, Math.max, -Infinity);
    case "AvgPool":
      return pool(layer, shape, x, (a, b) => a + b, 0);
    case "Flatten":
      return { shape: [x.length], values: x };
    case "Pad":
      return pad(layer, shape, x);
    case "Add": {
      const finest = Math.min(...sources.map((source) => source.format[2]));
      const [a, b] = sources.map((source) => source.format[2] - finest);
      const other = sources[1].values;
      if (2 ** a + 2 ** b < SAFE / 2 ** 16) return { shape, values: x.map((value, i) => value * 2 ** a + other[i] * 2 ** b) };
      const [first, second] = [BigInt(a), BigInt(b)];
      return { shape, values: Array.from(x, (value, i) => (BigInt(value) << first) + (BigInt(other[i]) << second)) };
    }
    default:
      throw new Refusal(`layer '${layer.name}': kind ${layer.kind} is not supported by this page`);
  }
}

/** Refuses a layer whose sums a float64 might round. */
function bounded(layer, largest, weights) {
  const fan = weights.length / weightShape(layer)[0];
  for (let start = 0; start < weights.length; start += fan) {
    let sum = 0;
    for (let i = start; i < start + fan; i++) sum += Math.abs(weights[i]);
    if (sum * largest >= SAFE) throw new Refusal(`layer '${layer.name}': sums beyond 2**53`);
  }
}

function linear(layer, x, weights) {
  const values = new Float64Array(layer.out_features);
  for (let row = 0, i = 0; row < layer.out_features; row++) {
    let sum = 0;
    for (let column = 0; column < x.length; column++, i++) sum += weights[i] * x[column];
    values[row] = sum;
  }
  return { shape: [layer.out_features], values };
}

function convolve(layer, [, height, width], x, weights) {
  const [rows, columns] = layer.kernel;
  const [down, right] = layer.stride;
  const [top, left] = layer.padding;
  const [stretch, reach] = layer.dilation ?? [1, 1];
  const inputs = layer.in_channels / layer.groups;
  const outputs = layer.out_channels / layer.groups;
  const tall = Math.floor((height + 2 * top - stretch * (rows - 1) - 1) / down) + 1;
  const wide = Math.floor((width + 2 * left - reach * (columns - 1) - 1) / right) + 1;
  const values = new Float64Array(layer.out_channels * tall * wide);
  let place = 0;
  for (let channel = 0; channel < layer.out_channels; channel++) {
    const first = Math.floor(channel / outputs) * inputs;
    for (let y = 0; y < tall; y++) {
      for (let z = 0; z < wide; z++) {
        let sum = 0;
        let weight = channel * inputs * rows * columns;
        for (let source = first; source < first + inputs; source++) {
          for (let i = 0; i < rows; i++) {
            const row = y * down + i * stretch - top;
            for (let j = 0; j < columns; j++, weight++) {
              const column = z * right + j * reach - left;
              if (row >= 0 && row < height && column >= 0 && column < width) {
                sum += weights[weight] * x[(source * height + row) * width + column];
              }
            }
          }
        }
        values[place++] = sum;
      }
    }
  }
  return { shape: [layer.out_channels, tall, wide], values };
}

function pool(layer, [channels, height, width], x, join, start) {
  const [rows, columns] = layer.kernel;
  const [down, right] = layer.stride;
  const tall = Math.floor((height - rows) / down) + 1;
  const wide = Math.floor((width - columns) / right) + 1;
  const values = new Float64Array(channels * tall * wide).map((_, place) => {
    const [channel, rest] = [Math.floor(place / (tall * wide)), place % (tall * wide)];
    const [top, left] = [Math.floor(rest / wide) * down, (rest % wide) * right];
    let joined = start;
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) joined = join(joined, x[(channel * height + top + i) * width + left + j]);
    }
    return joined;
  });
  return { shape: [channels, tall, wide], values };
}

function pad(layer, [channels, height, width], x) {
  const [top, left, bottom, right] = layer.padding;
  const [tall, wide] = [top + height + bottom, left + width + right];
  const values = new Float64Array(channels * tall * wide);
  x.forEach((value, place) => {
    const [channel, rest] = [Math.floor(place / (height * width)), place % (height * width)];
    values[(channel * tall + top + Math.floor(rest / width)) * wide + left + (rest % width)] = value;
  });
  return { shape: [channels, tall, wide], values };
}

/** saturate(round((acc * multiplier + offset) / 2**shift)), half to even; by BigInt where a float64 is too short. */
function requantize(layer, shape, values, { shift, multiplier, offset, format }) {
  const [low, high] = format ? range(format) : [-(2 ** 31), 2 ** 31 - 1];
  const inner = product(shape.slice(1));
  const scale = 2 ** shift;
  return Float64Array.from(values, (value, place) => {
    const channel = multiplier.length === 1 ? 0 : Math.floor(place / inner);
    const [factor, plus] = [multiplier[channel], offset[channel]];
    if (typeof value === "bigint" || typeof plus === "bigint" || Math.abs(value * factor) + Math.abs(plus) >= SAFE) {
      return clamp(roundBig(BigInt(value) * BigInt(factor) + BigInt(plus), BigInt(shift)), low, high);
    }
    return clamp(roundEven((value * factor + plus) / scale), low, high);
  });
}

/** To the nearest integer, half to even. */
function roundEven(exact) {
  const floor = Math.floor(exact);
  const rest = exact - floor;
  return floor + (rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? 1 : 0);
}

function roundBig(value, shift) {
  if (shift === 0n) return Number(value);
  return Number((value + (1n << (shift - 1n)) - 1n + ((value >> shift) & 1n)) >> shift);
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high) + 0;
