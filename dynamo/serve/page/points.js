// Points with names: kept in the run folder, shown on the map, and exported as files.
function pointsPanel(spotNow, go) {
  const told = byId("points-told"), list = byId("points"), area = byId("lines"), mean = byId("save-mean"), named = byId("point-name");
  let points = [], changed = () => {};

  function show() {
    list.replaceChildren(...points.map(point => {
      const row = make("li"), name = make("button", point.name, { type: "button", class: "name" });
      const address = `/api/points/${encodeURIComponent(point.name)}`;
      name.addEventListener("click", () => go(pointSpot(point)));
      const file = make("a", "Export", { href: `${address}/file`, download: "", "aria-label": `export ${point.name}` });
      const lines = make("button", "Python", { type: "button", "aria-label": `the lines that load ${point.name}` });
      onPress(lines, told, async () => {
        area.textContent = (await ask(`${address}/lines`)).lines;
        area.hidden = false;
      });
      const remove = make("button", "Remove", { type: "button", "aria-label": `remove ${point.name}` });
      onPress(remove, told, async () => { await ask(address, undefined, "DELETE"); await refresh(); });
      const onnx = make("button", "ONNX", { type: "button", "aria-label": `export ${point.name} as ONNX` });
      onPress(onnx, told, () => saveOnnx(point));
      row.append(name, " ", file, " ", onnx, " ", lines, " ", remove);
      return row;
    }));
    changed();
    redraw();
  }

  async function saveOnnx({ name, theta, head }) {
    const found = await follow({ kind: "onnx", theta, head }, { bar: byId("onnx-bar"), stop: byId("onnx-stop"), told });
    if (found) download(Uint8Array.from(atob(found.file), letter => letter.charCodeAt(0)), `${name.replace(/[^A-Za-z0-9_-]/g, "-").slice(0, 60)}.onnx`);
  }

  function pointSpot({ name, theta, head, models: parts, place }) {
    const mean = parts.length ? `, the mean θ of ${parts.length} model${parts.length > 1 ? "s" : ""}` : "";
    return { theta, place: place.length ? place : null, head: data.network.heads.findIndex(one => one.name === head),
      told: ["At the point ", make("b", name), `${mean}.`] };
  }

  async function refresh() {
    points = (await ask("/api/points")).points;
    show();
  }

  async function save(table) {
    await ask("/api/points", { name: named.value, ...table });
    named.value = "";
    await refresh();
  }

  onPress(byId("save-point"), told, () => save(spotNow()));
  mean.addEventListener("click", async () => {
    told.textContent = "";
    const chosen = [...state.selected], place = [0, 1].map(k => chosen.reduce((sum, index) => sum + models.places[index][k], 0) / chosen.length);
    try {
      const name = named.value;
      await save({ models: chosen.map(index => models.names[index]), place });
      go(pointSpot(points.find(point => point.name === name)));
    } catch (problem) {
      told.textContent = problem.message;
    }
  });
  listeners.selected = () => { mean.disabled = !state.selected.size; };
  const later = () => refresh().catch(problem => { told.textContent = problem.message; });
  later();
  addEventListener("focus", later);  // another browser may have named some
  return { all: () => points, onChange: act => { changed = act; } };
}

/** Rings with names on the map: named points, and new models. */
function drawMarks(pen, marks) {
  if (!seen.flat) return;
  for (const { name, place } of marks) {
    if (!place.length) continue;
    const [x, y] = seen.project([...place, 0]);
    pen.lineWidth = 1.8;
    pen.strokeStyle = ink("ink");
    pen.beginPath();
    pen.moveTo(x, y - 6);
    for (const [right, down] of [[6, 0], [0, 6], [-6, 0], [0, -6]]) pen.lineTo(x + right, y + down);
    pen.stroke();
    const shown = name.length > 24 ? `${name.slice(0, 23)}…` : name, wide = pen.measureText(shown).width;
    pen.lineWidth = 3;
    pen.strokeStyle = ink("paper");
    const at = x + 10 + wide > seen.width ? x - 10 - wide : x + 10;
    pen.strokeText(shown, at, y + 4);
    pen.fillStyle = ink("ink");
    pen.fillText(shown, at, y + 4);
  }
}
