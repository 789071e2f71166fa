// What one sees of the training, which goes on in worker.mjs.

const element = (name) => document.getElementById(`training-${name}`);
const [go, progress, status, said] = ["go", "progress", "status", "said"].map(element);
const [digit, bars, loss, weights] = ["digit", "bars", "loss", "weights"].map((name) =>
  element(name).getContext("2d", { willReadFrequently: name === "digit" }),
);
const SIZE = 280;
const ORANGE = [230, 97, 1];
const VIOLET = [94, 60, 153];

let about;
let losses = [];
let training = false;

const worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });
worker.onmessage = ({ data }) => answers[data.kind](data);
worker.onerror = () => answers.error({ message: "the program that trains cannot be loaded" });

const answers = {
  ready(data) {
    about = data.about;
    go.disabled = false;
    status.textContent = `784-128-10, ${about.steps} steps of Adam with ${about.batch} images each: not trained yet.`;
    drawWeights(data.theta);
    recognise();
  },
  steps(data) {
    if (data.done <= data.losses.length) losses = [];
    losses.push(...data.losses);
    progress.value = data.done / about.steps;
    status.textContent = `Step ${data.done} of ${about.steps}, loss ${losses.at(-1).toFixed(3)}.`;
    drawLoss();
    drawWeights(data.theta);
    recognise();
  },
  tested(data) {
    label(false);
    go.textContent = "Train again";
    const percent = (100 * data.accuracy).toFixed(2);
    status.textContent = `${percent} % of the ${data.count.toLocaleString("en")} test images are recognised.`;
  },
  digit(data) {
    drawBars([...data.probabilities]);
  },
  error(data) {
    go.disabled = true;
    status.textContent = `It does not work here: ${data.message}.`;
  },
};

function label(on) {
  training = on;
  go.textContent = on ? "Pause" : "Go on";
}

go.onclick = () => {
  if (!training && progress.value === 1) progress.value = 0;
  if (!training && !losses.length) status.textContent = "The images are loaded.";
  label(!training);
  worker.postMessage({ kind: training ? "train" : "pause" });
};

// ---- The digit

let pen = null;
const place = (event) => {
  const box = digit.canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * SIZE) / box.width, ((event.clientY - box.top) * SIZE) / box.height];
};

digit.canvas.onpointerdown = (event) => {
  digit.canvas.setPointerCapture(event.pointerId);
  pen = place(event);
  stroke(event);
};
digit.canvas.onpointermove = (event) => pen && stroke(event);
digit.canvas.onpointerup = digit.canvas.onpointercancel = () => (pen = null);
element("clear").onclick = () => {
  digit.clearRect(0, 0, SIZE, SIZE);
  recognise();
};

function stroke(event) {
  const next = place(event);
  Object.assign(digit, { strokeStyle: "#fff", lineWidth: 22, lineCap: "round" });
  digit.beginPath();
  digit.moveTo(...pen);
  digit.lineTo(...next);
  digit.stroke();
  pen = next;
  recognise();
}

// As in MNIST: the digit fills 20 by 20 pixels, and its centre of mass is the middle of 28 by 28.
function asMnist() {
  const ink = digit.getImageData(0, 0, SIZE, SIZE).data;
  let [left, right, top, bottom, mass, x, y] = [SIZE, -1, SIZE, -1, 0, 0, 0];
  for (let k = 0; k < SIZE * SIZE; k++) {
    const [grey, i, j] = [ink[4 * k + 3], k % SIZE, Math.floor(k / SIZE)];
    if (!grey) continue;
    [left, right, top, bottom] = [Math.min(left, i), Math.max(right, i), Math.min(top, j), Math.max(bottom, j)];
    [mass, x, y] = [mass + grey, x + grey * i, y + grey * j];
  }
  if (!mass) return null;
  const scale = 20 / (Math.max(right - left, bottom - top) + 1);
  const small = new OffscreenCanvas(28, 28).getContext("2d");
  small.setTransform(scale, 0, 0, scale, 14 - (scale * x) / mass, 14 - (scale * y) / mass);
  Object.assign(small, { imageSmoothingQuality: "high" });
  small.drawImage(digit.canvas, 0, 0);
  const made = small.getImageData(0, 0, 28, 28).data;
  return Float32Array.from({ length: 784 }, (_, k) => made[4 * k + 3] / 255);
}

function recognise() {
  const x = asMnist();
  if (x && about) worker.postMessage({ kind: "digit", x });
  else drawBars(Array(10).fill(0));
}

// ---- Pictures

const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--pst-color-text-base") || "#222";
const accent = () => getComputedStyle(document.documentElement).getPropertyValue("--pst-color-primary") || "#06c";

function drawBars(probabilities) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  bars.clearRect(0, 0, SIZE, SIZE);
  bars.font = "15px sans-serif";
  probabilities.forEach((p, k) => {
    const y = 4 + k * 27.4;
    bars.fillStyle = ink();
    bars.fillText(k, 8, y + 18);
    if (p) bars.fillText(`${(100 * p).toFixed(0)} %`, SIZE - 48, y + 18);
    bars.fillStyle = accent();
    bars.globalAlpha = k === best ? 1 : 0.4;
    bars.fillRect(26, y + 3, p * (SIZE - 84), 19);
    bars.globalAlpha = 1;
  });
  const sure = probabilities[best];
  said.textContent = sure ? `The network says ${best}, with ${(100 * sure).toFixed(0)} %.` : "What the network takes it for.";
}

function drawLoss() {
  const [low, high] = [-2, 0.5]; // powers of ten
  const height = (value) => ((high - Math.log10(Math.max(value, 1e-9))) / (high - low)) * (SIZE - 20) + 10;
  loss.clearRect(0, 0, SIZE, SIZE);
  loss.font = "13px sans-serif";
  for (const value of [1, 0.1, 0.01]) {
    loss.fillStyle = ink();
    loss.fillText(value, 6, height(value) - 4);
    loss.globalAlpha = 0.25;
    loss.fillRect(0, height(value), SIZE, 1);
    loss.globalAlpha = 1;
  }
  loss.strokeStyle = accent();
  loss.beginPath();
  losses.forEach((value, k) => loss.lineTo((k * SIZE) / about.steps, height(value)));
  loss.stroke();
}

function drawWeights(theta) {
  const W = theta.subarray(...about.places["0.W"]);
  const units = W.length / 784;
  const picture = new ImageData(28, 28);
  const small = new OffscreenCanvas(28, 28);
  weights.clearRect(0, 0, SIZE, SIZE);
  weights.imageSmoothingEnabled = false;
  for (let u = 0; u < 16; u++) {
    let most = 0;
    for (let p = 0; p < 784; p++) most = Math.max(most, Math.abs(W[p * units + u]));
    for (let p = 0; p < 784; p++) {
      const w = W[p * units + u] / most;
      picture.data.set([...(w > 0 ? ORANGE : VIOLET), 255 * Math.abs(w)], 4 * p);
    }
    small.getContext("2d").putImageData(picture, 0, 0);
    weights.drawImage(small, (u % 4) * 70 + 3, Math.floor(u / 4) * 70 + 3, 64, 64);
  }
}
