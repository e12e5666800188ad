// The proportion between two styles, on a slider. It is committed when the slider is let go.
function render({ model, el }) {
  keepKeys(el);
  const about = { title: model.get("help"), "aria-description": model.get("help") };
  const label = element("span", { class: "nst-label", title: model.get("help") }, model.get("label"));
  const slider = element("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": model.get("label"), ...about });
  const parts = [element("span"), element("span")];
  el.classList.add("nst-proportion");
  el.append(element("div", { class: "nst-head" }, label), slider, element("div", { class: "nst-ends" }, ...parts));
  let resting;

  function write() {
    const shares = [slider.value, 100 - slider.value];
    const texts = model.get("names").map((name, i) => `${name} ${shares[i]} %`);
    parts.forEach((part, i) => (part.textContent = texts[i] ?? ""));
    slider.setAttribute("aria-valuetext", texts.join(", "));
  }
  function show() {
    slider.value = 100 * model.get("share");
    slider.disabled = model.get("disabled");
    write();
  }
  slider.addEventListener("input", write);
  slider.addEventListener("change", () => {
    clearTimeout(resting); // a key that is held down changes it many times
    resting = setTimeout(() => {
      model.set("share", slider.value / 100);
      model.save_changes();
    }, 250);
  });
  for (const trait of ["share", "names", "disabled"]) model.on(`change:${trait}`, show);
  show();
}
export default { render };
