// A picture on which a place is chosen, by clicks or by arrow keys, with boxes drawn around it.
const STEP = 4; // pixels of the picture an arrow key moves by; with Shift, four times as many

function render({ model, el }) {
  keepKeys(el);
  const canvas = element("canvas", { tabindex: "0", role: "application" });
  const caption = element("figcaption");
  el.classList.add("nst-place");
  el.append(element("figure", { class: "nst-picture" }, canvas, caption));
  const image = new Image();
  image.onload = draw;
  let url = null;

  function load() {
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
    image.src = url;
  }
  function draw() {
    const [rows, columns] = model.get("size");
    const k = model.get("side") / Math.max(rows, columns);
    const dense = window.devicePixelRatio || 1;
    canvas.style.maxWidth = `${columns * k}px`; // narrower where there is no room
    canvas.width = columns * k * dense;
    canvas.height = rows * k * dense;
    const pen = canvas.getContext("2d");
    pen.scale(dense, dense);
    pen.drawImage(image, 0, 0, columns * k, rows * k);
    pen.lineWidth = 2;
    for (const [top, left, bottom, right, colour] of model.get("boxes")) {
      pen.strokeStyle = colour;
      pen.strokeRect(left * k + 1, top * k + 1, (right - left) * k - 2, (bottom - top) * k - 2);
    }
    const [row, column] = model.get("point");
    cross(pen, (column + 0.5) * k, (row + 0.5) * k);
    const name = model.get("caption").split(/[\\/]/).pop();
    caption.textContent = `${name} · row ${row}, column ${column}`;
    canvas.setAttribute("aria-label", `${caption.textContent}. Click, or move with the arrow keys.`);
  }
  function cross(pen, x, y) {
    for (const [width, colour] of [[4, "black"], [2, "#00e5ff"]]) {
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.beginPath();
      pen.moveTo(x - 7, y);
      pen.lineTo(x + 7, y);
      pen.moveTo(x, y - 7);
      pen.lineTo(x, y + 7);
      pen.stroke();
    }
  }
  function go(row, column) {
    const [rows, columns] = model.get("size");
    const inside = (value, count) => Math.min(Math.max(Math.round(value), 0), count - 1);
    const before = model.get("point");
    const point = [inside(row, rows), inside(column, columns)];
    if (point[0] === before[0] && point[1] === before[1]) return model.send({ kind: "again" });
    model.set("point", point);
    model.save_changes();
  }
  canvas.addEventListener("pointerdown", (event) => {
    const box = canvas.getBoundingClientRect();
    const [rows, columns] = model.get("size");
    const down = (event.clientY - box.top) / box.height;
    const along = (event.clientX - box.left) / box.width;
    go(down * rows - 0.5, along * columns - 0.5);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const by = event.shiftKey ? 4 * STEP : STEP;
    const [row, column] = model.get("point");
    go(row + by * step[0], column + by * step[1]);
  });
  model.on("change:png", load);
  for (const name of ["boxes", "point", "size", "caption"]) model.on(`change:${name}`, draw);
  load();
}
export default { render };
