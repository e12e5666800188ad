// What is wider than the page is scrolled by itself; with the keyboard, too.
addEventListener("load", () => {
  for (const part of document.querySelectorAll(".cell_output table, .cell_output .output, div.math")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  }
});
