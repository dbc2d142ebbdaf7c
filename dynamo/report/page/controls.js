// The controls of the map, and what draws it again when it looks different.
function press(group, button) {
  for (const other of byId(group).querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
}

function controls() {
  const colour = byId("colour"), shape = byId("shape");
  for (const group of ["metadata", "fidelity"]) {
    const own = columns.map((column, at) => [column, at]).filter(([column]) => column.group === group);
    if (!own.length) continue;
    const part = make("optgroup", undefined, { label: group });
    part.append(...own.map(([{ key }, at]) => option(key, at)));
    colour.append(part);
  }
  columns.forEach(({ key, values }, at) => { if (!isScale(values) && new Set(values).size <= MARKS.length) shape.append(option(key, at)); });
  const first = columns.findIndex(({ key }) => key === data.colour);
  colour.value = first < 0 ? "" : String(first);
  const read = () => {
    state.colour = columns[colour.value] && colour.value !== "" ? columns[colour.value] : null;
    state.shape = shape.value === "same" ? state.colour : shape.value === "" ? null : columns[shape.value];
    recolour();
  };
  colour.addEventListener("change", read);
  shape.addEventListener("change", read);
  read();
  for (const flat of [true, false]) {
    const button = byId(flat ? "flat" : "turnable");
    button.addEventListener("click", () => { seen.flat = flat; press("sides", button); redraw(); });
  }
  for (const button of byId("tools").querySelectorAll("button"))
    button.addEventListener("click", () => { state.tool = button.id; canvas.dataset.tool = button.id; press("tools", button); });
  byId("nearer").addEventListener("click", () => { seen.zoomBy(1.3); redraw(); });
  byId("farther").addEventListener("click", () => { seen.zoomBy(1 / 1.3); redraw(); });
  byId("whole").addEventListener("click", () => { seen.reset(); redraw(); });
  byId("download").addEventListener("click", () => download(tableOf([...state.selected]), "models.csv"));
  byId("unselect").addEventListener("click", () => select([]));
}

function drawMap() {
  readStyle();
  paintLegend();
  draw();
}

/** Show the map and listen to it. It begins at the first model. */
function startMap() {
  readStyle();
  controls();
  listenToPointer();
  listenToKeys();
  state.place = models.places[0].slice(0, 2);
  state.chosen = 0;
}
