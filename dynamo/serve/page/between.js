// From one network to another: θ on the straight line between two models or named points.
function betweenPanel(points, go) {
  const from = byId("from"), to = byId("to"), along = byId("along"), told = byId("along-told");
  const ends = () => [
    ...models.names.map((name, index) => ({ name, theta: models.theta[index], place: models.places[index].slice(0, 2), head: models.heads[index] })),
    ...points().map(point => ({ ...point, head: data.network.heads.findIndex(({ name }) => name === point.head) })),
  ];

  function refill() {
    const chosen = [from.value, to.value], known = ends();
    for (const [list, other] of [[from, 0], [to, Math.min(1, known.length - 1)]]) {
      const before = chosen[list === from ? 0 : 1];
      list.replaceChildren(...known.map(({ name }, at) => option(name, at)));
      list.value = known[before] ? before : other;
    }
  }

  function show() {
    const known = ends(), [one, two] = [known[from.value], known[to.value]], share = along.value / 100;
    const mix = (a, b) => a.map((value, k) => (1 - share) * value + share * b[k]);
    const place = one.place.length && two.place.length ? mix(one.place, two.place) : null;
    told.textContent = `${along.value} %`;
    go({ theta: mix(one.theta, two.theta), place, head: share < 0.5 ? one.head : two.head,
      told: [make("b", one.name), ` ${100 - along.value} %, `, make("b", two.name), ` ${along.value} %: on the straight line between their thetas.`] });
  }

  /** Begin at a model, and lead to the one nearest to it. */
  function startAt(index) {
    from.value = index;
    to.value = nearestModels(models.places[index]).find(other => other !== index) ?? index;
    along.value = 0;
    told.textContent = "0 %";
  }

  for (const control of [from, to, along]) control.addEventListener("input", show);
  refill();
  return { refill, startAt };
}
