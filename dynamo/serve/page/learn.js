// Learning from a few labels: θ walks from where the reader is, and is drawn on the way; then what it came to.
function fewLabelsPanel(spotNow, go) {
  const begin = byId("few-labels-start"), walk = { steps: [], ends: [] };
  if (!begin) return walk;
  const told = byId("few-labels-told"), scores = byId("few-labels-scores"), list = byId("few-labels-ends");
  const parts = { bar: byId("few-labels-bar"), stop: byId("few-labels-stop"), told };
  const onPart = steps => { walk.steps = steps; bringIntoSight(steps); redraw(); };

  onPress(begin, told, async () => {
    walk.ends = [];
    onPart([]);
    scores.replaceChildren();
    list.replaceChildren();
    const { head, theta } = spotNow(), found = await follow({ kind: "few-labels", head, theta, labels: byId("labels").valueAsNumber }, parts, onPart);
    if (!found) return;
    told.textContent = found.told.split("\n", 1)[0];  // the table shows no intervals
    scores.append(methodsTable(found));
    walk.ends = found.ends.map((end, draw) => ({ ...end, name: `draw ${draw + 1}` }));
    list.replaceChildren(...walk.ends.map(end => {
      const row = make("li"), name = make("button", end.name, { type: "button", class: "name" });
      const number = data.network.heads.findIndex(one => one.name === end.head);
      name.addEventListener("click", () => go({ theta: end.theta, place: end.place, head: number, told: ["Where ", make("b", end.name), ` of the labels led to, after ${end.steps} steps.`] }));
      row.append(name, ` after ${end.steps} steps`);
      return row;
    }));
    redraw();
  });
  return walk;
}

function methodsTable({ columns, rows }) {
  const shown = ["method", "score", "difference", "note"].map(name => columns.indexOf(name));
  const table = make("table", undefined, { id: "methods" }), body = make("tbody");
  table.append(make("caption", "Mean test score over the draws of labels"), headOf("method", shown.slice(1).map(k => (columns[k] === "difference" ? "to θ-learning" : columns[k]))), body);
  for (const row of rows) {
    const line = make("tr");
    line.append(make("th", row[shown[0]], { scope: "row" }), ...shown.slice(1).map(k => make("td", row[k] === null ? "" : figure(row[k]))));
    body.append(line);
  }
  return scrolling(table, "scores of what was learned");
}

/** Zoom out until the whole walk is in sight: it may leave the map. */
function bringIntoSight(steps) {
  const outside = ([x, y]) => x < 40 || y < 20 || x > seen.width - 20 || y > seen.height - 40;
  const hidden = () => steps.some(({ places }) => places.some(place => outside(seen.project([...place, 0]))));
  while (seen.flat && seen.zoom > LEAST_ZOOM && hidden()) seen.zoomBy(1 / 1.15);
}

/** The way of θ on each draw of labels. */
function drawWalk(pen, { steps }) {
  if (!seen.flat || !steps.length) return;
  pen.strokeStyle = ink("accent");
  pen.lineWidth = 2;
  steps[0].places.forEach((_, draw) => {
    pen.beginPath();
    for (const { places } of steps) pen.lineTo(...seen.project([...places[draw], 0]).slice(0, 2));
    pen.stroke();
  });
}
