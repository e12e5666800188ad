// The picture in the middle: alone, against the content with a divider, or beside content and style.
const VIEWS = { picture: "Picture", divider: "Compare", together: "Side by side" };

function render({ model, el }) {
  keepKeys(el);
  const views = element("div", { class: "nst-segments", role: "radiogroup", "aria-label": "How the picture is shown" });
  for (const [name, text] of Object.entries(VIEWS)) {
    const button = element("button", { type: "button", role: "radio", "data-view": name }, text);
    button.addEventListener("click", () => set("view", name));
    views.append(button);
  }
  arrowKeys(views, "[role=radio]");
  const zoom = element("button", { type: "button", class: "nst-quiet", title: "One picture pixel per screen pixel" }, "100 %");
  zoom.addEventListener("click", () => set("zoomed", !model.get("zoomed")));
  const caption = element("span", { class: "nst-caption", "aria-live": "off" });
  const bar = element("div", { class: "nst-viewbar" }, views, caption, zoom);

  const result = element("img", { class: "nst-result", alt: "the picture that is being painted", draggable: "false" });
  const before = element("img", { class: "nst-before", alt: "the content picture", draggable: "false" });
  const divider = element("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, class: "nst-divider" });
  divider.setAttribute("aria-label", "Divider between content, left, and result, right");
  const line = element("div", { class: "nst-line" });
  const canvas = element("div", { class: "nst-canvas" }, result, before, line, divider);
  const [content, style] = ["content", "style"].map((name) => element("img", { alt: `the ${name} picture` }));
  const beside = [content, style].map((img, i) =>
    element("figure", { class: "nst-beside" }, img, element("figcaption", {}, ["content", "style"][i])),
  );
  const middle = element("figure", { class: "nst-shown" }, canvas, element("figcaption", {}, "result"));
  const stage = element("div", { class: "nst-stage" }, ...beside, middle);
  const lost = element("div", { class: "nst-lost", role: "alert", hidden: true });
  lost.textContent = "The kernel is gone. Run this cell again: what was stored is kept, and Start resumes from it.";
  el.classList.add("nst-viewer");
  el.append(bar, stage, lost);
  acceptDrops(stage, model);

  function set(name, value) {
    model.set(name, value);
    model.save_changes();
  }
  function arrange() {
    const view = model.get("view");
    el.dataset.view = view;
    el.classList.toggle("nst-zoomed", model.get("zoomed"));
    zoom.setAttribute("aria-pressed", model.get("zoomed"));
    for (const button of views.children) {
      button.setAttribute("aria-checked", button.dataset.view === view);
      button.tabIndex = button.dataset.view === view ? 0 : -1;
    }
    const [width, height] = model.get("shape");
    stage.style.setProperty("--ratio", `${width} / ${height}`);
    stage.style.setProperty("--slimness", width / height);
    stage.style.setProperty("--pixels", `${width}px`);
    caption.textContent = model.get("caption");
  }
  const cut = () => canvas.style.setProperty("--cut", `${divider.value}%`);
  divider.addEventListener("input", cut);
  const pictures = () => {
    showBytes(content, model.get("content_picture"));
    showBytes(before, model.get("content_picture"));
    showBytes(style, model.get("style_picture"));
  };
  for (const name of ["view", "zoomed", "shape", "caption"]) model.on(`change:${name}`, arrange);
  for (const name of ["content", "style"]) model.on(`change:${name}_picture`, pictures);
  model.on("change:result_picture", () => showBytes(result, model.get("result_picture")));
  model.on("comm_live_update", () => (lost.hidden = false));
  model.on("comm:close", () => (lost.hidden = false));
  cut();
  arrange();
  pictures();
  showBytes(result, model.get("result_picture"));
}
export default { render };
