// What a person does with the page: load, draw, switch, look.

const element = (id) => document.getElementById(id);
const [canvas, taskChoice, sampleChoice] = [element("draw"), element("task"), element("sample")];
const OWN = "your drawing";
let net = null;
let integers = []; // what the network reads: channel by channel, row by row
let cursor = 0;
let samples = {}; // by task: what the page brought along for its own network

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const isImage = () => net.input.shape.length === 3 && [1, 3].includes(net.input.shape[0]) && Math.min(...net.input.shape.slice(1)) > 1;

/** A pixel of 0 to 255 as the network reads it: real = pixel / 256. */
const fromPixel = (pixel) => clamp(roundEven(pixel * 2 ** (-8 - net.input.format[2])), ...range(net.input.format));

/** Runs something, and tells what stops it. */
function attempt(work) {
  element("trouble").textContent = "";
  try {
    work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    element("trouble").textContent = error.message;
  }
}

function option(text, value) {
  const made = document.createElement("option");
  [made.textContent, made.value] = [text, value];
  return made;
}

function load(bytes, name, brought = {}) {
  net = openNetwork(bytes);
  samples = brought;
  const weights = net.layers.filter((layer) => layer.kind === "Linear" || layer.kind === "Conv2d").length;
  element("about").textContent = `${name}: ${net.tasks.length} tasks, ${weights} layers with weights (heads included), input ${net.input.shape.join(" x ")}, ${bytes.length.toLocaleString("en")} bytes`;
  taskChoice.replaceChildren(...net.tasks.map((task, i) => option(`${i}: ${task.name}`, i)));
  integers = new Array(product(net.input.shape)).fill(0);
  element("board").hidden = !isImage();
  cursor = 0;
  chooseTask();
}

function chooseTask() {
  const found = samples[taskChoice.value] ?? [];
  element("taken").hidden = !found.length;
  sampleChoice.replaceChildren(option(OWN, ""), ...found.map(({ label }, i) => option(`${i + 1} (${label})`, i)));
  if (found.length) sampleChoice.value = 0;
  chooseSample();
}

function chooseSample() {
  const sample = samples[taskChoice.value]?.[sampleChoice.value];
  if (sample) integers = sample.integers.slice();
  show();
}

function show() {
  if (!net) return;
  attempt(() => {
    const layers = runTask(net, Number(taskChoice.value), integers);
    const { values } = layers.at(-1);
    const { classes } = net.tasks[taskChoice.value];
    const best = values.indexOf(Math.max(...values));
    element("answer").textContent = `class ${classes[best]}`;
    const [low, high] = [Math.min(0, ...values), Math.max(1, ...values)];
    element("logits").replaceChildren(...classes.map((name, i) => bar(name, values[i], (values[i] - low) / (high - low), i === best)));
    element("layers").replaceChildren(...layers.map(map));
  });
  if (isImage()) paint(canvas, net.input.shape, integers, cursor);
}

function bar(name, value, share, won) {
  const row = document.createElement("tr");
  const cells = ["th", "td", "td"].map((tag) => row.appendChild(document.createElement(tag)));
  cells[0].scope = "row";
  cells[0].textContent = name;
  cells[1].textContent = value;
  cells[1].className = "number";
  const line = cells[2].appendChild(document.createElement("span"));
  line.style.width = `${(10 * share).toFixed(2)}rem`;
  row.className = won ? "won" : "";
  return row;
}

/** A layer: its integers as a picture, and as text when asked for. */
function map(layer) {
  const figure = document.createElement("figure");
  figure.className = "map";
  const picture = figure.appendChild(document.createElement("canvas"));
  picture.setAttribute("role", "img");
  const format = layer.format ? `${layer.format[0]} bits${layer.format[1] ? ", signed" : ""}` : "logits";
  const told = `${layer.name}${layer.kind ? `: ${layer.kind}` : ""}, ${layer.shape.join(" x ")}, ${format}`;
  picture.setAttribute("aria-label", told);
  tiles(picture, layer);
  figure.appendChild(document.createElement("figcaption")).textContent = told;
  const details = figure.appendChild(document.createElement("details"));
  details.appendChild(document.createElement("summary")).textContent = `the ${layer.values.length} integers`;
  details.addEventListener("toggle", () => {
    if (details.children.length > 1) return;
    const text = details.appendChild(document.createElement("pre"));
    text.tabIndex = 0;
    const width = layer.shape.length === 3 ? layer.shape[2] : 16;
    const lines = [];
    for (let i = 0; i < layer.values.length; i += width) lines.push(Array.from(layer.values.slice(i, i + width)).join(" "));
    text.textContent = lines.join("\n");
  });
  return figure;
}

/** All channels of a layer beside one another, or its numbers in rows. */
function tiles(picture, { shape, values }) {
  const [channels, height, width] = shape.length === 3 ? shape : [1, Math.ceil(values.length / 16), Math.min(16, values.length)];
  const across = Math.ceil(Math.sqrt((channels * height) / width));
  const down = Math.ceil(channels / across);
  [picture.width, picture.height] = [across * (width + 1) - 1, down * (height + 1) - 1];
  const image = new ImageData(picture.width, picture.height);
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  values.forEach((value, place) => {
    const [channel, rest] = [Math.floor(place / (height * width)), place % (height * width)];
    const x = (channel % across) * (width + 1) + (rest % width);
    const y = Math.floor(channel / across) * (height + 1) + Math.floor(rest / width);
    const grey = high > low ? (255 * (value - low)) / (high - low) : 0;
    image.data.set([grey, grey, grey, 255], 4 * (y * picture.width + x));
  });
  picture.getContext("2d").putImageData(image, 0, 0);
}

function paint(target, [channels, height, width], values, marked) {
  [target.width, target.height] = [width, height];
  const image = new ImageData(width, height);
  const most = fromPixel(255);
  for (let place = 0; place < height * width; place++) {
    const colour = [0, 1, 2].map((c) => (255 * values[(channels === 3 ? c : 0) * height * width + place]) / most);
    image.data.set([...colour, 255], 4 * place);
  }
  if (document.activeElement === target) image.data.set([230, 159, 0, 255], 4 * marked);
  target.getContext("2d").putImageData(image, 0, 0);
}

function put(place, value) {
  const [channels, height, width] = net.input.shape;
  for (let channel = 0; channel < channels; channel++) integers[channel * height * width + place] = value;
  sampleChoice.value = "";
  cursor = place;
}

function stroke(event) {
  if (!net || !event.buttons) return;
  const [, height, width] = net.input.shape;
  const box = canvas.getBoundingClientRect();
  const [x, y] = [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  const radius = Math.max(0.71, width / 18); // the pixel below the pointer at least
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (Math.hypot(column + 0.5 - x, row + 0.5 - y) <= radius) put(row * width + column, fromPixel(event.buttons & 2 ? 0 : 255));
    }
  }
  show();
}

function key(event) {
  const [, height, width] = net.input.shape;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width };
  if (event.key in moves) cursor = (cursor + moves[event.key] + height * width) % (height * width);
  else if (event.key === " ") put(cursor, fromPixel(event.shiftKey ? 0 : 255));
  else return;
  event.preventDefault();
  show();
}

/** An image file, brought to the size of the input. */
async function picture(file) {
  if (!net || !isImage()) throw new Refusal("load a network that reads images first");
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Refusal(`${file.name}: neither a .tsn file nor an image`);
  });
  const [channels, height, width] = net.input.shape;
  const small = Object.assign(document.createElement("canvas"), { width, height });
  const context = small.getContext("2d");
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  for (let place = 0; place < height * width; place++) {
    const [r, g, b] = data.slice(4 * place, 4 * place + 3);
    const colours = channels === 3 ? [r, g, b] : [0.299 * r + 0.587 * g + 0.114 * b];
    colours.forEach((value, c) => (integers[c * height * width + place] = fromPixel(Math.round(value))));
  }
  sampleChoice.value = "";
  show();
}

async function take(file) {
  if (!file) return;
  try {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const isNetwork = String.fromCharCode(...bytes.slice(0, 3)) === "TSN" || file.name.endsWith(".tsn");
    if (isNetwork) attempt(() => load(bytes, file.name));
    else {
      attempt(() => {});
      await picture(file);
    }
  } catch (error) {
    attempt(() => {
      throw error;
    });
  }
}

taskChoice.addEventListener("change", chooseTask);
sampleChoice.addEventListener("change", chooseSample);
canvas.addEventListener("pointerdown", (event) => {
  canvas.focus();
  stroke(event);
});
canvas.addEventListener("pointermove", stroke);
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("keydown", key);
for (const event of ["focus", "blur"]) canvas.addEventListener(event, () => net && paint(canvas, net.input.shape, integers, cursor));
element("clear").addEventListener("click", () => {
  if (!net) return;
  integers.fill(0);
  sampleChoice.value = "";
  show();
});
element("file").addEventListener("change", (event) => take(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}
element("about").textContent = "Choose a network: a .tsn file of tsn-hw.";
if (given) attempt(() => load(bytesOf(given.file), given.name, given.samples));
