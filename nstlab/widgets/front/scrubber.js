// The stored frames of a run: a slider over them, play, and back to the newest.
const BEAT = 350; // milliseconds per frame

function render({ model, el }) {
  keepKeys(el);
  const play = element("button", { type: "button", class: "nst-quiet", title: "Play the stored frames" }, "▶");
  const slider = element("input", { type: "range", min: 0, step: 1, title: "The stored frames of this run" });
  slider.setAttribute("aria-label", "Stored frame");
  const text = element("output", { class: "nst-frame" });
  const newest = element("button", { type: "button", class: "nst-quiet", title: "Follow the newest picture" }, "Newest");
  el.classList.add("nst-scrubber");
  el.append(play, slider, text, newest);
  let beat = null;
  let resting;

  // The last stop is the newest picture, which is followed as it forms.
  function go(index) {
    model.set("index", index >= model.get("frames").length - 1 ? -1 : index);
    model.save_changes();
  }
  function show() {
    const frames = model.get("frames");
    const index = model.get("index");
    slider.max = Math.max(frames.length - 1, 0);
    slider.value = index < 0 ? slider.max : index;
    slider.style.setProperty("--filled", `${frames.length > 1 ? (slider.value / slider.max) * 100 : 0}%`);
    const disabled = frames.length < 2;
    play.disabled = slider.disabled = disabled;
    newest.disabled = index < 0;
    const at = frames[slider.value];
    text.textContent = frames.length ? `frame at ${at}` : "no frames yet";
    slider.setAttribute("aria-valuetext", text.textContent);
  }
  function stop() {
    clearInterval(beat);
    beat = null;
    play.textContent = "▶";
    play.setAttribute("aria-label", "Play");
  }
  play.setAttribute("aria-label", "Play");
  play.addEventListener("click", () => {
    if (beat) return stop();
    if (model.get("index") < 0) go(0);
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "Pause playing");
    beat = setInterval(() => {
      if (!el.isConnected || model.get("index") < 0) return stop();
      go(model.get("index") + 1);
    }, BEAT);
  });
  slider.addEventListener("input", () => {
    stop();
    clearTimeout(resting);
    text.textContent = `frame at ${model.get("frames")[slider.value]}`;
    resting = setTimeout(() => go(Number(slider.value)), 80);
  });
  newest.addEventListener("click", () => {
    stop();
    go(-1);
  });
  for (const name of ["frames", "index"]) model.on(`change:${name}`, show);
  show();
}
export default { render };
