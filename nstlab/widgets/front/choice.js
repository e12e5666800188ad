// One picture out of several: a radio group of thumbnails, with an upload button and a field for a path.
function render({ model, el }) {
  keepKeys(el);
  const label = element("span", { class: "nst-label", title: model.get("help") }, model.get("label"));
  const chosen = element("span", { class: "nst-chosen" });
  const head = element("div", { class: "nst-head" }, label, chosen);
  const group = element("div", { class: "nst-tiles", role: "radiogroup", "aria-label": model.get("label") });
  group.style.setProperty("--columns", model.get("columns"));
  group.classList.toggle("nst-captioned", model.get("captioned"));
  arrowKeys(group, "[role=radio]");
  el.classList.add("nst-choice");
  el.append(head, group);

  let path = null;
  if (model.get("accepts_files")) {
    path = element("input", { type: "text", class: "nst-path", placeholder: "or the path of a picture" });
    path.setAttribute("aria-label", `${model.get("label")}: the path of a picture`);
    path.addEventListener("change", () => path.value.trim() && choose(path.value.trim()));
    head.append(fileButton(model, "Upload…", `Upload a picture as ${model.get("label").toLowerCase()}`));
    el.append(path);
    acceptDrops(el, model);
  }

  function choose(name) {
    if (model.get("disabled")) return;
    model.set("value", name);
    model.save_changes();
    model.send({ kind: "chosen", name });
  }

  const captionOf = (name) => model.get("captions")[name] ?? name;
  const meaning = (name) => model.get("meanings")[name] ?? captionOf(name);

  function tile(name) {
    const caption = captionOf(name);
    const picture = model.get("thumbnails")[name];
    const button = element("button", { type: "button", role: "radio", "data-name": name, title: meaning(name) });
    button.addEventListener("click", () => choose(name));
    button.append(picture ? element("img", { src: picture, alt: "" }) : element("span", { class: "nst-blank" }));
    if (model.get("captioned")) button.append(element("span", {}, caption));
    else button.setAttribute("aria-label", caption);
    return button;
  }

  function fill() {
    const focused = group.contains(document.activeElement) && document.activeElement.dataset.name;
    group.replaceChildren(...model.get("options").map(tile));
    mark();
    if (focused) group.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
  }

  function mark() {
    const value = model.get("value");
    const tiles = [...group.children];
    const known = tiles.some((button) => button.dataset.name === value);
    tiles.forEach((button, i) => {
      const on = button.dataset.name === value;
      button.setAttribute("aria-checked", on);
      button.tabIndex = on || (!known && i === 0) ? 0 : -1;
      button.disabled = model.get("disabled");
    });
    chosen.textContent = value ? meaning(value) : "none";
    chosen.title = chosen.textContent;
    el.querySelectorAll(".nst-file button, .nst-path").forEach((part) => (part.disabled = model.get("disabled")));
    if (path && /[\\/.]/.test(value)) path.value = value;
    else if (path) path.value = "";
  }

  for (const name of ["options", "thumbnails", "captions"]) model.on(`change:${name}`, fill);
  for (const name of ["value", "disabled"]) model.on(`change:${name}`, mark);
  fill();
}
export default { render };
