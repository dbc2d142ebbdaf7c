// The map: every model a mark; what lies under the pointer or the keyboard is described beside it.
const canvas = byId("map");
const seen = camera(models.places);
const state = { colour: null, shape: null, tool: "look", near: null, chosen: null, place: null, selected: new Set(), loop: [] };
const listeners = { place: () => {}, selected: () => {}, drawn: () => {} };
let coloured = encoding(null), shaped = encoding(null), screen = [], waiting = false;

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

function radius() {
  return Math.max(6.5 * Math.min(1, Math.sqrt(200 / count)), 3);
}

function draw() {
  const pen = penOf(canvas, seen), size = radius();
  screen = models.places.map(seen.project);
  drawFrame(pen);
  drawLines(pen);
  const order = screen.map((_, index) => index);
  if (!seen.flat) order.sort((one, other) => screen[other][2] - screen[one][2]);
  for (const index of order) drawModel(pen, index, size);
  drawPlace(pen);
  drawLoop(pen);
  listeners.drawn(pen);
}

function drawFrame(pen) {
  const names = models.shares.slice(0, 3).map((share, k) => `coordinate ${k + 1} (${Math.round(100 * share)} %)`);
  if (!seen.flat) return drawAxes(pen, seen, names);
  pen.fillStyle = ink("quiet");
  pen.strokeStyle = ink("line");
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(28.5, 10);
  pen.lineTo(28.5, seen.height - 26.5);
  pen.lineTo(seen.width - 10, seen.height - 26.5);
  pen.stroke();
  pen.textAlign = "right";
  pen.fillText(names[0] ?? "", seen.width - 10, seen.height - 9);
  pen.save();
  pen.translate(17, 10);
  pen.rotate(-Math.PI / 2);
  pen.fillText(names[1] ?? "", 0, 0);
  pen.restore();
  pen.textAlign = "left";
  drawFloor(pen);
}

/** The distance of equal models, to measure others by. */
function drawFloor(pen) {
  if (!models.floor) return;
  const [from, to] = [[0, 0, 0], [models.floor, 0, 0]].map(place => seen.project(place)[0]), left = 42, y = seen.height - 40;
  pen.strokeStyle = pen.fillStyle = ink("quiet");
  pen.beginPath();
  for (const x of [left, left + to - from]) {
    pen.moveTo(x, y - 4);
    pen.lineTo(x, y + 4);
  }
  pen.moveTo(left, y);
  pen.lineTo(left + to - from, y);
  pen.stroke();
  pen.fillText("equal models", left, y - 8);
}

function drawLines(pen) {
  pen.strokeStyle = ink("trace");
  pen.lineWidth = 1.2;
  for (const line of models.lines) {
    pen.beginPath();
    for (const index of line) pen.lineTo(screen[index][0], screen[index][1]);
    pen.stroke();
  }
}

function drawModel(pen, index, size) {
  const [x, y, depth] = screen[index], faded = state.selected.size > 0 && !state.selected.has(index);
  const own = size * (seen.flat ? 1 : 1 - 0.2 * depth) * (index === state.near ? 1.35 : 1);
  pen.save();
  pen.translate(x, y);
  pen.scale(own, own);
  pen.globalAlpha = faded ? 0.22 : 1;
  pen.fillStyle = colourOf(coloured, index);
  pen.fill(paths[markOf(shaped, index)]);
  pen.globalAlpha = faded ? 0.3 : 1;
  pen.lineWidth = 1 / own;
  pen.strokeStyle = index === state.near || index === state.chosen ? ink("ink") : ink("paper");
  pen.stroke(paths[markOf(shaped, index)]);
  pen.restore();
  if (index === state.chosen || index === state.near) {
    pen.beginPath();
    pen.arc(x, y, own + 4.5, 0, 2 * Math.PI);
    pen.strokeStyle = ink(index === state.chosen ? "accent" : "quiet");
    pen.lineWidth = index === state.chosen ? 2 : 1;
    pen.stroke();
  }
}

function drawPlace(pen) {
  if (!state.place || state.chosen !== null || !seen.flat) return;
  const [x, y] = seen.project([...state.place, 0]);
  for (const [colour, width] of [[ink("paper"), 5], [ink("accent"), 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.beginPath();
    pen.arc(x, y, 6, 0, 2 * Math.PI);
    for (const [right, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(x + 4 * right, y + 4 * down);
      pen.lineTo(x + 11 * right, y + 11 * down);
    }
    pen.stroke();
  }
}

function drawLoop(pen) {
  if (state.loop.length < 2) return;
  pen.beginPath();
  for (const [x, y] of state.loop) pen.lineTo(x, y);
  pen.closePath();
  pen.strokeStyle = ink("accent");
  pen.lineWidth = 1.5;
  pen.stroke();
  pen.globalAlpha = 0.08;
  pen.fillStyle = ink("accent");
  pen.fill();
  pen.globalAlpha = 1;
}

/** The model under a point of the screen, or null. */
function modelAt(x, y, reach = radius() + 6) {
  let found = null, least = reach;
  screen.forEach(([right, down], index) => {
    const far = Math.hypot(right - x, down - y);
    if (far < least) [found, least] = [index, far];
  });
  return found;
}

/** Describe a model where it lies. */
function describe(index) {
  state.near = index;
  const tip = byId("tip");
  tip.hidden = index === null;
  if (index !== null) {
    const rows = columns.map(({ key, values }) => [make("dt", key), make("dd", figure(values[index]))]).flat();
    const list = make("dl");
    list.append(...rows);
    tip.replaceChildren(make("strong", models.names[index]), list);
    const [x, y] = screen[index], right = x > seen.width / 2, low = y > seen.height / 2;
    Object.assign(tip.style, {
      left: right ? "auto" : `${x + 14}px`, right: right ? `${seen.width - x + 14}px` : "auto",
      top: low ? "auto" : `${y + 10}px`, bottom: low ? `${seen.height - y + 10}px` : "auto",
    });
  }
  redraw();
}

/** Go to a model, exactly, or to a place between models. */
function choose(index, place) {
  state.chosen = index;
  state.place = index === null ? place : models.places[index].slice(0, 2);
  listeners.place();
  redraw();
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left - canvas.clientLeft, event.clientY - box.top - canvas.clientTop];
}

function listenToPointer() {
  let from = null, moved = 0;
  canvas.addEventListener("pointerdown", event => {
    from = pointOf(event);
    moved = 0;
    canvas.setPointerCapture(event.pointerId);
    if (state.tool === "lasso") state.loop = [from];
  });
  canvas.addEventListener("pointermove", event => {
    const point = pointOf(event);
    if (!from) return describe(modelAt(...point));
    const [right, down] = [point[0] - from[0], point[1] - from[1]];
    moved += Math.hypot(right, down);
    from = point;
    if (state.tool === "lasso") state.loop.push(point);
    else if (state.tool === "walk" && seen.flat) choose(null, seen.placeAt(...point));
    else if (moved > 4 && seen.flat) seen.shift = [seen.shift[0] + right, seen.shift[1] + down];
    else if (moved > 4) seen.turnBy(right / 150, down / 150);
    redraw();
  });
  canvas.addEventListener("pointerup", event => {
    const point = pointOf(event), index = modelAt(...point);
    if (from && state.tool === "lasso" && moved > 4) select(inside(state.loop));
    else if (from && moved <= 4) {
      describe(index);
      if (index !== null || seen.flat) choose(index, seen.placeAt(...point));
    }
    state.loop = [];
    from = null;
    redraw();
  });
  canvas.addEventListener("pointercancel", () => { from = null; state.loop = []; redraw(); });
  canvas.addEventListener("pointerleave", () => { if (!from) describe(null); });
  canvas.addEventListener("wheel", event => {
    if (!event.ctrlKey) return;  // the page itself scrolls
    event.preventDefault();
    seen.zoomBy(Math.exp(-event.deltaY / 300));
    redraw();
  }, { passive: false });
}

/** The next model in a direction of the screen. */
function nextModel(from, right, down) {
  if (from === null) return 0;
  let found = from, least = Infinity;
  screen.forEach(([x, y], index) => {
    const ahead = (x - screen[from][0]) * right + (y - screen[from][1]) * down;
    const aside = Math.abs((x - screen[from][0]) * down) + Math.abs((y - screen[from][1]) * right);
    if (index !== from && ahead > 0.01 && ahead + 2 * aside < least) [found, least] = [index, ahead + 2 * aside];
  });
  return found;
}

function listenToKeys() {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", event => {
    const way = ways[event.key];
    if (way && event.shiftKey && !seen.flat) seen.turnBy(way[0] / 8, way[1] / 8);
    else if (way) describe(nextModel(state.near, ...way));
    else if (event.key === "Enter" && state.near !== null) choose(state.near);
    else if (event.key === " " && state.near !== null) toggle(state.near);
    else if (event.key === "Escape") { describe(null); select([]); }
    else if (event.key === "+" || event.key === "-") seen.zoomBy(event.key === "+" ? 1.3 : 1 / 1.3);
    else return;
    event.preventDefault();
    redraw();
  });
  canvas.addEventListener("focus", () => { if (state.near === null && canvas.matches(":focus-visible")) describe(state.chosen ?? 0); });
  canvas.addEventListener("blur", () => describe(null));
}

function paintLegend() {
  const legend = byId("legend"), shownShape = state.shape && state.shape !== state.colour;
  legend.replaceChildren();
  if (state.colour) legend.append(...legendOf(state.colour, coloured, true));
  if (shownShape) legend.append(...legendOf(state.shape, shaped, false));
}

function legendOf(column, shown, inColour) {
  const title = make("li", column.key, { class: "key" });
  if (shown.kind === "scale") {
    const bar = make("span", undefined, { class: "scale", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(90deg, ${VIRIDIS.join(", ")})`;
    const row = make("li");
    row.append(figure(shown.low), bar, figure(shown.high));
    return [title, row];
  }
  const most = 24, rows = shown.texts.slice(0, most).map((text, number) => {
    const row = make("li"), index = column.values.findIndex((_, at) => shown.of(at) === number);
    const mark = inColour && state.shape !== state.colour ? 0 : markOf(shown, index);
    row.append(markPicture(mark, inColour ? colourOf(shown, index) : ink("quiet")), make("bdi", text), make("small", String(shown.counts[number])));
    return row;
  });
  if (shown.texts.length > most) rows.push(make("li", `… ${shown.texts.length - most} more`));
  return [title, ...rows];
}

function recolour() {
  coloured = encoding(state.colour);
  shaped = encoding(state.shape);
  paintLegend();
  redraw();
}
