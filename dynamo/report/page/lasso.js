// A set of models: drawn round with the lasso, or one after the other; its names, and a table of them to keep.
function inside(loop) {
  return screen.map((_, index) => index).filter(index => {
    const [x, y] = screen[index];
    let odd = false;
    for (let k = 0, last = loop.length - 1; k < loop.length; last = k++) {
      const [[x1, y1], [x2, y2]] = [loop[k], loop[last]];
      if (y1 > y !== y2 > y && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) odd = !odd;
    }
    return odd;
  });
}

function select(indices) {
  state.selected = new Set(indices);
  byId("selection").hidden = state.selected.size === 0;
  const shown = indices.length === 1 ? "1 model chosen" : `${indices.length} models chosen`;
  byId("selection-count").textContent = shown;
  byId("selection-names").replaceChildren(...indices.map(index => make("li", models.names[index])));
  listeners.selected();
  redraw();
}

function toggle(index) {
  const chosen = new Set(state.selected);
  if (!chosen.delete(index)) chosen.add(index);
  select([...chosen].sort((one, other) => one - other));
}

/** One cell of a CSV file. What a spreadsheet would take for a formula becomes text. */
function cell(value) {
  if (typeof value === "number") return String(value);
  let text = value === null ? "" : String(value).replaceAll("\r", "\n");
  if (/^[=+\-@\t\n＝＋－＠]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function tableOf(indices) {
  const numbers = (name, row) => row.map((_, k) => `${name}_${k + 1}`);
  const head = ["name", ...columns.map(({ key }) => key), ...numbers("coordinate", models.places[0]), ...numbers("theta", models.theta[0])];
  const rows = indices.map(index => [
    models.names[index], ...columns.map(({ values }) => values[index]), ...models.places[index], ...models.theta[index]]);
  return [head, ...rows].map(row => row.map(cell).join(",") + "\n").join("");
}

function download(content, name) {
  const link = make("a", undefined, { download: name });
  link.href = URL.createObjectURL(new Blob([content]));
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
