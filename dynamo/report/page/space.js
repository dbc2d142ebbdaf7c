// State space in three dimensions: trajectories as lines, fixed and slow points as marks; turned with pointer or keys.
function showSpace(canvas, { kinds, lines, axes }) {
  const seen = camera([...lines.flat(), ...kinds.flatMap(({ places }) => places)]);
  seen.flat = false;
  const show = () => {
    const pen = penOf(canvas, seen), palette = style.dark ? DARK : LIGHT;
    pen.strokeStyle = ink("trace");
    pen.lineWidth = 0.7;
    for (const line of lines) {
      pen.beginPath();
      for (const place of line) pen.lineTo(...seen.project(place).slice(0, 2));
      pen.stroke();
    }
    drawAxes(pen, seen, axes);
    const dots = kinds.flatMap(({ places }, kind) => places.map(place => [...seen.project(place), kind]));
    dots.sort((one, other) => other[2] - one[2]);
    pen.strokeStyle = ink("paper");
    for (const [x, y, depth, kind] of dots) {
      const size = 5.5 - 1.2 * depth;
      pen.save();
      pen.translate(x, y);
      pen.scale(size, size);
      pen.lineWidth = 1 / size;
      pen.fillStyle = palette[kind % palette.length];
      pen.fill(paths[kind % paths.length]);
      pen.stroke(paths[kind % paths.length]);
      pen.restore();
    }
    const legend = canvas.parentElement.querySelector("ul");
    legend.replaceChildren(...kinds.map(({ name, places }, kind) => {
      const row = make("li");
      row.append(markPicture(kind % paths.length, palette[kind % palette.length]), `${places.length} × ${name}`);
      return row;
    }));
  };
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("pointerdown", event => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", event => {
    if (event.buttons) { seen.turnBy(event.movementX / 150, event.movementY / 150); show(); }
  });
  canvas.addEventListener("keydown", event => {
    if (ways[event.key]) seen.turnBy(...ways[event.key].map(way => way / 8));
    else if (event.key === "+" || event.key === "-") seen.zoomBy(event.key === "+" ? 1.3 : 1 / 1.3);
    else return;
    event.preventDefault();
    show();
  });
  return show;
}
