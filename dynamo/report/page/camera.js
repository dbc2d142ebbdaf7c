// From places to the screen: flat, or in three dimensions from a side that can be turned.
const LEAST_ZOOM = 0.1, MOST_ZOOM = 40;

function camera(places) {
  const bounds = [0, 1, 2].map(k => places.reduce(
    ([low, high], place) => [Math.min(low, place[k]), Math.max(high, place[k])], [Infinity, -Infinity]));
  const middle = bounds.map(([low, high]) => (low + high) / 2);
  const reach = Math.max(...bounds.map(([low, high]) => high - low), 1e-9) / 2;
  const seen = { flat: true, turn: 0.6, tilt: 0.4, zoom: 1, shift: [0, 0], width: 1, height: 1, bounds, reach };

  const scale = () => {
    if (!seen.flat) return (Math.min(seen.width, seen.height) / 2 - 24) / 1.35 / reach * seen.zoom;
    const wide = (bounds[0][1] - bounds[0][0]) / 2 || reach * 1e-3, tall = (bounds[1][1] - bounds[1][0]) / 2 || reach * 1e-3;
    return Math.min((seen.width / 2 - 44) / wide, (seen.height / 2 - 44) / tall) * seen.zoom;
  };

  /** Where a place is on the screen, and how far behind it. */
  seen.project = place => {
    const size = scale(), [x, y, z] = place.map((value, k) => value - middle[k]);
    if (seen.flat) return [seen.width / 2 + seen.shift[0] + x * size, seen.height / 2 + seen.shift[1] - y * size, 0];
    const right = x * Math.cos(seen.turn) + y * Math.sin(seen.turn), back = y * Math.cos(seen.turn) - x * Math.sin(seen.turn);
    const up = z * Math.cos(seen.tilt) - back * Math.sin(seen.tilt), depth = back * Math.cos(seen.tilt) + z * Math.sin(seen.tilt);
    return [seen.width / 2 + seen.shift[0] + right * size, seen.height / 2 + seen.shift[1] - up * size, depth / reach];
  };

  /** The place in the plane of the first two coordinates that is at a point of the flat screen. */
  seen.placeAt = (right, down) => {
    const size = scale();
    return [
      (right - seen.width / 2 - seen.shift[0]) / size + middle[0],
      middle[1] - (down - seen.height / 2 - seen.shift[1]) / size,
    ];
  };

  seen.turnBy = (right, down) => {
    seen.turn += right;
    seen.tilt = Math.min(Math.max(seen.tilt + down, -Math.PI / 2), Math.PI / 2);
  };

  seen.zoomBy = factor => {
    const zoom = Math.min(Math.max(seen.zoom * factor, LEAST_ZOOM), MOST_ZOOM);
    seen.shift = seen.shift.map(value => value * zoom / seen.zoom);
    seen.zoom = zoom;
  };

  seen.reset = () => Object.assign(seen, { turn: 0.6, tilt: 0.4, zoom: 1, shift: [0, 0] });
  return seen;
}

/** Fit a canvas to its size on the page; returns the pen, in which one unit is one pixel of the page. */
function penOf(canvas, seen) {
  const ratio = style.printing ? 2 : devicePixelRatio || 1;
  [seen.width, seen.height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(seen.width * ratio);
  canvas.height = Math.round(seen.height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.font = "12px system-ui, sans-serif";
  return pen;
}

/** Three axes from a corner, with their names. */
function drawAxes(pen, seen, names) {
  const corner = seen.bounds.map(([low]) => low), [x, y] = seen.project(corner);
  pen.strokeStyle = ink("line");
  pen.fillStyle = ink("quiet");
  pen.lineWidth = 1;
  names.forEach((name, k) => {
    const end = corner.map((value, other) => value + (other === k ? seen.reach : 0)), [right, down] = seen.project(end);
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(right, down);
    pen.stroke();
    const wide = pen.measureText(name).width, at = right < x ? right - wide - 4 : right + 4;
    pen.fillText(name, Math.min(Math.max(at, 2), seen.width - wide - 2), Math.min(Math.max(down, 12), seen.height - 4));
  });
}
