"use strict";
// The images of the page, and the pictures behind each cell of the confusion matrix.

const report = JSON.parse(document.getElementById("data").textContent);

function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function path(image) {
  const node = element("span", "path");
  image.id.split("/").forEach((part, i) => node.append(...(i ? ["/", element("wbr")] : []), part));
  return node;
}

function picture(image) {
  const node = element("span", "thumb");
  node.title = image.id;
  if (image.place < 0) {
    node.classList.add("blank");
    node.textContent = image.id.split("/").pop();
  } else {
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", image.id);
    node.style.setProperty("--x", image.place % report.columns);
    node.style.setProperty("--y", Math.floor(image.place / report.columns));
  }
  return node;
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
    const images = report.images.filter((image) => image.label === label && image.predicted === predicted);
    images.sort((a, b) => b.confidence - a.confidence);
    for (const other of cells) {
      const same = +other.dataset.label === label && +other.dataset.predicted === predicted;
      other.setAttribute("aria-pressed", String(same));
    }
    const [trueName, answerName] = [report.classes[label], report.classes[predicted]];
    const what = label === predicted ? `${trueName}, and recognised` : `${trueName}, but called ${answerName}`;
    const heading = element("h3", "", `${count} ${count === 1 ? "image" : "images"}: ${what}`);
    heading.tabIndex = -1;
    const button = element("button", "pair", "Close");
    button.type = "button";
    button.addEventListener("click", close);
    const list = element("ol", "gallery");
    for (const image of images) {
      const figure = element("figure");
      const caption = element("figcaption", "", `${percent(image.confidence)} sure`);
      caption.append(path(image));
      figure.append(picture(image), caption);
      const item = element("li");
      item.append(figure);
      list.append(item);
    }
    const remark = `${images.length} of them are on this page: some of the surest, and those on the map, which are chosen at random. `;
    const note = element("p", "note", `${images.length < count ? remark : ""}The surest come first.`);
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
