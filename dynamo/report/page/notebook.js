// What is chosen on the map is told to Python, and what Python chooses is shown. A spot is the number of a model, or two
// coordinates.
function tell(name, value, more = {}) {
  if (String(model.get(name)) === String(value)) return;  // Python knows
  for (const [key, own] of Object.entries({ ...more, [name]: value })) model.set(key, own);
  model.save_changes();
}

listeners.place = () => {
  if (state.chosen !== null) tell("_spot", [state.chosen], { theta: models.theta[state.chosen] });
  else tell("_spot", state.place, { theta: thetaOf(sharesAt(state.place)) });
};
listeners.selected = () => tell("_selected", [...state.selected]);

function showSpot() {
  const spot = model.get("_spot");
  if (spot.length === 1) choose(spot[0]);
  else choose(null, spot);
}

function showSelected() {
  select(model.get("_selected"));
}

const scheme = matchMedia("(prefers-color-scheme: dark)"), sized = new ResizeObserver(drawMap);
startMap();
showSpot();
showSelected();
model.on("change:_spot", showSpot);
model.on("change:_selected", showSelected);
scheme.addEventListener("change", drawMap);
sized.observe(canvas);
return () => {
  model.off("change:_spot", showSpot);
  model.off("change:_selected", showSelected);
  scheme.removeEventListener("change", drawMap);
  sized.disconnect();
};
