// Put together: the map, the network if there is one, the tables, and what must be drawn again when.
const spaces = [...document.querySelectorAll("canvas[data-space]")].map(drawn => showSpace(drawn, data.spaces[drawn.dataset.space]));

function drawAll() {
  drawMap();
  spaces.forEach(show => show());
}

startMap();
document.querySelectorAll("table[data-sortable]").forEach(sortable);
leadToMap(byId("models-table"));
const move = data.network ? player() : null;
drawAll();
if (move) move();
ground.dataset.ready = "yes";
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawAll(); if (move) move(); });
addEventListener("beforeprint", () => { style.printing = true; drawAll(); });
addEventListener("afterprint", () => { style.printing = false; drawAll(); });
new ResizeObserver(redraw).observe(canvas);
addEventListener("resize", () => spaces.forEach(show => show()));
