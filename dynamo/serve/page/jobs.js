// Heavy work: started here, done in a process of its own, followed until it ends, and stopped at any time.
const POLL = 400;

/** Follow a job to its end; `onPart` is given all that there is to show so far. */
async function follow(work, { bar, stop, told }, onPart = () => {}) {
  let job = await ask("/api/jobs", work), stopped = false;
  const end = async () => { stopped = true; job = await ask(`/api/jobs/${job.job}`, undefined, "DELETE").catch(() => job); };
  stop.addEventListener("click", end);
  stop.hidden = bar.hidden = false;
  try {
    while (job.state === "waiting" || job.state === "running") {
      told.textContent = job.state === "waiting" ? "waiting for another job" : `${job.note}${job.total ? ` ${job.done} of ${job.total}` : ""}`;
      if (job.total) Object.assign(bar, { max: job.total, value: job.done });
      else bar.removeAttribute("value");
      if (job.parts.length) onPart(job.parts);
      await new Promise(done => setTimeout(done, POLL));
      if (!stopped) job = await ask(`/api/jobs/${job.job}`);
    }
  } finally {
    stop.removeEventListener("click", end);
    stop.hidden = bar.hidden = true;
  }
  if (job.parts.length) onPart(job.parts);
  told.textContent = job.state === "cancelled" ? "cancelled" : job.state === "failed" ? job.note : "";
  return job.result;
}

function fixedPointsPanel(spotNow) {
  const begin = byId("fixed-points-start");
  if (!begin) return;
  const figure = byId("fixed-points-shown"), told = byId("fixed-points-told");
  const parts = { bar: byId("fixed-points-bar"), stop: byId("fixed-points-stop"), told };
  let shown = null;
  onPress(begin, told, async () => {
    const { head, theta } = spotNow(), found = await follow({ kind: "fixed-points", head, theta, held: byId("held").value }, parts);
    if (!found) return;
    told.textContent = found.told;
    if (shown) spaces.splice(spaces.indexOf(shown), 1);
    shown = null;
    figure.replaceChildren();
    figure.hidden = !found.space;
    if (!found.space) return;
    const drawn = make("canvas", undefined, { tabindex: "0", role: "img", "aria-label": `${found.told}; arrow keys turn, + and - zoom` });
    figure.append(drawn, make("ul", undefined, { class: "legend" }), make("figcaption", "Drag, or use the arrow keys, to turn. Grey lines are trajectories."));
    shown = showSpace(drawn, found.space);
    spaces.push(shown);
    shown();
  });
}

function embedPanel(go) {
  const begin = byId("embed-start"), marks = [];
  if (!begin) return marks;
  const told = byId("embed-told"), list = byId("embedded");
  const parts = { bar: byId("embed-bar"), stop: byId("embed-stop"), told };
  onPress(begin, told, async () => {
    const found = await follow({ kind: "embed", folder: byId("folder").value }, parts);
    if (!found) return;
    told.textContent = `${found.models.length} new model${found.models.length > 1 ? "s" : ""}`;
    marks.splice(0, marks.length, ...found.models);
    list.replaceChildren(...found.models.map(model => {
      const row = make("li"), name = make("button", model.name, { type: "button", class: "name" });
      const head = data.network.heads.findIndex(one => one.name === model.head);
      name.addEventListener("click", () => go({ theta: model.theta, place: model.place, head, told: ["At the new model ", make("b", model.name), ", from outside the run."] }));
      row.append(name, model.foreign ? " foreign: the map has no place for it" : ` hidden R² ${figure(model.figures[0])}, agreement ${figure(model.figures[1])}`);
      return row;
    }));
    redraw();
  });
  return marks;
}
