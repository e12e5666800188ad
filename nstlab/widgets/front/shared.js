// What the panel's widgets share: elements, pictures from bytes, files sent in parts.

const PART = 2 ** 21; // bytes of a file in one message: the websocket silently drops messages above 10 MiB
const LARGEST = 100 * 2 ** 20;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) made.setAttribute(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Show the picture in `bytes` (a DataView); the previous picture stays until this one is decoded.
function showBytes(img, bytes) {
  if (!bytes || !bytes.byteLength) {
    img.hidden = true;
    return;
  }
  const url = URL.createObjectURL(new Blob([bytes]));
  const next = new Image();
  next.src = img.nextUrl = url;
  const show = () => {
    if (img.nextUrl !== url) return URL.revokeObjectURL(url); // a newer one has arrived
    const before = img.src;
    img.src = url;
    img.hidden = false;
    if (before.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(before), 1000);
  };
  next.decode().then(show, () => URL.revokeObjectURL(url));
}

// JupyterLab takes keys before the page does (Enter, arrows, d d); in the panel, its plain buttons included, they
// belong to the panel. A widget is drawn before it stands in the page.
function keepKeys(el) {
  const root = el.closest(".nst");
  if (!root) return void requestAnimationFrame(() => keepKeys(el));
  if (root.hasAttribute("data-lm-suppress-shortcuts")) return;
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const type of ["keydown", "keypress", "keyup"]) root.addEventListener(type, (event) => event.stopPropagation());
}

async function sendFile(model, file) {
  if (file.size > LARGEST) {
    model.send({ kind: "refused", name: file.name, size: file.size });
    return;
  }
  const parts = Math.max(1, Math.ceil(file.size / PART));
  for (let part = 0; part < parts; part++) {
    const bytes = await file.slice(part * PART, (part + 1) * PART).arrayBuffer();
    model.send({ kind: "upload", name: file.name, part, parts }, undefined, [bytes]);
  }
}

// Files dropped on `target` are sent; while one hovers, `target` has the class nst-dropping.
function acceptDrops(target, model) {
  const hover = (on) => target.classList.toggle("nst-dropping", on);
  target.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    hover(true);
  });
  target.addEventListener("dragleave", () => hover(false));
  target.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    event.stopPropagation();
    hover(false);
    sendFile(model, event.dataTransfer.files[0]);
  });
}

function fileButton(model, label, title, accept = "image/*") {
  const input = element("input", { type: "file", accept, hidden: true, "aria-label": title, tabindex: "-1" });
  input.addEventListener("change", () => {
    if (input.files.length) sendFile(model, input.files[0]);
    input.value = "";
  });
  const about = { title, "aria-label": title, onclick: () => input.click() };
  const button = element("button", { type: "button", class: "nst-quiet", ...about }, label);
  return element("span", { class: "nst-file" }, button, input);
}

// Left and right (up, down, home, end) move through a group of buttons of which one is in the tab order.
function arrowKeys(group, selector) {
  group.addEventListener("keydown", (event) => {
    const buttons = [...group.querySelectorAll(selector)];
    const at = buttons.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    let to = event.key === "Home" ? 0 : event.key === "End" ? buttons.length - 1 : at + step;
    if (at < 0 || Number.isNaN(to)) return;
    event.preventDefault();
    event.stopPropagation();
    to = (to + buttons.length) % buttons.length;
    buttons[to].focus();
    buttons[to].click();
  });
}
