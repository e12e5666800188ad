// A mask, painted with a brush over a picture: where the colour is, it is in. A pointer paints, and so do the keys.
const COLOURS = ["#e6007e", "#ffd43b"]; // of the first style and of the second: rare in pictures, told apart by all
const KEYS = "Arrow keys move the brush, with Shift by a pixel; hold Space to paint; + and - change its size.";

function render({ model, el }) {
  keepKeys(el);
  const mask = element("canvas"); // white, as opaque as the mask is there
  const ink = mask.getContext("2d", { willReadFrequently: true });
  const other = element("canvas");
  const picture = element("img", { class: "nst-ground", alt: "the content picture", draggable: "false" });
  const board = element("canvas", { class: "nst-board" });
  const paper = board.getContext("2d");
  const ring = element("div", { class: "nst-ring" });
  const easel = element("div", { class: "nst-easel", tabindex: "0", role: "application", title: KEYS });
  easel.setAttribute("aria-label", `${model.get("label")}: the brush`);
  easel.setAttribute("aria-description", KEYS);
  easel.append(picture, board, ring);

  const modes = element("div", { class: "nst-segments", role: "radiogroup", "aria-label": "What the brush does" });
  for (const [name, about] of [["Add", "Paint where the style should be"], ["Erase", "Paint where it should not be"]]) {
    const button = element("button", { type: "button", role: "radio", title: about, "data-mode": name.toLowerCase() }, name);
    button.addEventListener("click", () => setMode(name.toLowerCase()));
    modes.append(button);
  }
  arrowKeys(modes, "[role=radio]");
  const size = element("input", { type: "range", min: 1, max: 100, value: 30, title: "The size of the brush: + and -" });
  size.setAttribute("aria-label", "Size of the brush");
  const sized = element("label", { class: "nst-sized" }, "Size", size);
  const action = (name, about, act) =>
    element("button", { type: "button", class: "nst-quiet", title: about, onclick: act }, name);
  const invert = action("Invert", "What is in goes out, and the other way round", () => {
    ink.globalCompositeOperation = "xor";
    ink.fillStyle = "#fff";
    ink.fillRect(0, 0, mask.width, mask.height);
    commit();
  });
  const clear = action("Clear", "Take the mask away: the style is painted everywhere", () => {
    ink.clearRect(0, 0, mask.width, mask.height);
    commit();
  });
  const legend = element("div", { class: "nst-legend" });
  const note = element("div", { class: "nst-note", "aria-live": "polite" });
  el.classList.add("nst-brush");
  el.append(element("div", { class: "nst-viewbar" }, modes, sized, invert, clear), easel, legend, note);

  let mode = "add";
  let at = { x: 0, y: 0 }; // of the brush, in pixels of the mask
  let painting = null; // "pointer" or "keys"
  let sent = null; // the bytes that the mask was last read from or written to

  const radius = () => (Math.max(mask.width, mask.height) * size.value) / 400; // at most a quarter of the longer side
  function setMode(name) {
    mode = name;
    for (const button of modes.children) {
      const on = button.dataset.mode === mode;
      button.setAttribute("aria-checked", on);
      button.tabIndex = on ? 0 : -1;
    }
  }
  function stroke(from, to) {
    ink.globalCompositeOperation = mode === "add" ? "source-over" : "destination-out";
    ink.lineCap = "round";
    ink.lineWidth = 2 * radius();
    ink.strokeStyle = "#fff";
    ink.beginPath();
    ink.moveTo(from.x, from.y);
    ink.lineTo(to.x + 0.01, to.y); // a line of no length is not drawn
    ink.stroke();
    draw();
  }
  function isEmpty() {
    const pixels = ink.getImageData(0, 0, mask.width, mask.height).data;
    for (let i = 3; i < pixels.length; i += 4) if (pixels[i]) return false;
    return true;
  }
  function draw() {
    tint(paper, COLOURS[0], mask, "source-in");
    if (model.get("elsewhere") && (painting || model.get("mask").byteLength)) under(COLOURS[1], mask, "source-out");
    else if (model.get("other").byteLength) under(COLOURS[1], other, "source-in");
  }
  // Fill where a mask is (source-in) or is not (source-out) with a colour.
  function tint(context, colour, shape, how) {
    context.globalCompositeOperation = "copy";
    context.drawImage(shape, 0, 0);
    context.globalCompositeOperation = how;
    context.fillStyle = colour;
    context.fillRect(0, 0, mask.width, mask.height);
  }
  function under(colour, shape, how) {
    const layer = element("canvas", { width: mask.width, height: mask.height });
    tint(layer.getContext("2d"), colour, shape, how);
    paper.globalCompositeOperation = "destination-over";
    paper.drawImage(layer, 0, 0);
  }
  async function commit() {
    const blob = isEmpty() ? null : await new Promise((then) => mask.toBlob(then, "image/png"));
    sent = new DataView(blob ? await blob.arrayBuffer() : new ArrayBuffer(0));
    model.set("mask", sent);
    model.save_changes();
    draw();
  }
  async function take(canvas, bytes) {
    let image = null;
    if (bytes.byteLength) {
      image = new Image();
      image.src = URL.createObjectURL(new Blob([bytes]));
      await image.decode();
      URL.revokeObjectURL(image.src);
    }
    const context = canvas.getContext("2d");
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (image) context.drawImage(image, 0, 0, canvas.width, canvas.height);
    draw();
  }
  function load() {
    const bytes = model.get("mask");
    if (bytes === sent) return; // what was painted here
    sent = bytes;
    take(mask, bytes);
  }
  function arrange() {
    const [width, height] = model.get("shape");
    for (const canvas of [mask, other, board]) [canvas.width, canvas.height] = [width, height];
    easel.style.setProperty("--ratio", `${width} / ${height}`);
    easel.style.setProperty("--slimness", width / height);
    at = { x: width / 2, y: height / 2 };
    showBytes(picture, model.get("picture"));
    sent = null;
    load();
    take(other, model.get("other"));
    place();
  }
  function describe() {
    const names = model.get("names");
    const colour = (name, i) => element("span", {}, element("i", { style: `background:${COLOURS[i]}` }), name);
    legend.replaceChildren(...(names.length > 1 ? names.map(colour) : []));
    note.textContent = model.get("note");
    const disabled = model.get("disabled");
    for (const part of [...modes.children, size, invert, clear]) part.disabled = disabled;
    easel.setAttribute("aria-disabled", disabled);
    easel.classList.toggle("nst-resting", disabled);
  }
  function place() {
    ring.style.left = `${(100 * at.x) / mask.width}%`;
    ring.style.top = `${(100 * at.y) / mask.height}%`;
    ring.style.width = `${(200 * radius()) / mask.width}%`;
  }
  function moveTo(point) {
    const from = at;
    at = { x: Math.min(Math.max(point.x, 0), mask.width), y: Math.min(Math.max(point.y, 0), mask.height) };
    if (painting) stroke(from, at);
    place();
  }
  function begin(how) {
    painting = how;
    stroke(at, at);
  }
  function end() {
    if (!painting) return;
    painting = null;
    commit();
  }
  function pointed(event) {
    const box = board.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * mask.width, y: ((event.clientY - box.top) / box.height) * mask.height };
  }

  easel.addEventListener("pointerdown", (event) => {
    if (model.get("disabled") || event.button !== 0 || painting) return;
    event.preventDefault(); // no dragging of the picture, no selection
    easel.focus({ preventScroll: true });
    easel.setPointerCapture(event.pointerId);
    moveTo(pointed(event));
    begin("pointer");
  });
  easel.addEventListener("pointermove", (event) => {
    if (painting !== "keys") moveTo(pointed(event));
  });
  for (const type of ["pointerup", "pointercancel"]) easel.addEventListener(type, () => painting === "pointer" && end());
  easel.addEventListener("keydown", (event) => {
    if (model.get("disabled") || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 1 : Math.max(radius() / 2, 2);
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    const grow = { "+": 1, "=": 1, "-": -1 }[event.key] ?? 0;
    if (!x && !y && !grow && event.key !== " ") return;
    event.preventDefault();
    if (x || y) moveTo({ x: at.x + x * step, y: at.y + y * step });
    if (grow) size.value = Number(size.value) + grow * Math.max(1, size.value / 5);
    if (event.key === " " && !painting) begin("keys");
    place();
  });
  easel.addEventListener("keyup", (event) => event.key === " " && painting === "keys" && end());
  easel.addEventListener("blur", end);
  size.addEventListener("input", place);

  for (const name of ["shape", "picture"]) model.on(`change:${name}`, arrange);
  for (const name of ["names", "note", "disabled"]) model.on(`change:${name}`, describe);
  model.on("change:mask", load);
  model.on("change:other", () => take(other, model.get("other")));
  model.on("change:elsewhere", draw);
  setMode(mode);
  describe();
  arrange();
}
export default { render };
