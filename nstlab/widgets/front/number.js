// A positive number on a log slider, editable to any value. It is committed when the slider is let go.
function render({ model, el }) {
  keepKeys(el);
  const [low, high] = [Math.log10(model.get("min")), Math.log10(model.get("max"))];
  const id = `nst-${Math.random().toString(36).slice(2)}`;
  const about = { title: model.get("help"), "aria-description": model.get("help") };
  const name = model.get("label");
  const slider = element("input", { type: "range", min: low, max: high, step: 0.05, "aria-label": name, ...about });
  const field = element("input", { type: "text", inputmode: "decimal", id, size: 8, ...about });
  const label = element("label", { for: id, class: "nst-label", ...about }, name);
  const ends = element("div", { class: "nst-ends" }, ...model.get("ends").map((text) => element("span", {}, text)));
  const marks = element("div", { class: "nst-marks", "aria-hidden": "true" });
  for (const value of model.get("marks")) {
    const at = `left: ${((Math.log10(value) - low) / (high - low)) * 100}%`;
    marks.append(element("span", { style: at, title: "Between these marks pictures change most" }, String(value)));
  }
  el.classList.add("nst-number");
  el.append(element("div", { class: "nst-head" }, label, field), slider, marks, ends);

  const round = (value) => Number(value.toPrecision(2));
  const written = (value) => (value !== 0 && (value < 0.01 || value >= 1e7) ? value.toExponential() : String(value));
  let resting;

  function commit(value) {
    clearTimeout(resting);
    model.set("value", value);
    model.save_changes();
  }
  function show() {
    const value = model.get("value");
    field.value = written(value);
    slider.value = value > 0 ? Math.log10(value) : low;
    slider.setAttribute("aria-valuetext", written(value));
    fill();
    slider.disabled = field.disabled = model.get("disabled");
  }
  const fill = () => slider.style.setProperty("--filled", `${((slider.value - low) / (high - low)) * 100}%`);
  slider.addEventListener("input", () => {
    const value = round(10 ** slider.value);
    field.value = written(value);
    slider.setAttribute("aria-valuetext", written(value));
    fill();
  });
  slider.addEventListener("change", () => {
    clearTimeout(resting); // a key that is held down changes it many times
    resting = setTimeout(() => commit(round(10 ** slider.value)), 250);
  });
  field.addEventListener("change", () => {
    const value = Number(field.value.trim().replace(",", "."));
    const number = field.value.trim() && Number.isFinite(value) && value >= 0;
    if (number) commit(value);
    else model.send({ kind: "nonsense", text: field.value });
    show();
  });
  for (const trait of ["value", "disabled"]) model.on(`change:${trait}`, show);
  show();
}
export default { render };
