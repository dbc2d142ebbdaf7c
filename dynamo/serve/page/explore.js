// Every point is a network that runs: Python answers wherever the reader is, beside the nearest models.
function player() {
  const spec = data.network, area = byId("input"), heads = byId("head"), box = byId("answer");
  const numbers = new Map(spec.words.map((word, id) => [word, id]));
  const show = spec.paint ? paintable(byId("paint"), area, spec, () => answer()) : () => {};
  heads.append(...spec.heads.map(({ name }, number) => option(name, number)));
  heads.closest("label").hidden = spec.heads.length < 2;
  let spot = null, example = 0, busy = false, again = false;

  /** Where the reader is, for Python. */
  const spotNow = () => ({ theta: spot.theta, head: spec.heads[heads.value].name, ...(spot.place ? { place: spot.place } : {}) });

  /** Go to a θ that is no model's and no place's. */
  function go(there) {
    spot = there;
    if (there.head >= 0) heads.value = there.head;
    state.chosen = null;
    state.place = there.place ?? state.place;
    redraw();
    answer();
  }

  /** The reader chose a model or a place on the map: the head is that of the nearest model. */
  function move() {
    const shares = state.chosen === null ? sharesAt(state.place) : [{ index: state.chosen, share: 1 }];
    heads.value = models.heads[shares[0].index];
    spot = { shares, theta: thetaOf(shares), place: state.place };
    if (state.chosen !== null) between.startAt(state.chosen);
    answer();
  }

  const points = pointsPanel(spotNow, go), between = betweenPanel(points.all, go), marks = embedPanel(go), walk = fewLabelsPanel(spotNow, go);
  points.onChange(between.refill);
  fixedPointsPanel(spotNow);
  listeners.drawn = pen => { drawWalk(pen, walk); drawMarks(pen, [...points.all(), ...marks, ...walk.ends]); };

  function told(head) {
    if (spot.shares) return describePlace(spot.shares, spot.theta, head);
    byId("where").replaceChildren(...spot.told);
    writePython(spot.theta, head);
  }

  /** What is typed, as the numbers that Python reads. */
  function read() {
    const steps = spec.kind === "tokens" ? readSentence(area.value, numbers) : readNumbers(area.value, spec.size);
    if (!steps.length) throw new Error(spec.kind === "tokens" ? "type a word" : "give at least one step");
    const values = steps.map(({ value }) => value);
    if (spec.kind !== "image") return { steps: steps.slice(0, MOST_STEPS), given: steps.length, values: values.slice(0, MOST_STEPS) };
    const [channels, height] = spec.shape;
    if (values.length !== channels * height) throw new Error(`give ${channels * height} rows`);
    return { steps, given: steps.length, values: Array.from({ length: channels }, (_, channel) => values.slice(channel * height, (channel + 1) * height)) };
  }

  /** Ask for the newest place and input; while Python works, what changes in between is left out. */
  async function answer() {
    show();
    again = true;
    if (busy) return;
    busy = true;
    box.setAttribute("aria-busy", "true");
    while (again) {
      again = false;
      await answerOnce();
    }
    busy = false;
    box.removeAttribute("aria-busy");
  }

  async function answerOnce() {
    const number = Number(heads.value), head = spec.heads[number], problem = byId("answer-problem");
    told(head.name);
    try {
      const { steps, given, values } = read();
      const beside = nearestModels(state.place).filter(index => index !== state.chosen && models.heads[index] === number).slice(0, BESIDE);
      const found = await ask("/api/answer", { theta: spot.theta, head: head.name, values, beside: beside.map(index => models.names[index]), score: true });
      const rows = found.rows.map(row => ({ ...row, values: head.kind === "classes" ? row.outputs.map(softmax) : row.outputs }));
      problem.textContent = spec.kind !== "image" && given > steps.length ? `only the first ${MOST_STEPS} of ${given} steps are read` : "";
      if (head.kind === "none") box.replaceChildren();
      else showAnswer(rows, steps, head);
      if (found.warn) box.prepend(make("p", found.warn, { class: "caution", id: "far" }));
      if (rows.every(({ score }) => typeof score === "number")) box.append(scoreTable(rows, found.scored));
      else box.append(make("p", found.scored, { class: "more", id: "no-score" }));
      if (rows[0].path.length > 1) box.append(pathChart(rows));
    } catch (wrong) {
      problem.textContent = wrong.message;
      box.replaceChildren();
    }
  }

  area.addEventListener("input", answer);
  heads.addEventListener("change", answer);
  byId("example").hidden = !spec.examples.length;
  byId("example").addEventListener("click", () => { area.value = spec.examples[example++ % spec.examples.length]; answer(); });
  byId("clear").addEventListener("click", () => {
    area.value = spec.paint ? blank() : "";
    answer();
    if (!spec.paint) area.focus();
  });
  const tall = () => (spec.shape ? spec.shape[0] * spec.shape[1] : area.value.split("\n").filter(line => line.trim()).length);
  const blank = () => Array.from({ length: tall() }, () => Array(spec.size).fill(spec.low).join(" ")).join("\n");
  if (spec.paint) pictureDoor(spec, tall, text => { area.value = text; answer(); });
  if (spec.examples.length) area.value = spec.examples[example++];
  else if (spec.paint && spec.shape) area.value = blank();
  listeners.place = move;
  return move;
}

/** A picture from a file, as the numbers of an input: black is the least value of the run's inputs, white the greatest. */
function pictureDoor({ size, shape, low, high }, tall, done) {
  const door = byId("picture");
  door.addEventListener("change", async () => {
    const channels = shape ? shape[0] : 1, height = tall() / channels, canvas = document.createElement("canvas");
    try {
      const picture = await createImageBitmap(door.files[0]);
      Object.assign(canvas, { width: size, height });
      const pen = canvas.getContext("2d");
      pen.drawImage(picture, 0, 0, size, height);
      const { data: dots } = pen.getImageData(0, 0, size, height);
      const value = (channel, y, x) => {
        const at = 4 * (y * size + x), light = channels === 3 ? dots[at + channel] : (dots[at] + dots[at + 1] + dots[at + 2]) / 3;
        return Number((low + (high - low) * light / 255).toFixed(3));
      };
      done(Array.from({ length: channels * height }, (_, row) =>
        Array.from({ length: size }, (_, x) => value(Math.floor(row / height), row % height, x)).join(" ")).join("\n"));
    } catch {
      byId("answer-problem").textContent = "this file is no picture that the browser can read";
    }
  });
}

function scoreTable(rows, scored) {
  const table = make("table", undefined, { id: "scores" }), body = make("tbody");
  table.append(make("caption", `Score of the task: ${scored}`), body);
  for (const { name, score } of rows) {
    const row = make("tr");
    row.append(make("th", name, { scope: "row" }), valueCell(score, 3));
    body.append(row);
  }
  return table;
}

/** The states of the networks over the steps, along the two directions in which states of all models spread most. */
function pathChart(rows) {
  const space = "http://www.w3.org/2000/svg", wide = 640, tall = 300, box = make("figure"), chart = document.createElementNS(space, "svg");
  const all = rows.flatMap(({ path }) => path), palette = style.dark ? DARK : LIGHT;
  const bounds = [0, 1].map(k => [Math.min(...all.map(state => state[k])), Math.max(...all.map(state => state[k]))]);
  const at = state => [0, 1].map(k => 12 + (state[k] - bounds[k][0]) / (bounds[k][1] - bounds[k][0] || 1) * ((k ? tall : wide) - 24));
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": `the path of the state here, beside ${rows.length - 1} models; ${rows[0].path.length} steps` }))
    chart.setAttribute(name, value);
  const add = (tag, attributes) => {
    const part = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
    chart.append(part);
  };
  [...rows].reverse().forEach(({ path }, reversed) => {
    const number = rows.length - 1 - reversed, colour = palette[number % palette.length], spots = path.map(at).map(([x, y]) => [x, tall - y]);
    add("polyline", { points: spots.map(spot => spot.join(",")).join(" "), fill: "none", stroke: colour, "stroke-width": number ? 1.2 : 2.6, opacity: number ? 0.7 : 1 });
    const [x, y] = spots[spots.length - 1];
    add("circle", { cx: x, cy: y, r: number ? 3 : 5, fill: colour });
  });
  const legend = make("ul", undefined, { class: "legend" });
  legend.append(...rows.map(({ name }, number) => {
    const row = make("li");
    row.append(markPicture(0, palette[number % palette.length]), make("bdi", name));
    return row;
  }));
  box.append(chart, legend, make("figcaption", "The path of the state, step by step; a dot is its end. The axes are the same for every θ."));
  box.id = "path";
  return box;
}
