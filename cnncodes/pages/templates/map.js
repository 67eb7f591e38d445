"use strict";
// The map: a point for each image. Pointer, finger or arrow keys choose one; wheel, pinch, keys and buttons zoom.

if (document.getElementById("map")) {
  const SHAPES = [
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z", // circle
    "M-4.5-4.5h9v9h-9z", // square
    "M0-5.5L5.5 4.5H-5.5z", // triangle
    "M0-6L6 0L0 6L-6 0z", // diamond
  ];
  const HIT_RADIUS = 16; // pixels around a point within which the pointer chooses it
  const MAX_ZOOM = 60;
  const canvas = document.getElementById("map");
  const context = canvas.getContext("2d");
  const tip = document.getElementById("tip");
  const status = document.getElementById("status");
  const points = report.images.filter((image) => image.x !== null);
  const paths = SHAPES.map((shape) => new Path2D(shape));
  const hidden = new Set();
  const view = { zoom: 1, x: 0.5, y: 0.5 }; // magnification, and the place in the middle
  const pointers = new Map();
  const sheet = new Image();
  let chosen = null;
  let pictures = false;
  let mistakes = false;
  let moved = 0;

  const colourOf = (number) => report.colours[number % report.colours.length];
  const shapeOf = (number) => (number + Math.floor(number / report.colours.length)) % SHAPES.length;
  const shows = (image) => !hidden.has(image.label) && (!mistakes || (image.predicted >= 0 && image.predicted !== image.label));
  const height = Math.max(0.01, 2 * Math.max(...points.map((image) => Math.abs(image.y - 0.5)))); // the width is 1
  const unit = () => Math.min(canvas.clientWidth, canvas.clientHeight / height) * 0.94 * view.zoom; // in pixels
  const across = (image) => (image.x - view.x) * unit() + canvas.clientWidth / 2;
  const down = (image) => (image.y - view.y) * unit() + canvas.clientHeight / 2;
  const size = () => Math.min(report.side, 22 + 6 * view.zoom); // of a picture, in pixels

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const [ink, panel] = [style.getPropertyValue("--ink"), style.getPropertyValue("--panel")];
    const ratio = window.devicePixelRatio || 1;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    context.scale(ratio, ratio);
    const order = points.filter(shows);
    if (chosen && shows(chosen)) order.push(chosen); // on top
    for (const image of order) {
      const [x, y] = [across(image), down(image)];
      if (x < -60 || y < -60 || x > wide + 60 || y > high + 60) continue;
      if (pictures && image.place >= 0 && sheet.complete) drawPicture(image, x, y);
      else drawPoint(image, x, y, ink, panel);
      if (image === chosen) {
        context.beginPath();
        const radius = pictures ? size() * 0.72 : 13;
        context.arc(x, y, radius, 0, 7);
        context.lineWidth = 2.5;
        context.strokeStyle = ink;
        context.stroke();
      }
    }
    canvas.dataset.zoom = view.zoom.toFixed(2);
    canvas.dataset.shown = String(points.filter(shows).length);
    place();
  }

  function drawPoint(image, x, y, ink, panel) {
    const scale = Math.min(1.8, 0.8 * view.zoom ** 0.25);
    const wrong = image.predicted >= 0 && image.predicted !== image.label;
    context.save();
    context.translate(x, y);
    context.scale(scale, scale);
    context.fillStyle = colourOf(image.label);
    context.fill(paths[shapeOf(image.label)]);
    context.lineWidth = wrong ? 1.8 : 0.7;
    context.strokeStyle = wrong ? ink : panel;
    context.stroke(paths[shapeOf(image.label)]);
    context.restore();
  }

  function drawPicture(image, x, y) {
    const [side, from] = [size(), report.side];
    const [column, line] = [image.place % report.columns, Math.floor(image.place / report.columns)];
    context.fillStyle = colourOf(image.label);
    context.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4);
    context.fillStyle = "#fff";
    context.fillRect(x - side / 2, y - side / 2, side, side);
    context.drawImage(sheet, column * from, line * from, from, from, x - side / 2, y - side / 2, side, side);
  }

  function choose(image) {
    if (image === chosen) return;
    chosen = image;
    canvas.dataset.chosen = image ? image.id : "";
    if (image) {
      const text = element("div");
      text.append(element("b", "", report.classes[image.label]));
      if (image.predicted >= 0) {
        const verb = image.predicted === image.label ? "recognised" : `called ${report.classes[image.predicted]}`;
        text.append(element("span", "", `${verb}, ${percent(image.confidence)} sure`));
      }
      text.append(path(image));
      tip.replaceChildren(picture(image), text);
      status.textContent = text.innerText;
    }
    tip.hidden = !image;
    draw();
  }

  function place() {
    if (!chosen) return;
    const [x, y] = [across(chosen), down(chosen)];
    const right = x + 18 + tip.offsetWidth > canvas.clientWidth ? x - 18 - tip.offsetWidth : x + 18;
    tip.style.left = `${Math.max(0, right)}px`;
    tip.style.top = `${Math.max(0, Math.min(y - 20, canvas.clientHeight - tip.offsetHeight))}px`;
  }

  function nearest(x, y, allowed = () => true, radius = Infinity) {
    let [best, least] = [null, radius];
    for (const image of points) {
      if (!shows(image) || !allowed(image)) continue;
      const distance = Math.hypot(across(image) - x, down(image) - y);
      if (distance <= least) [best, least] = [image, distance];
    }
    return best;
  }

  function under(event) {
    return nearest(event.offsetX, event.offsetY, undefined, pictures ? size() / 2 + 4 : HIT_RADIUS);
  }

  function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const before = unit();
    view.zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
    const after = unit();
    view.x += (x - canvas.clientWidth / 2) * (1 / before - 1 / after);
    view.y += (y - canvas.clientHeight / 2) * (1 / before - 1 / after);
    keepInside();
  }

  function pan(x, y) {
    view.x -= x / unit();
    view.y -= y / unit();
    keepInside();
  }

  function keepInside() {
    view.x = Math.min(1, Math.max(0, view.x));
    view.y = Math.min(0.5 + height / 2, Math.max(0.5 - height / 2, view.y));
    if (view.zoom === 1) [view.x, view.y] = [0.5, 0.5];
    draw();
  }

  function step(x, y) {
    const from = chosen ? [across(chosen), down(chosen)] : [canvas.clientWidth / 2, canvas.clientHeight / 2];
    const ahead = (image) => {
      const [dx, dy] = [across(image) - from[0], down(image) - from[1]];
      const along = dx * x + dy * y;
      return image !== chosen && along > 0 && along >= Math.abs(dx * y - dy * x);
    };
    const next = chosen ? nearest(...from, ahead) : nearest(...from);
    if (!next) return;
    const [sx, sy] = [across(next), down(next)];
    if (sx < 0 || sy < 0 || sx > canvas.clientWidth || sy > canvas.clientHeight) [view.x, view.y] = [next.x, next.y];
    choose(next);
  }

  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      choose(under(event));
      return;
    }
    const [x, y] = [event.offsetX - before.x, event.offsetY - before.y];
    if (pointers.size === 1) {
      moved += Math.abs(x) + Math.abs(y);
      if (moved > 4) pan(x, y);
    } else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const length = (at) => Math.hypot(at.x - other.x, at.y - other.y);
      moved = Infinity;
      zoom(length({ x: event.offsetX, y: event.offsetY }) / Math.max(1, length(before)), other.x, other.y);
    }
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    if (!pointers.size) moved = 0;
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (pointers.delete(event.pointerId) && end === "pointerup" && moved <= 4) choose(under(event));
    });
  }
  canvas.addEventListener("pointerleave", () => choose(null));
  canvas.addEventListener("dblclick", (event) => zoom(2, event.offsetX, event.offsetY));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.offsetX, event.offsetY);
    },
    { passive: false },
  );

  const keys = {
    ArrowLeft: () => step(-1, 0),
    ArrowRight: () => step(1, 0),
    ArrowUp: () => step(0, -1),
    ArrowDown: () => step(0, 1),
    "+": () => zoom(1.5),
    "=": () => zoom(1.5),
    "-": () => zoom(1 / 1.5),
    0: () => zoom(0),
    Escape: () => choose(null),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  for (const button of document.querySelectorAll("[data-zoom-by]")) {
    button.addEventListener("click", () => zoom(+button.dataset.zoomBy));
  }
  document.getElementById("pictures")?.addEventListener("change", (event) => {
    pictures = event.target.checked;
    draw();
  });
  document.getElementById("mistakes-only").addEventListener("change", (event) => {
    mistakes = event.target.checked;
    draw();
  });

  const legend = document.getElementById("legend");
  for (const number of new Set(points.map((image) => image.label).sort((a, b) => a - b))) {
    const button = element("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const glyph = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    glyph.setAttribute("viewBox", "-7 -7 14 14");
    glyph.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", SHAPES[shapeOf(number)]);
    path.setAttribute("fill", colourOf(number));
    glyph.append(path);
    button.append(glyph, report.classes[number]);
    button.addEventListener("click", () => {
      if (!hidden.delete(number)) hidden.add(number);
      button.setAttribute("aria-pressed", String(!hidden.has(number)));
      draw();
    });
    legend.append(button);
  }

  canvas.style.aspectRatio = `1 / ${height}`; // as high as the points need at this width
  sheet.addEventListener("load", draw);
  const thumb = document.querySelector(".thumb:not(.blank)");
  if (thumb) sheet.src = getComputedStyle(thumb).backgroundImage.slice(5, -2); // without what CSS puts around it
  new ResizeObserver(draw).observe(canvas);
  for (const media of ["print", "(prefers-color-scheme: dark)"]) matchMedia(media).addEventListener("change", draw);
}
