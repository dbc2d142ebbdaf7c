// Pictures are drawn with the pointer: grey values that are read row by row, or an image. The numbers beside say the same;
// an image of several channels has its rows channel after channel.
function paintable(grid, area, { size, low, high, shape }, redone) {
  const rows = () => area.value.split("\n").filter(line => line.trim()).map(line => line.trim().split(/[\s,;]+/).map(Number));
  const pen = grid.getContext("2d"), channels = shape ? shape[0] : 1;
  const share = value => Math.min(Math.max(((value || 0) - low) / (high - low || 1), 0), 1);

  function show() {
    const values = rows(), tall = Math.max(Math.floor(values.length / channels), 1);
    grid.width = size;
    grid.height = tall;
    const image = pen.createImageData(size, tall);
    for (let y = 0; y < tall; y++) for (let x = 0; x < size; x++) {
      const own = Array.from({ length: channels }, (_, channel) => Math.round(255 * share(values[channel * tall + y]?.[x])));
      image.data.set(channels === 3 ? [...own, 255] : [0, 0, 0, own[0]], 4 * (y * size + x));
    }
    pen.putImageData(image, 0, 0);
  }

  function stroke(event, wiped) {
    const box = grid.getBoundingClientRect(), values = rows(), tall = values.length / channels, wide = 1.15 + size / 40;
    const x = (event.clientX - box.left) / box.width * size, y = (event.clientY - box.top) / box.height * tall;
    values.forEach((row, at) => row.forEach((value, right) => {
      const near = Math.max(0, wide - Math.hypot(right + 0.5 - x, at % tall + 0.5 - y));  // a soft brush
      if (near) row[right] = wiped ? low : Math.min(high, Math.max(value, low + near * (high - low)));
    }));
    area.value = values.map(row => row.map(value => Number(value.toFixed(3))).join(" ")).join("\n");
    redone();
  }

  grid.addEventListener("pointerdown", event => { grid.setPointerCapture(event.pointerId); stroke(event, event.shiftKey); });
  grid.addEventListener("pointermove", event => { if (event.buttons) stroke(event, event.shiftKey); });
  return show;
}
