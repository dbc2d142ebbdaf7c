// The models, and the few helpers that make elements of them. Text only ever becomes text: nothing here reads markup.
const models = data.models;
const count = models.names.length;

function byId(id) {
  return root.getElementById(id);
}

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function option(text, value) {
  return make("option", text, { value });
}

/** A number as it is read: three decimals at most, and a dash for what is undefined. */
function figure(value, digits = 3) {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1000 || Math.abs(value) < 0.001 ? value.toPrecision(3) : value.toFixed(digits);
}

/** What can colour the models: their metadata, then how well they are imitated. */
const columns = [
  ...models.metadata.map(({ key, values }) => ({ key, values, group: "metadata" })),
  ...models.fidelity.map(({ key, values }) => ({ key, values, group: "fidelity" })),
];
