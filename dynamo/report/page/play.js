// The network that runs in the page answers at every place, beside the nearest models.

function player() {
  const spec = data.network, weights = readWeights(spec), area = byId("input");
  const numbers = new Map((spec.words ?? []).map((word, id) => [word, id]));
  const show = spec.paint ? paintable(byId("paint"), area, spec, () => answer()) : () => {};
  const heads = byId("head");
  heads.append(...spec.heads.map(({ name }, number) => option(name, number)));
  heads.closest("label").hidden = spec.heads.length < 2;
  let example = 0;

  const steps = () => (spec.kind === "tokens" ? readSentence(area.value, numbers) : readNumbers(area.value, spec.size));
  const outputs = (theta, head, read) => {
    const given = read.map(({ value }) => value), image = spec.kind === "image";
    const found = image ? [runImage(spec, weights, theta, head, given)] : run(spec, weights, theta, head, given);
    return spec.heads[head].kind === "classes" ? found.map(softmax) : found.map(row => Array.from(row));
  };

  function setExample() {
    const text = spec.examples[example++ % spec.examples.length];
    area.value = text;
    answer();
  }

  /** Another place: the head is that of the nearest model. */
  function move() {
    const shares = sharesAt(state.place);
    heads.value = models.heads[state.chosen ?? shares[0].index];
    answer();
  }

  function answer() {
    show();
    const told = byId("answer-problem"), shares = state.chosen === null ? sharesAt(state.place) : [{ index: state.chosen, share: 1 }];
    const theta = thetaOf(shares), head = Number(heads.value);
    describePlace(shares, theta, spec.heads[head].name);
    try {
      const given = steps(), read = given.slice(0, MOST_STEPS);
      if (!read.length) throw new Error(spec.kind === "tokens" ? "type a word" : "give at least one step");
      const near = nearestModels(state.place).filter(index => index !== state.chosen && models.heads[index] === head).slice(0, BESIDE);
      const rows = [{ name: "here", values: outputs(theta, head, read) }];
      for (const index of near) rows.push({ name: models.names[index], values: outputs(models.theta[index], head, read) });
      told.textContent = given.length > read.length ? `only the first ${MOST_STEPS} of ${given.length} steps are read` : "";
      showAnswer(rows, read, spec.heads[head]);
    } catch (problem) {
      told.textContent = problem.message;
      byId("answer").replaceChildren();
    }
  }

  area.addEventListener("input", answer);
  heads.addEventListener("change", answer);
  byId("example").hidden = !spec.examples.length;
  byId("example").addEventListener("click", setExample);
  byId("clear").addEventListener("click", () => {
    area.value = spec.paint ? area.value.split("\n").map(line => line.trim().split(/[\s,;]+/).map(() => spec.low).join(" ")).join("\n") : "";
    answer();
    if (!spec.paint) area.focus();
  });
  if (spec.examples.length) area.value = spec.examples[example++];
  listeners.place = move;
  return move;
}
