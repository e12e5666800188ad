// A text to show, copy, or save as a file.
function render({ model, el }) {
  keepKeys(el);
  const text = element("pre", { tabindex: "0", "aria-label": model.get("label") });
  const copy = element("button", { type: "button", class: "nst-button", title: model.get("help") });
  const save = element("button", { type: "button", class: "nst-quiet", title: "Save it as a file" }, "Save…");
  el.classList.add("nst-text");
  el.append(text, element("div", { class: "nst-row" }, copy, model.get("file") ? save : ""));

  const idle = `Copy ${model.get("label")}`;
  copy.textContent = idle;
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(model.get("value"));
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text); // an insecure page has no clipboard
      copy.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl-C";
    }
    setTimeout(() => (copy.textContent = idle), 1500);
  });
  save.addEventListener("click", () => {
    const href = URL.createObjectURL(new Blob([model.get("value")], { type: "text/plain" }));
    element("a", { href, download: model.get("file") }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  });
  const show = () => (text.textContent = model.get("value"));
  model.on("change:value", show);
  show();
}
export default { render };
