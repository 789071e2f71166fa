// Trains in a thread of its own, so that one can draw meanwhile. It computes nothing itself: each step is one run of the
// graph step.onnx, whose outputs are handed in again.

const here = (name) => new URL(name, import.meta.url);

async function bytes(name, skip = 0) {
  const answer = await fetch(here(name));
  if (!answer.ok) throw new Error(`${name} is missing: ${answer.status}`);
  if (!name.endsWith(".gz")) return new Uint8Array(await answer.arrayBuffer());
  const unpacked = answer.body.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer()).subarray(skip);
}

let ort, about, step, network, state;
let images, labels, testImages, testLabels;
let done = 0;
let running = false;

const tensor = (data, shape) => new ort.Tensor("float32", data, shape);

async function begin() {
  try {
    ort = await import(here("ort.wasm.min.mjs"));
  } catch {
    throw new Error("onnxruntime-web is missing: these pages were made where npm could not get it");
  }
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = here("./").href;
  about = await (await fetch(here("about.json"))).json();
  const options = { executionProviders: ["wasm"] };
  step = await ort.InferenceSession.create(await bytes("step.onnx"), options);
  network = await ort.InferenceSession.create(await bytes("network.onnx"), options);
  await restart();
  postMessage({ kind: "ready", about, theta: state.theta.data });
}

async function restart() {
  const theta = new Float32Array((await bytes("theta.float32")).buffer);
  state = { theta: tensor(theta, [theta.length]) };
  for (const name of about.slots) state[name] = tensor(new Float32Array(theta.length), [theta.length]);
  done = 0;
}

async function load() {
  if (images) return;
  [images, labels, testImages, testLabels] = await Promise.all([
    bytes("train-images.gz"),
    bytes("train-labels-idx1-ubyte.gz", 8),
    bytes("t10k-images-idx3-ubyte.gz", 16),
    bytes("t10k-labels-idx1-ubyte.gz", 8),
  ]);
}

// An order of the samples that is the same each time: Fisher and Yates's, with the generator of Marsaglia, 2003.
function shuffled(count, seed) {
  const order = Uint32Array.from({ length: count }, (_, k) => k);
  for (let k = count - 1; k > 0; k--) {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    const other = (seed >>> 0) % (k + 1);
    [order[k], order[other]] = [order[other], order[k]];
  }
  return order;
}

function batch(rows) {
  const x = new Float32Array(rows.length * 784);
  const t = new BigInt64Array(rows.length);
  rows.forEach((row, k) => {
    for (let p = 0; p < 784; p++) x[k * 784 + p] = ((images[row * 196 + (p >> 2)] >> (2 * (p & 3))) & 3) / about.levels;
    t[k] = BigInt(labels[row]);
  });
  return { x: tensor(x, [rows.length, 784]), t: new ort.Tensor("int64", t, [rows.length]) };
}

async function train() {
  await load();
  if (done === about.steps) await restart();
  const perEpoch = about.steps / about.epochs;
  let order, losses = [], told = performance.now(), seconds = 0;
  while (running && done < about.steps) {
    const epoch = Math.floor(done / perEpoch), position = done % perEpoch;
    if (!order || position === 0) order = shuffled(labels.length, epoch + 1);
    const began = performance.now();
    const { x, t } = batch(order.subarray(position * about.batch, (position + 1) * about.batch));
    const number = new ort.Tensor("int64", BigInt64Array.of(BigInt(done)), [1]);
    const made = await step.run({ ...state, x, t, step: number });
    for (const name of Object.keys(state)) state[name] = made[`next.${name}`];
    seconds += (performance.now() - began) / 1000;
    losses.push(made.loss.data[0]);
    done++;
    if (performance.now() - told > 150 || done === about.steps) {
      postMessage({ kind: "steps", done, losses, seconds, theta: state.theta.data.slice() });
      [losses, told] = [[], performance.now()];
      await new Promise((next) => setTimeout(next)); // for a digit that has been drawn, or a pause
    }
  }
  if (done === about.steps) postMessage({ kind: "tested", accuracy: await test(), count: testLabels.length });
  running = false;
}

async function test() {
  let right = 0;
  for (let start = 0; start < testLabels.length; start += 1000) {
    const x = Float32Array.from(testImages.subarray(start * 784, (start + 1000) * 784), (grey) => grey / 255);
    const { label } = await ask(x);
    label.data.forEach((found, k) => (right += Number(found) === testLabels[start + k]));
  }
  return right / testLabels.length;
}

// One thing at a time: a graph is not asked anew before it has answered.
let last = Promise.resolve();
function ask(x) {
  const feeds = () => ({ x: tensor(x, [x.length / 784, 784]), theta: state.theta });
  last = last.catch(() => {}).then(() => network.run(feeds()));
  return last;
}

async function recognise(x) {
  const { probabilities } = await ask(x);
  postMessage({ kind: "digit", probabilities: probabilities.data });
}

const fail = (error) => postMessage({ kind: "error", message: error.message });

onmessage = ({ data }) => {
  if (data.kind === "pause") running = false;
  if (data.kind === "train" && !running) {
    running = true;
    train().catch(fail);
  }
  if (data.kind === "digit") recognise(data.x).catch(fail);
};
begin().catch(fail);
