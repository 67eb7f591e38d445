// The page of a classifier: decodes what it is given, runs the model on it, and shows the answers. Nothing is sent.

const facts = JSON.parse(document.getElementById("facts").textContent);
const $ = (id) => document.getElementById(id);
const DIGITS = facts.digits;
const BASE = DIGITS.length;
const BITS = 13; // that two digits hold
const SHOWN_CLASSES = 3;
const MAX_PREVIEW = 320; // pixels
const MAX_FRAME = 512; // pixels of the camera, of the shorter side

function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function percent(share) {
  return `${(100 * share).toFixed(0)}\u00a0%`;
}

async function unpacked(id) {
  const node = $(id);
  const text = node.textContent;
  node.remove(); // frees the text
  const values = new Uint8Array(128);
  for (let i = 0; i < BASE; i++) values[DIGITS.charCodeAt(i)] = i;
  const bytes = new Uint8Array(Math.floor(((text.length / 2) * BITS) / 8));
  let buffer = 0, held = 0, at = 0;
  for (let i = 0; i + 1 < text.length; i += 2) {
    buffer = (buffer << BITS) | (values[text.charCodeAt(i)] * BASE + values[text.charCodeAt(i + 1)]);
    for (held += BITS; held >= 8; at++) {
      held -= 8;
      bytes[at] = buffer >> held;
      buffer &= (1 << held) - 1;
    }
  }
  const stream = new Blob([bytes.subarray(0, facts.lengths[id])]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function load() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await unpacked("runtime");
  const model = await unpacked("model");
  return ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

const canvas = document.createElement("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });

// Red, green and blue of a picture over white; a large one is halved first, as the program does when it decodes.
function pixelsOf(picture, width, height, least) {
  let halved = 1;
  while (halved < 8 && Math.min(width, height) / (2 * halved) >= least) halved *= 2;
  canvas.width = Math.max(1, Math.round(width / halved));
  canvas.height = Math.max(1, Math.round(height / halved));
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const pixels = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    pixels[to] = data[from];
    pixels[to + 1] = data[from + 1];
    pixels[to + 2] = data[from + 2];
  }
  return new ort.Tensor("uint8", pixels, [1, canvas.height, canvas.width, 3]);
}

let queue = Promise.resolve(); // the runtime takes one image at a time

function answer(session, images) {
  const run = queue.then(async () => {
    const { probabilities, novelty } = await session.run({ images });
    const shares = Array.from(probabilities.data);
    const order = shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a]);
    return { order, shares, novelty: novelty ? novelty.data[0] : null };
  });
  queue = run.catch(() => {});
  return run;
}

const results = [];

function threshold() {
  return Number($("threshold").value) / 100;
}

function labelOf(result) {
  const { order, shares } = result.answer;
  return shares[order[0]] >= threshold() ? facts.classes[order[0]] : null;
}

function show(into, { order, shares, novelty }) {
  const label = shares[order[0]] >= threshold() ? facts.classes[order[0]] : null;
  const bars = order.slice(0, SHOWN_CLASSES).map((i) => {
    const bar = element("span", "bar");
    bar.style.setProperty("--share", percent(shares[i]).replace("\u00a0", ""));
    return element("li", "", bar, ` ${percent(shares[i])} ${facts.classes[i]}`);
  });
  const parts = [element("b", label === null ? "unsure" : "", label ?? "unsure"), element("ul", "bars", ...bars)];
  if (novelty !== null && novelty >= facts.novel) {
    parts.push(element("span", "novel", `unlike all classes: more than ${percent(novelty)} of the training images`));
  }
  into.replaceChildren(...parts);
}

function redraw() {
  $("threshold-value").textContent = percent(threshold());
  for (const result of results) if (result.answer) show(result.caption, result.answer);
  const unsure = results.filter((result) => result.answer && labelOf(result) === null).length;
  const failed = results.filter((result) => result.failure).length;
  const answered = results.length - failed;
  const seconds = results.reduce((sum, result) => sum + (result.seconds ?? 0), 0) / Math.max(1, answered);
  $("status").textContent = results.length
    ? `${answered} ${answered === 1 ? "image" : "images"}, ${unsure} unsure` +
      (failed ? `, ${failed} cannot be read` : "") + `; ${seconds.toFixed(2)} s each`
    : "";
  document.body.dataset.answered = results.filter((result) => result.answer || result.failure).length;
  for (const id of ["save", "clear"]) $(id).disabled = !results.length;
}

async function add(session, path, file) {
  const caption = element("div", "answer-of", "…");
  const name = element("span", "path", path);
  const figure = element("figure", "", element("span", "place"), element("figcaption", "", caption, name));
  const item = element("li", "", figure);
  $("results").append(item);
  const result = { path, caption, item };
  results.push(result);
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(1, MAX_PREVIEW / Math.max(picture.width, picture.height));
    const preview = element("canvas", "preview");
    [preview.width, preview.height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
    preview.getContext("2d").drawImage(picture, 0, 0, preview.width, preview.height);
    preview.setAttribute("role", "img");
    preview.setAttribute("aria-label", path);
    figure.firstChild.replaceWith(preview);
    const started = performance.now();
    const images = pixelsOf(picture, picture.width, picture.height, facts.least);
    picture.close();
    result.answer = await answer(session, images);
    result.seconds = (performance.now() - started) / 1000;
  } catch (error) {
    result.failure = String(error.message ?? error);
    caption.replaceChildren(element("b", "unsure", "cannot be read by this browser"));
  }
  redraw();
}

async function addAll(session, files) {
  for (const [path, file] of files) {
    await add(session, path, file);
    await new Promise((done) => setTimeout(done)); // lets the page answer
  }
}

// Files that were dropped, also those in folders.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => [file.name, file]);
  const found = [];
  async function walk(entry) {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push([entry.fullPath.replace(/^\//, ""), file]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!part.length) return;
      for (const one of part) await walk(one);
    }
  }
  for (const entry of entries) await walk(entry);
  return found;
}

const isImage = ([path, file]) => file.type.startsWith("image/") || /\.(jpe?g|png|webp|gif|bmp|avif|tiff?|heic)$/i.test(path);

// A cell that a spreadsheet takes for text, not for a formula.
function cell(value) {
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function table() {
  const rows = results.map((result) => {
    if (!result.answer) return [result.path, "", "", "", "", "failed"];
    const { order, shares, novelty } = result.answer;
    const label = labelOf(result);
    const probability = shares[order[0]].toPrecision(4);
    const status = label === null ? "unsure" : "labelled";
    return [result.path, label, probability, novelty === null ? "" : novelty.toPrecision(4), facts.classes[order[0]], status];
  });
  return [["path", "label", "probability", "novelty", "guess", "status"], ...rows]
    .map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function save() {
  const link = element("a");
  link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(table())}`;
  link.download = "predictions.csv";
  link.click();
}

async function camera(session) {
  const panel = $("camera-panel"), video = $("video");
  if (!panel.hidden) {
    for (const track of video.srcObject.getTracks()) track.stop();
    panel.hidden = true;
    $("camera").setAttribute("aria-pressed", "false");
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    $("status").textContent = `the camera cannot be used: ${error.message}`;
    return;
  }
  panel.hidden = false;
  $("camera").setAttribute("aria-pressed", "true");
  await video.play();
  while (!panel.hidden) {
    if (video.videoWidth) {
      const images = pixelsOf(video, video.videoWidth, video.videoHeight, Math.min(facts.least, MAX_FRAME));
      show($("camera-answer"), await answer(session, images));
    }
    await new Promise((done) => setTimeout(done, 100));
  }
}

const loading = performance.now();
$("status").textContent = "getting ready …";
load().then(
  (session) => {
    const choose = (id) => $(id).addEventListener("change", (event) => {
      const files = [...event.target.files].map((file) => [file.webkitRelativePath || file.name, file]);
      addAll(session, id === "folder" ? files.filter(isImage) : files);
      event.target.value = "";
    });
    choose("files");
    choose("folder");
    for (const id of ["files", "folder"]) $(`choose-${id}`).addEventListener("click", () => $(id).click());
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", async (event) => {
      event.preventDefault();
      addAll(session, (await dropped(event.dataTransfer)).filter(isImage));
    });
    $("threshold").addEventListener("input", redraw);
    $("save").addEventListener("click", save);
    $("clear").addEventListener("click", () => {
      results.length = 0;
      $("results").replaceChildren();
      redraw();
    });
    if (navigator.mediaDevices?.getUserMedia) {
      $("camera").hidden = false;
      $("camera").addEventListener("click", () => camera(session));
    }
    for (const node of document.querySelectorAll(".needs-model")) node.disabled = false;
    redraw();
    $("status").textContent = `ready, after ${((performance.now() - loading) / 1000).toFixed(1)} s`;
    document.body.dataset.ready = "yes";
  },
  (error) => {
    $("status").textContent = `this browser cannot run the model: ${error.message ?? error}`;
    document.body.dataset.ready = "no";
  },
);
