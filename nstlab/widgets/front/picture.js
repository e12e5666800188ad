// An encoded picture with a text that says what it shows, which ipywidgets' own lacks.
function render({ model, el }) {
  const img = element("img", { draggable: "false" });
  const show = () => {
    img.alt = model.get("label");
    showBytes(img, model.get("value"));
  };
  el.append(img);
  for (const name of ["value", "label"]) model.on(`change:${name}`, show);
  show();
}
export default { render };
