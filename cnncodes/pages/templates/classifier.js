// The page of a classifier: decodes what it is given, runs the model on it, and shows the answers. Nothing is sent.

const facts = JSON.parse(document.getElementById("facts").textContent);
const $ = (id) => document.getElementById(id);
const BITS = 15; // that a character holds
const SHOWN_CLASSES = 3;
const MAX_PREVIEW = 320; // pixels
const HEAT_SIDE = 224; // pixels
const FOR = [215, 25, 28], AGAINST = [44, 90, 180], STRONGEST = 0.65; // as pictures of the program have them
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
  const bytes = new Uint8Array(Math.floor((text.length * BITS) / 8));
  let buffer = 0, held = 0, at = 0;
  for (let i = 0; i < text.length; i++) {
    buffer = (buffer << BITS) | (text.charCodeAt(i) - facts.first);
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

function drawn(picture, ground) {
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  if (ground) {
    context.fillStyle = ground;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}

// What clear pixels of a picture are laid over: white, or black if nothing of a white picture would be seen.
function overGround(picture) {
  const onWhite = drawn(picture, "white");
  if (!onWhite.every((value) => value >= facts.paper)) return { data: onWhite, ground: "white" };
  const opacities = drawn(picture, null).filter((_, i) => i % 4 === 3);
  if (opacities.every((value) => value === opacities[0])) return { data: onWhite, ground: "white" };
  return { data: drawn(picture, "black"), ground: "black" };
}

// Red, green and blue of a picture; a large one is halved first, as the program does when it decodes.
function pixelsOf(picture, width, height, least) {
  let halved = 1;
  while (halved < 8 && Math.min(width, height) / (2 * halved) >= least) halved *= 2;
  canvas.width = Math.max(1, Math.round(width / halved));
  canvas.height = Math.max(1, Math.round(height / halved));
  const { data, ground } = overGround(picture);
  const pixels = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    pixels[to] = data[from];
    pixels[to + 1] = data[from + 1];
    pixels[to + 2] = data[from + 2];
  }
  return { images: new ort.Tensor("uint8", pixels, [1, canvas.height, canvas.width, 3]), ground };
}

// What each place adds to the value of a class above the mean of the others, by layer; and what comes from no place.
function heatOf(outputs, label) {
  const k = facts.constants.length;
  const counts = facts.constants.map((_, i) => {
    if (k === 1) return label === 1 ? 1 : -1;
    return i === label ? 1 : -1 / (k - 1);
  });
  const maps = [];
  for (let i = 0; outputs[`evidence${i}`]; i++) {
    const { data, dims } = outputs[`evidence${i}`];
    const [height, width] = dims.slice(2);
    const places = new Float32Array(height * width);
    for (let at = 0; at < data.length; at++) places[at % places.length] += counts[Math.floor(at / places.length)] * data[at];
    maps.push({ height, width, places });
  }
  const constant = facts.constants.reduce((sum, value, i) => sum + counts[i] * value, 0);
  return maps.length ? { maps, constant } : null;
}

// A map at a place between its places, which are squares: as a smooth picture of it is made.
function between({ height, width, places }, y, x) {
  const at = (share, n) => {
    const place = Math.min(Math.max(share * n - 0.5, 0), n - 1);
    const low = Math.min(Math.floor(place), Math.max(n - 2, 0));
    return [low, Math.min(low + 1, n - 1), place - low];
  };
  const [top, bottom, down] = at(y, height);
  const [left, right, along] = at(x, width);
  const row = (line) => places[line * width + left] * (1 - along) + places[line * width + right] * along;
  return row(top) * (1 - down) + row(bottom) * down;
}

// The part of a picture that the network sees, as x, y, width and height; beyond the picture it is a border.
function seenOf(width, height) {
  const { mode, share } = facts.seen;
  if (mode === "squash") return [0, 0, width, height];
  const side = mode === "pad" ? Math.max(width, height) : Math.min(width, height) * share;
  return [(width - side) / 2, (height - side) / 2, side, side];
}

// What the network sees of a picture, red where it speaks for the class, blue where for others.
function drawHeat(picture, ground, { maps, constant }) {
  const heated = element("canvas", "preview heat");
  heated.width = heated.height = HEAT_SIDE;
  const brush = heated.getContext("2d");
  const [x, y, width, height] = seenOf(picture.width, picture.height);
  brush.fillStyle = "gray";
  brush.fillRect(0, 0, HEAT_SIDE, HEAT_SIDE);
  brush.setTransform(HEAT_SIDE / width, 0, 0, HEAT_SIDE / height, (-x * HEAT_SIDE) / width, (-y * HEAT_SIDE) / height);
  brush.fillStyle = ground;
  brush.fillRect(0, 0, picture.width, picture.height);
  brush.drawImage(picture, 0, 0);
  const image = brush.getImageData(0, 0, HEAT_SIDE, HEAT_SIDE);
  const heat = new Float32Array(HEAT_SIDE * HEAT_SIDE);
  let largest = 1e-12;
  for (let at = 0; at < heat.length; at++) {
    const [down, along] = [Math.floor(at / HEAT_SIDE) + 0.5, (at % HEAT_SIDE) + 0.5];
    heat[at] = maps.reduce((sum, map) => sum + between(map, down / HEAT_SIDE, along / HEAT_SIDE), constant);
    largest = Math.max(largest, Math.abs(heat[at]));
  }
  for (let at = 0; at < heat.length; at++) {
    const strength = (STRONGEST * Math.abs(heat[at])) / largest;
    const colour = heat[at] > 0 ? FOR : AGAINST;
    const grey = (image.data[4 * at] + image.data[4 * at + 1] + image.data[4 * at + 2]) / 3;
    for (let i = 0; i < 3; i++) {
      const faded = (grey + image.data[4 * at + i]) / 2;
      image.data[4 * at + i] = faded + strength * (colour[i] - faded);
    }
  }
  brush.putImageData(image, 0, 0);
  return heated;
}

let queue = Promise.resolve(); // the runtime takes one image at a time

function answer(session, images) {
  const run = queue.then(async () => {
    const outputs = await session.run({ images });
    const shares = Array.from(outputs.probabilities.data);
    const order = shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a]);
    const novelty = outputs.novelty ? outputs.novelty.data[0] : null;
    return { order, shares, novelty, heat: heatOf(outputs, order[0]) };
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
    const share = percent(Math.min(Math.floor(100 * novelty), 99) / 100); // never all of them
    parts.push(element("span", "novel", `unlike all classes: more than ${share} of the training images look more familiar`));
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
      (failed ? `, ${failed} failed` : "") + `; ${seconds.toFixed(2)} s each`
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
  let picture = null;
  try {
    picture = await createImageBitmap(file);
    const scale = Math.min(1, MAX_PREVIEW / Math.max(picture.width, picture.height));
    const preview = element("canvas", "preview");
    [preview.width, preview.height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
    preview.getContext("2d").drawImage(picture, 0, 0, preview.width, preview.height);
    preview.setAttribute("role", "img");
    preview.setAttribute("aria-label", path);
    figure.firstChild.replaceWith(preview);
    const started = performance.now();
    const { images, ground } = pixelsOf(picture, picture.width, picture.height, facts.least);
    result.answer = await answer(session, images);
    if (result.answer.heat) {
      const heat = drawHeat(picture, ground, result.answer.heat);
      heat.setAttribute("role", "img");
      heat.setAttribute("aria-label", `where ${path} looks like ${facts.classes[result.answer.order[0]]}`);
      preview.after(heat);
      result.answer.heat = null; // it is drawn
      $("where-box").hidden = false;
    }
    result.seconds = (performance.now() - started) / 1000;
  } catch (error) {
    result.failure = picture ? `cannot be labelled: ${error.message ?? error}` : "cannot be read by this browser";
    caption.replaceChildren(element("b", "unsure", result.failure));
  }
  picture?.close();
  redraw();
}

let clearings = 0; // what was given before one is not gone on with

async function addAll(session, files) {
  const before = clearings;
  if (!files.length) $("status").textContent = "there is no image in what was given";
  for (const [path, file] of files) {
    if (clearings !== before) return;
    await add(session, path, file);
    await new Promise((done) => setTimeout(done)); // lets the page answer
  }
}

const UNREADABLE = new Blob([], { type: "image/unknown" }); // in place of what was dropped and cannot be opened

async function* childrenOf(folder) {
  if (folder.kind) return void (yield* folder.values());
  const reader = folder.createReader();
  for (;;) {
    const part = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!part.length) return;
    yield* part;
  }
}

// Files that were dropped, also those in folders. To a page that is a file itself, Chromium opens handles, not entries.
async function dropped(transfer) {
  const roots = [...transfer.items].filter((item) => item.kind === "file").map((item) => ({
    file: item.getAsFile(), // all at once: after the event there is nothing to be had
    entry: item.webkitGetAsEntry?.(),
    handle: item.getAsFileSystemHandle?.().catch(() => null),
  }));
  const found = [];
  async function walk(one, path) {
    try {
      if (one.kind === "file") found.push([path, await one.getFile()]);
      else if (one.isFile) found.push([path, await new Promise((done, failed) => one.file(done, failed))]);
      else for await (const child of childrenOf(one)) await walk(child, `${path}/${child.name}`);
    } catch {
      found.push([path, UNREADABLE]);
    }
  }
  for (const { file, entry, handle } of roots) {
    const root = (await handle) ?? entry;
    if (root) await walk(root, root.name);
    else if (file) found.push([file.name, file]);
  }
  return found;
}

const isImage = ([path, file]) => file.type.startsWith("image/") || /\.(jpe?g|png|webp|gif|bmp|avif|tiff?|heic)$/i.test(path);

const FORMULA = new RegExp(`^(?:${facts.formula})`, "s"); // what `predict` puts an apostrophe before

// A cell that a spreadsheet takes for text, not for a formula.
function cell(value) {
  const text = String(value ?? "");
  const safe = FORMULA.test(text) ? `'${text}` : text;
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
  $("camera").disabled = true; // until it is allowed or not
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    $("status").textContent = `the camera cannot be used: ${error.message}`;
    return;
  } finally {
    $("camera").disabled = false;
  }
  panel.hidden = false;
  $("camera").setAttribute("aria-pressed", "true");
  await video.play();
  while (!panel.hidden) {
    if (video.videoWidth) {
      const { images } = pixelsOf(video, video.videoWidth, video.videoHeight, Math.min(facts.least, MAX_FRAME));
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
    const dragged = (event, is) => {
      event.preventDefault();
      document.body.classList.toggle("dragged", is);
    };
    document.addEventListener("dragover", (event) => dragged(event, true));
    document.addEventListener("dragleave", (event) => dragged(event, event.relatedTarget !== null));
    document.addEventListener("drop", async (event) => {
      dragged(event, false);
      addAll(session, (await dropped(event.dataTransfer)).filter(isImage));
    });
    $("threshold").addEventListener("input", redraw);
    $("save").addEventListener("click", save);
    $("clear").addEventListener("click", () => {
      clearings += 1;
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
