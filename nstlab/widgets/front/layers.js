// Some of the network's layers: of a VGG one row per block, of others one row; one button per layer.
function render({ model, el }) {
  keepKeys(el);
  const label = element("span", { class: "nst-label", title: model.get("help") }, model.get("label"));
  const kind = element("select", { "aria-label": `${model.get("label")}: kind of layer`, title: "which layers to offer" });
  for (const name of ["relu", "conv", "pool"]) kind.append(element("option", {}, name));
  const chosen = element("span", { class: "nst-chosen" });
  const rows = element("div", { class: "nst-layers", role: "group", "aria-label": model.get("label") });
  el.classList.add("nst-layer-choice");
  el.append(element("div", { class: "nst-head" }, label, chosen, kind), rows);

  function toggle(name) {
    const before = model.get("value");
    const all = model.get("options");
    const after = before.includes(name) ? before.filter((other) => other !== name) : [...before, name];
    model.set("value", after.sort((a, b) => all.indexOf(a) - all.indexOf(b)));
    model.save_changes();
  }
  function fill() {
    const value = model.get("value");
    const isVGG = model.get("options").every((name) => /^(conv|relu|pool)[1-5]/.test(name));
    const wanted = (name) => !isVGG || name.startsWith(kind.value) || value.includes(name);
    const shown = model.get("options").filter(wanted);
    kind.hidden = !isVGG;
    const focused = rows.contains(document.activeElement) && document.activeElement.textContent;
    chosen.textContent = value.length ? "" : "none";
    rows.replaceChildren();
    for (const block of isVGG ? "12345" : "*") {
      const row = element("div", { class: "nst-block" });
      for (const name of shown.filter((name) => !isVGG || name[4] === block)) {
        const button = element("button", { type: "button", "aria-pressed": value.includes(name) }, name);
        button.addEventListener("click", () => toggle(name));
        button.disabled = model.get("disabled");
        row.append(button);
        if (name === focused) setTimeout(() => button.focus());
      }
      if (row.children.length) rows.append(row);
    }
    kind.disabled = model.get("disabled");
  }
  kind.addEventListener("change", fill);
  for (const trait of ["value", "options", "disabled"]) model.on(`change:${trait}`, fill);
  fill();
}
export default { render };
