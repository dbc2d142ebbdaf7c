// Colours and marks. Groups have both, so that no one needs to tell colours apart; numbers have a scale.
const LIGHT = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a500", "#444444"];
const DARK = ["#56a8e0", "#f0b73a", "#2fc596", "#e09cc4", "#8fd0f7", "#f2803a", "#e8dd55", "#c8c8c8"];
const VIRIDIS = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const MARKS = [
  "M1 0A1 1 0 1 1-1 0A1 1 0 1 1 1 0Z", // circle
  "M-.88-.88H.88V.88H-.88Z", // square
  "M0-1.15L1.1.8H-1.1Z", // triangle
  "M0-1.25L1.1 0L0 1.25L-1.1 0Z", // diamond
  "M0 1.15L1.1-.8H-1.1Z", // triangle, pointing down
  "M-.4-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z", // plus
  "M-1.1-.6L-.6-1.1L0-.5L.6-1.1L1.1-.6L.5 0L1.1.6L.6 1.1L0 .5L-.6 1.1L-1.1.6L-.5 0Z", // cross
  "M0-1.25L.32-.42L1.2-.38L.5.16L.75 1.02L0 .52L-.75 1.02L-.5.16L-1.2-.38L-.32-.42Z", // star
];
const paths = MARKS.map(mark => new Path2D(mark));

// What the page's own style says is asked once, and again when it changes.
const style = { printing: false, dark: false, inks: new Map() };

function readStyle() {
  style.dark = !style.printing && matchMedia("(prefers-color-scheme: dark)").matches;
  style.inks.clear();
}

/** The colours that the style gives to ink, lines and ground. */
function ink(name) {
  if (!style.inks.has(name)) style.inks.set(name, getComputedStyle(ground).getPropertyValue(`--${name}`).trim());
  return style.inks.get(name);
}

function onScale(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [one, other] = [VIRIDIS[low], VIRIDIS[low + 1]].map(hex => [1, 3, 5].map(k => parseInt(hex.slice(k, k + 2), 16)));
  return `rgb(${one.map((value, k) => Math.round(value + (other[k] - value) * (at - low)))})`;
}

function isScale(values) {
  const known = values.filter(value => value !== null);
  return known.length > 0 && known.every(value => typeof value === "number") && new Set(known).size > LIGHT.length - 1;
}

/** How a column shows: as a scale from low to high, as groups with a number for each, or (without a column) not. */
function encoding(column) {
  if (!column) return { kind: "none", of: () => 0 };
  if (isScale(column.values)) {
    const known = column.values.filter(value => value !== null);
    const low = Math.min(...known), high = Math.max(...known);
    const share = value => (high > low ? (value - low) / (high - low) : 0.5);
    return { kind: "scale", low, high, of: index => (column.values[index] === null ? null : share(column.values[index])) };
  }
  const sorted = [...new Set(column.values)].sort((one, other) =>
    typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other)));
  const numbers = new Map(sorted.map((value, number) => [value, number]));
  const counts = sorted.map(value => column.values.filter(other => other === value).length);
  const texts = sorted.map(value => (value === null ? "none" : String(value)));
  return { kind: "groups", texts, counts, of: index => numbers.get(column.values[index]) };
}

function colourOf(shown, index) {
  const palette = style.dark ? DARK : LIGHT, value = shown.of(index);
  if (shown.kind === "scale") return value === null ? ink("faint") : onScale(value);
  return palette[value % palette.length];
}

/** The mark of a model: by the column for shapes, or along with the colour so that eight colours go further. */
function markOf(shaped, index) {
  if (shaped.kind !== "groups") return 0;
  const number = shaped.of(index);
  return (number + Math.floor(number / MARKS.length)) % MARKS.length;
}

/** A mark as a small picture for the legend. */
function markPicture(mark, colour) {
  const space = "http://www.w3.org/2000/svg", picture = document.createElementNS(space, "svg");
  const drawn = document.createElementNS(space, "path");
  for (const [name, value] of Object.entries({ viewBox: "-1.4 -1.4 2.8 2.8", width: "12", height: "12", "aria-hidden": "true" }))
    picture.setAttribute(name, value);
  drawn.setAttribute("d", MARKS[mark]);
  drawn.setAttribute("fill", colour);
  picture.append(drawn);
  return picture;
}
