// How an answer is shown: where it was asked, the outputs beside those of the nearest models, and after each step.
const BESIDE = 3, SHOWN_CLASSES = 12, SHOWN_STEPS = 80, MOST_STEPS = 200;

function nearestModels(place) {
  const far = models.places.map(([x, y]) => Math.hypot(x - place[0], y - place[1]));
  return far.map((_, index) => index).sort((one, other) => far[one] - far[other] || one - other);
}

function describePlace(shares, theta, head) {
  const told = byId("where"), [x, y] = state.place;
  told.replaceChildren();
  if (state.chosen !== null) told.append("At ", make("b", models.names[state.chosen]), ": the network that imitates it.");
  else {
    told.append(`Between the models, at (${figure(x)}, ${figure(y)}): the mean θ of the nearest, `);
    shares.filter(({ share }) => share >= 0.005).forEach(({ index, share }, rank) => told.append(rank ? ", " : "", make("b", models.names[index]), ` ${Math.round(100 * share)} %`));
    told.append(".");
  }
  writePython(theta, head);
}

/** The line of Python that gives the network at a θ. */
function writePython(theta, head) {
  const several = data.network.heads.length > 1 ? `, head=${JSON.stringify(head)}` : "";
  byId("python").textContent = `Fit.load(${JSON.stringify(data.run)}).model_at([${theta.map(value => Number(value.toPrecision(9))).join(", ")}]${several})`;
}

function shade(box, share) {
  box.style.setProperty("--share", `${Math.round(100 * Math.min(Math.max(share, 0), 1))}%`);
  box.classList.add("shaded");
}

/** Decimals of a probability: fewer where there are many classes side by side. */
const digitsOf = shown => (shown.length > 6 ? 2 : 3);

function valueCell(value, shaded) {
  const box = make("td", value.toFixed(shaded || 3), { "data-value": value });
  if (shaded) shade(box, value);
  return box;
}

function showAnswer(rows, read, head) {
  const classes = head.kind === "classes", last = rows.map(({ values }) => values[values.length - 1]);
  let shown = last[0].map((_, k) => k);
  if (shown.length > SHOWN_CLASSES) shown = shown.sort((one, other) => last[0][other] - last[0][one]).slice(0, SHOWN_CLASSES);
  const names = shown.map(k => (classes ? (shown.length > 2 ? String(k) : `class ${k}`) : `output ${k + 1}`));
  const parts = [answerTable(rows, last, shown, names, classes)];
  if (data.network.kind === "image") return byId("answer").replaceChildren(...parts);
  if (!classes && read.length > 1) parts.push(lineChart(rows[0].values, shown, names));
  parts.push(stepsTable(rows[0].values, read, shown, names, classes));
  byId("answer").replaceChildren(...parts);
}

function headOf(first, names) {
  const head = make("thead"), row = make("tr");
  row.append(make("th", first, { scope: "col" }), ...names.map(name => make("th", name, { scope: "col" })));
  head.append(row);
  return head;
}

function scrolling(table, told) {
  const box = make("div", undefined, { class: "scroll", tabindex: "0", role: "region", "aria-label": told });
  box.append(table);
  return box;
}

function answerTable(rows, last, shown, names, classes) {
  const table = make("table", undefined, { id: "answers" }), body = make("tbody");
  table.append(make("caption", `${data.network.kind === "image" ? "The answer" : "After the last step"}${classes ? ": the probability of each class" : ""}`), headOf("network", classes ? ["class", ...names] : names), body);
  rows.forEach(({ name }, at) => {
    const row = make("tr"), top = last[at].indexOf(Math.max(...last[at]));
    row.append(make("th", name, { scope: "row" }));
    if (classes) row.append(make("td", String(top), { class: "decision" }));
    row.append(...shown.map(k => valueCell(last[at][k], classes && digitsOf(shown))));
    body.append(row);
  });
  return scrolling(table, "answers");
}

function stepsTable(values, read, shown, names, classes) {
  const box = make("details"), table = make("table", undefined, { id: "steps" }), body = make("tbody");
  box.open = classes;
  box.append(make("summary", "After each step, here"), scrolling(table, "answers after each step"));
  table.append(headOf("step", names), body);
  values.slice(0, SHOWN_STEPS).forEach((row, at) => {
    const line = make("tr");
    line.append(make("th", read[at].name, { scope: "row" }), ...shown.map(k => valueCell(row[k], classes && digitsOf(shown))));
    body.append(line);
  });
  if (values.length > SHOWN_STEPS) box.append(make("p", `… ${values.length - SHOWN_STEPS} more steps`));
  return box;
}

/** The outputs over the steps as lines. */
function lineChart(values, shown, names) {
  const space = "http://www.w3.org/2000/svg", wide = 640, tall = 180, chart = document.createElementNS(space, "svg");
  const all = values.flatMap(row => shown.map(k => row[k])), low = Math.min(...all), high = Math.max(...all);
  chart.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", `outputs over ${values.length} steps, from ${figure(low)} to ${figure(high)}`);
  const palette = style.dark ? DARK : LIGHT;
  shown.forEach((k, number) => {
    const line = document.createElementNS(space, "polyline");
    line.setAttribute("points", values.map((row, at) =>
      `${8 + at / Math.max(values.length - 1, 1) * (wide - 90)},${8 + (high - row[k]) / (high - low || 1) * (tall - 16)}`).join(" "));
    line.setAttribute("fill", "none");
    line.setAttribute("stroke", palette[number % palette.length]);
    line.setAttribute("stroke-width", "1.6");
    const label = document.createElementNS(space, "text");
    label.textContent = names[number];
    label.setAttribute("x", wide - 76);
    label.setAttribute("y", 18 + 16 * number);
    label.setAttribute("fill", palette[number % palette.length]);
    chart.append(line, label);
  });
  return chart;
}
