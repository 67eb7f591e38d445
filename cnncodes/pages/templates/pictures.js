"use strict";
// The images of the page, and the pictures behind each cell of the confusion matrix.

const report = JSON.parse(document.getElementById("data").textContent);

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function path(image) {
  const made = element("span", "path");
  image.id.split("/").forEach((part, i) => made.append(...(i ? ["/", element("wbr")] : []), part));
  return made;
}

function picture(image) {
  const made = element("span", "thumb");
  made.title = image.id;
  if (image.place < 0) {
    made.classList.add("blank");
    made.textContent = image.id.split("/").pop();
  } else {
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", image.id);
    made.style.setProperty("--x", image.place % report.columns);
    made.style.setProperty("--y", Math.floor(image.place / report.columns));
  }
  return made;
}

function percent(share) {
  return `${(100 * share).toFixed(0)}\u00a0%`;
}

{
  const panel = document.getElementById("cell");
  const cells = document.querySelectorAll("[data-label]");
  let opener = null;

  function close() {
    panel.hidden = true;
    for (const cell of cells) cell.setAttribute("aria-pressed", "false");
    opener?.focus();
    opener = null;
  }

  function open(cell) {
    const [label, predicted, count] = [+cell.dataset.label, +cell.dataset.predicted, +cell.dataset.count];
    const there = report.images.filter((image) => image.label === label && image.predicted === predicted);
    there.sort((a, b) => b.confidence - a.confidence);
    for (const other of cells) {
      const same = +other.dataset.label === label && +other.dataset.predicted === predicted;
      other.setAttribute("aria-pressed", String(same));
    }
    const [of, as] = [report.classes[label], report.classes[predicted]];
    const what = label === predicted ? `${of}, and recognised` : `${of}, but called ${as}`;
    const heading = element("h3", "", `${count} ${count === 1 ? "image" : "images"}: ${what}`);
    heading.tabIndex = -1;
    const button = element("button", "pair", "Close");
    button.type = "button";
    button.addEventListener("click", close);
    const list = element("ol", "gallery");
    for (const image of there) {
      const figure = element("figure");
      const caption = element("figcaption", "", `${percent(image.confidence)} sure`);
      caption.append(path(image));
      figure.append(picture(image), caption);
      const item = element("li");
      item.append(figure);
      list.append(item);
    }
    const some = `${there.length} of them are on this page: some of the surest, and those of the map, a random part. `;
    const note = element("p", "note", `${there.length < count ? some : ""}The surest come first.`);
    panel.replaceChildren(heading, button, note, list); // not behind hundreds of pictures
    panel.hidden = false;
    opener = cell;
    heading.focus({ preventScroll: true });
    panel.scrollIntoView({ block: "nearest" });
  }

  for (const cell of cells) cell.addEventListener("click", () => open(cell));
  panel?.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
}
