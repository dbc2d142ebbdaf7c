// Steps of grey values are drawn with the pointer: each row of the grid is a step. The numbers beside it say the same.
function paintable(grid, area, size, redone) {
  const rows = () => area.value.split("\n").filter(line => line.trim()).map(line => line.trim().split(/[\s,;]+/).map(Number));
  const pen = grid.getContext("2d");

  function show() {
    const values = rows(), tall = Math.max(values.length, 1);
    grid.width = size;
    grid.height = tall;
    const image = pen.createImageData(size, tall);
    values.forEach((row, y) => row.slice(0, size).forEach((value, x) => {
      const at = 4 * (y * size + x);
      image.data.set([0, 0, 0, Math.round(255 * Math.min(Math.max(value || 0, 0), 1))], at);
    }));
    pen.putImageData(image, 0, 0);
  }

  function stroke(event, wiped) {
    const box = grid.getBoundingClientRect(), values = rows();
    const x = (event.clientX - box.left) / box.width * size, y = (event.clientY - box.top) / box.height * values.length;
    values.forEach((row, down) => row.forEach((value, right) => {
      const near = Math.max(0, 1.15 - Math.hypot(right + 0.5 - x, down + 0.5 - y));  // a soft brush
      if (near) row[right] = wiped ? 0 : Math.min(1, Math.max(value, near));
    }));
    area.value = values.map(row => row.map(value => Number(value.toFixed(3))).join(" ")).join("\n");
    redone();
  }

  grid.addEventListener("pointerdown", event => { grid.setPointerCapture(event.pointerId); stroke(event, event.shiftKey); });
  grid.addEventListener("pointermove", event => { if (event.buttons) stroke(event, event.shiftKey); });
  return show;
}
