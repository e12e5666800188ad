// A figure that moves. All its pictures are tiles of one JPEG, so it needs no kernel: in JupyterLab the model is the
// widget's, in the book an object with the same `get`, made from the saved state.
const KINDS = { sliders, divider, curve, places };

function render({ model, el }) {
  el.classList.add("nst");
  keepKeys(el);
  const sprite = new Image();
  const [width, height] = model.get("tile");
  const columns = model.get("columns");
  // Draw part of a tile, in the tile's pixels, over all of a canvas or the same part of it.
  const draw = (canvas, number, [left, top, right, bottom] = [0, 0, width, height], whole = false) => {
    const from = [(number % columns) * width + left, Math.floor(number / columns) * height + top];
    const size = [right - left, bottom - top];
    const k = canvas.width / width;
    const to = whole ? [0, 0, canvas.width, canvas.height] : [left * k, top * k, size[0] * k, size[1] * k];
    canvas.getContext("2d").drawImage(sprite, ...from, ...size, ...to);
  };
  const canvas = (attributes = {}) => {
    const dense = 2 * Math.max(1, Math.round(440 / width));
    return element("canvas", { width: width * dense, height: height * dense, role: "img", class: "nst-big", ...attributes });
  };
  const figure = element("div", { class: "nst-moving" });
  figure.append(element("p", { class: "nst-title" }, model.get("title")));
  const show = KINDS[model.get("kind")](figure, model.get("content"), { draw, canvas, width, height });
  el.append(figure);
  sprite.onload = show;
  const given = model.get("sprite"); // bytes from a kernel, or the address of a picture in the page
  sprite.src = typeof given === "string" ? given : URL.createObjectURL(new Blob([given], { type: "image/jpeg" }));
}

// A labelled slider over a list of texts; calls `moved(index)`.
function slider(name, texts, start, moved) {
  const said = element("output", {}, texts[start]);
  const range = element("input", { type: "range", min: 0, max: texts.length - 1, step: 1, value: start });
  const tell = () => {
    said.textContent = texts[+range.value];
    range.setAttribute("aria-valuetext", texts[+range.value]);
  };
  range.addEventListener("input", () => {
    tell();
    moved(+range.value);
  });
  tell();
  const set = (index) => {
    range.value = index;
    tell();
  };
  return { row: element("label", {}, element("span", {}, name), range, said), set };
}

// One picture for each combination of the axes' values.
function sliders(figure, { axes, captions, start }, { draw, canvas }) {
  const at = [...start];
  const picture = canvas();
  const said = element("p", { class: "nst-said", "aria-live": "polite" });
  const show = () => {
    const number = axes.reduce((sum, axis, i) => sum * axis.values.length + at[i], 0);
    draw(picture, number);
    said.textContent = captions[number];
    picture.setAttribute("aria-label", captions[number]);
  };
  const rows = axes.map((axis, i) =>
    slider(axis.name, axis.values, at[i], (index) => {
      at[i] = index;
      show();
    }).row,
  );
  figure.append(picture, said, ...rows);
  return show;
}

// Two of several pictures, one on each side of a line that can be dragged.
function divider(figure, { names, start }, { draw, canvas, width, height }) {
  const at = [...start];
  let cut = 50;
  const picture = canvas();
  const show = () => {
    const edge = Math.round((width * cut) / 100);
    const [left, right] = at;
    if (edge > 0) draw(picture, left, [0, 0, edge, height]);
    if (edge < width) draw(picture, right, [edge, 0, width, height]);
    const pen = picture.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect((edge / width) * picture.width - 2, 0, 4, picture.height);
    picture.setAttribute("aria-label", `left of the line ${names[left]}, right of it ${names[right]}`);
  };
  const percents = Array.from({ length: 101 }, (_, k) => `${k} %`);
  const line = slider("the line", percents, cut, (value) => {
    cut = value;
    show();
  });
  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = picture.getBoundingClientRect();
    cut = Math.round(Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * 100);
    line.set(cut);
    show();
  };
  picture.addEventListener("pointerdown", drag);
  picture.addEventListener("pointermove", drag);
  const choices = ["left", "right"].map((side, i) => {
    const choice = element("select", {}, ...names.map((name, k) => element("option", { value: k }, name)));
    choice.value = at[i];
    choice.addEventListener("change", () => {
      at[i] = +choice.value;
      show();
    });
    return element("label", {}, element("span", {}, side), choice, element("span"));
  });
  figure.append(picture, line.row, ...choices);
  return show;
}

// Points of a curve in the plane, each of which is a picture.
function curve(figure, { points, xlabel, ylabel, start }, { draw, canvas }) {
  const NS = "http://www.w3.org/2000/svg";
  const make = (tag, attributes, text = "") => {
    const made = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  };
  const [W, H, left, bottom] = [360, 300, 26, 30];
  const scale = (values, from, to) => {
    const logs = values.map(Math.log);
    const [low, high] = [Math.min(...logs), Math.max(...logs)];
    return logs.map((value) => from + ((value - low) / (high - low || 1)) * (to - from));
  };
  const xs = scale(points.map((p) => p.x), left + 14, W - 16);
  const ys = scale(points.map((p) => p.y), H - bottom - 14, 16);
  const chart = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": `${ylabel} against ${xlabel}` });
  chart.append(make("path", { d: `M${left} 6V${H - bottom}H${W - 4}`, class: "nst-way" }));
  chart.append(make("polyline", { points: xs.map((x, i) => `${x},${ys[i]}`).join(" "), class: "nst-way" }));
  chart.append(make("text", { x: W - 4, y: H - 10, "text-anchor": "end" }, `${xlabel} →`));
  chart.append(make("text", { x: -6, y: 14, transform: "rotate(-90)", "text-anchor": "end" }, `${ylabel} →`));
  const dots = points.map((p, i) => make("circle", { cx: xs[i], cy: ys[i], r: 7 }));
  chart.append(...dots);
  let at = start;
  const picture = canvas();
  const said = element("p", { class: "nst-said", "aria-live": "polite" });
  const show = () => {
    draw(picture, at);
    said.textContent = points[at].caption;
    picture.setAttribute("aria-label", points[at].caption);
    dots.forEach((dot, i) => dot.classList.toggle("nst-here", i === at));
  };
  const along = slider("along the curve", points.map((p) => p.label), at, (index) => {
    at = index;
    show();
  });
  dots.forEach((dot, i) =>
    dot.addEventListener("click", () => {
      at = i;
      along.set(i);
      show();
    }),
  );
  figure.append(element("div", { class: "nst-two" }, element("div", {}, chart), element("div", {}, picture, said)), along.row);
  return show;
}

// A picture to click on; what each layer sees at that place.
function places(figure, { rows, columns, layers, start }, { draw, canvas, width, height }) {
  let at = [...start];
  const picture = canvas({ tabindex: "0", role: "application" });
  const said = element("p", { class: "nst-said", "aria-live": "polite" });
  const lines = layers.map((layer) => {
    const crop = element("canvas", { width: 104, height: 104, role: "img" });
    const swatch = element("span", { class: "nst-swatch" });
    swatch.style.borderColor = layer.colour;
    const text = element("td");
    return { crop, text, row: element("tr", {}, element("td", {}, swatch, layer.name), element("td", {}, crop), text) };
  });
  const heads = ["layer", "sees", "strongest features"].map((head) => element("th", { scope: "col" }, head));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)));
  table.append(element("tbody", {}, ...lines.map((line) => line.row)));
  const show = () => {
    const number = at[0] * columns + at[1];
    draw(picture, 0);
    const pen = picture.getContext("2d");
    const k = picture.width / width;
    layers.forEach((layer, i) => {
      const [top, left, bottom, right] = layer.boxes[number];
      pen.lineWidth = 5;
      pen.strokeStyle = layer.colour;
      pen.strokeRect(left * k, top * k, (right - left) * k, (bottom - top) * k);
      const side = Math.max(right - left, bottom - top);
      lines[i].crop.getContext("2d").clearRect(0, 0, 104, 104);
      lines[i].crop.height = Math.round((104 * (bottom - top)) / side);
      lines[i].crop.width = Math.round((104 * (right - left)) / side);
      draw(lines[i].crop, 0, [left, top, right, bottom], true);
      lines[i].crop.setAttribute("aria-label", `${layer.name} sees ${right - left} by ${bottom - top} pixels`);
      lines[i].text.textContent = layer.features[number] || "none: all are 0 here";
    });
    said.textContent = `row ${Math.round(((at[0] + 0.5) * height) / rows)}, column ${Math.round(((at[1] + 0.5) * width) / columns)}`;
    picture.setAttribute("aria-label", `${said.textContent}. Click, or move with the arrow keys.`);
  };
  const go = (row, column) => {
    at = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
    show();
  };
  picture.addEventListener("pointerdown", (event) => {
    const box = picture.getBoundingClientRect();
    const [down, along] = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    go(Math.floor(down * rows), Math.floor(along * columns));
  });
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    go(at[0] + step[0], at[1] + step[1]);
  });
  figure.append(element("div", { class: "nst-two" }, element("div", {}, picture, said), element("div", {}, table)));
  return show;
}
export default { render };
