// Features to choose from, in rows: a button each, with a bar. A row belongs to one layer, or to a conv and its relu.
function render({ model, el }) {
  keepKeys(el);
  const table = element("table");
  el.classList.add("nst-features");
  el.append(table);

  function choose(layer, feature) {
    model.set("chosen", [layer, feature]);
    model.save_changes();
  }
  function layerButton(name, row) {
    const [layer, feature] = model.get("chosen");
    const go = () => choose(name, row.layers.includes(layer) ? feature : (row.features[0]?.[0] ?? 0));
    const about = { "data-layer": name, title: `show the feature as it is in ${name}`, "aria-pressed": name === layer };
    return element("button", { type: "button", class: "nst-layer", onclick: go, ...about }, name);
  }
  function featureButton([number, text, percent, tip], row) {
    const [layer, feature] = model.get("chosen");
    const of = row.layers.includes(layer) ? layer : row.layers.at(-1);
    const about = { "data-feature": `${of}-${number}`, title: tip, "aria-pressed": of === layer && number === feature };
    const button = element("button", { type: "button", onclick: () => choose(of, number), ...about });
    button.style.setProperty("--percent", `${percent}%`);
    button.append(element("b", {}, `#${number}`), ` ${text}`);
    return button;
  }
  function line(row) {
    const name = element("td", {}, ...(row.says ? [row.says] : row.layers.map((layer) => layerButton(layer, row))));
    const colour = row.layers.map((layer) => model.get("colours")[layer]).find(Boolean);
    name.style.setProperty("--mark", colour ?? "transparent");
    const some = row.features.length ? row.features.map((feature) => featureButton(feature, row)) : ["nothing above 0"];
    return element("tr", {}, name, element("td", {}, row.field), element("td", {}, ...some));
  }
  function draw() {
    const { feature, layer } = document.activeElement?.dataset ?? {};
    const focused = table.contains(document.activeElement) && (feature ? `[data-feature="${feature}"]` : `[data-layer="${layer}"]`);
    const heads = model.get("heads").map((text) => element("th", { scope: "col" }, text));
    const rows = model.get("rows").map(line);
    table.replaceChildren(element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    if (focused) table.querySelector(focused)?.focus({ preventScroll: true });
  }
  for (const name of ["rows", "chosen", "heads"]) model.on(`change:${name}`, draw);
  draw();
}
export default { render };
