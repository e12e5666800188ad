// The picture in the middle: alone, against another one with a divider or in turns, or beside content and style.
// The other one is the content, or a picture that was pinned: a frame, or another run's.
const VIEWS = { picture: "Picture", divider: "Compare", blink: "Blink", together: "Side by side" };
const BLINK = 700; // milliseconds a picture

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
  const pinnedBytes = () => model.get("pinned_picture")?.byteLength ?? 0;
  const pin = element("button", { type: "button", class: "nst-quiet" });
  pin.addEventListener("click", () => model.send({ kind: pinnedBytes() ? "unpin" : "pin" }));
  const caption = element("span", { class: "nst-caption", "aria-live": "off" });
  const bar = element("div", { class: "nst-viewbar" }, views, caption, pin, zoom);

  const result = element("img", { class: "nst-result", alt: "the picture that is being painted", draggable: "false" });
  const before = element("img", { class: "nst-before", draggable: "false" });
  const divider = element("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, class: "nst-divider" });
  const line = element("div", { class: "nst-line" });
  const which = element("div", { class: "nst-which" });
  const canvas = element("div", { class: "nst-canvas" }, result, before, line, divider, which);
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
    const pinned = pinnedBytes() > 0;
    const other = pinned ? model.get("pinned_caption") : "content";
    caption.textContent = model.get("caption");
    pin.textContent = pinned ? "Unpin" : "Pin";
    pin.title = pinned ? `Compare with the content again, not with ${other}` : "Keep this picture, to compare others with it";
    before.alt = pinned ? `the pinned picture: ${other}` : "the content picture";
    divider.setAttribute("aria-label", `Divider between ${other}, left, and ${model.get("caption")}, right`);
    el.dataset.other = other;
    if (view === "divider") which.textContent = `${other} ◂ ▸ ${model.get("caption")}`;
    blink();
  }
  let turn = null;
  function blink() {
    const on = model.get("view") === "blink";
    if (on && turn === null) turn = setInterval(beat, BLINK);
    if (!on) {
      clearInterval(turn);
      turn = null;
      canvas.classList.remove("nst-other-turn");
    }
  }
  function beat() {
    if (!el.isConnected) return clearInterval(turn);
    const other = canvas.classList.toggle("nst-other-turn");
    which.textContent = other ? el.dataset.other : model.get("caption");
  }
  const cut = () => canvas.style.setProperty("--cut", `${divider.value}%`);
  divider.addEventListener("input", cut);
  const pictures = () => {
    showBytes(content, model.get("content_picture"));
    showBytes(before, model.get(pinnedBytes() ? "pinned_picture" : "content_picture"));
    showBytes(style, model.get("style_picture"));
  };
  const arranged = ["view", "zoomed", "shape", "caption", "pinned_picture", "pinned_caption"];
  for (const name of arranged) model.on(`change:${name}`, arrange);
  for (const name of ["content", "style", "pinned"]) model.on(`change:${name}_picture`, pictures);
  model.on("msg:custom", (message) => message.kind === "look" && el.scrollIntoView({ block: "nearest" }));
  model.on("change:result_picture", () => showBytes(result, model.get("result_picture")));
  function lose() {
    lost.hidden = false;
    for (const part of el.closest(".nst")?.querySelectorAll(".nst-bar, .nst-settings, .nst-below") ?? []) part.inert = true;
  }
  model.on("comm_live_update", lose);
  model.on("comm:close", lose);
  const watch = setInterval(() => {
    if (!el.isConnected || !lost.hidden) return clearInterval(watch);
    const kernel = model.widget_manager?.kernel; // undefined outside of JupyterLab, which does not tell of a shutdown
    if (kernel === null || kernel?.isDisposed || kernel?.status === "dead") lose();
  }, 2000);
  cut();
  arrange();
  pictures();
  showBytes(result, model.get("result_picture"));
}
export default { render };
