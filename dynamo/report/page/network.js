// The network itself: a GRU that reads [x_t; θ] at every step, h' = (1 − z) n + z h, and a linear head on h'.
function halfToFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, rest = bits & 1023;
  if (exponent === 0) return sign * rest * 2 ** -24;
  if (exponent === 31) return rest ? NaN : sign * Infinity;
  return sign * (1 + rest / 1024) * 2 ** (exponent - 15);
}

/** The weights by name, each a row-major array. */
function readWeights({ weights, bits, layout }) {
  const bytes = Uint8Array.from(atob(weights), letter => letter.charCodeAt(0)), view = new DataView(bytes.buffer);
  const read = bits === 16 ? at => halfToFloat(view.getUint16(2 * at, true)) : at => view.getFloat32(4 * at, true);
  const found = new Map();
  let start = 0;
  for (const { name, shape } of layout) {
    const size = shape.reduce((product, length) => product * length, 1), first = start;
    found.set(name, Float32Array.from({ length: size }, (_, at) => read(first + at)));
    start += size;
  }
  return found;
}

/** out[i] += Σ_j matrix[i, from + j] vector[j], for a matrix with so many columns. */
function addProduct(out, matrix, columns, vector, from = 0) {
  for (let i = 0; i < out.length; i++) {
    let sum = 0;
    for (let j = 0, at = i * columns + from; j < vector.length; j++, at++) sum += matrix[at] * vector[j];
    out[i] += sum;
  }
  return out;
}

const sigmoid = value => 1 / (1 + Math.exp(-value));

/** The outputs after each step. steps: token ids, or arrays of numbers. */
function run(spec, weights, theta, head, steps) {
  const [wide, tall] = [weights.get("weight_ih"), weights.get("weight_hh")], size = spec.hidden;
  const embedding = weights.get("embedding"), entering = spec.entering, columns = entering + theta.length;
  const bias = addProduct(Float64Array.from(weights.get("bias_ih")), wide, columns, theta, entering);
  const readout = weights.get(`head_${head}`), shift = weights.get(`head_bias_${head}`);
  let h = new Float64Array(size);
  return steps.map(step => {
    const x = embedding ? embedding.subarray(step * entering, (step + 1) * entering) : step;
    const fromX = addProduct(Float64Array.from(bias), wide, columns, x);
    const fromH = addProduct(Float64Array.from(weights.get("bias_hh")), tall, size, h);
    h = h.map((old, i) => {
      const r = sigmoid(fromX[i] + fromH[i]), z = sigmoid(fromX[size + i] + fromH[size + i]);
      const n = Math.tanh(fromX[2 * size + i] + r * fromH[2 * size + i]);
      return (1 - z) * n + z * old;
    });
    return addProduct(Float64Array.from(shift), readout, size, h);
  });
}

/** A convolution with padding, of x = { values, channels, height, width }. */
function convolve(x, kernel, bias, size, stride) {
  const out = bias.length, pad = size >> 1, height = Math.ceil(x.height / stride), width = Math.ceil(x.width / stride);
  const values = new Float64Array(out * height * width);
  for (let o = 0, at = 0; o < out; o++) for (let y = 0; y < height; y++) for (let z = 0; z < width; z++, at++) {
    let sum = bias[o];
    for (let c = 0; c < x.channels; c++) for (let i = 0; i < size; i++) {
      const row = y * stride + i - pad;
      if (row < 0 || row >= x.height) continue;
      for (let j = 0; j < size; j++) {
        const column = z * stride + j - pad;
        if (column >= 0 && column < x.width)
          sum += kernel[((o * x.channels + c) * size + i) * size + j] * x.values[(c * x.height + row) * x.width + column];
      }
    }
    values[at] = sum;
  }
  return { values, channels: out, height, width };
}

function rectify(x, addend = () => 0) {
  const area = x.height * x.width;
  return { ...x, values: x.values.map((value, at) => Math.max(0, value + addend(at, Math.floor(at / area)))) };
}

/** A residual network that adds Wθ to the channels in every block; the outputs for an image, given as its rows. */
function runImage(spec, weights, theta, head, rows) {
  const [channels, height, width] = spec.shape;
  if (rows.length !== channels * height) throw new Error(`give ${channels * height} rows`);
  const convolved = (x, name, size, stride = 1) => convolve(x, weights.get(name), weights.get(`${name}_bias`), size, stride);
  let x = rectify(convolved({ values: Float64Array.from(rows.flat()), channels, height, width }, "stem", 3));
  spec.blocks.forEach(({ stride }, number) => {
    const first = convolved(x, `block_${number}_1`, 3, stride), down = `block_${number}_down`;
    const shift = addProduct(new Float64Array(first.channels), weights.get(`shift_${first.channels}`), theta.length, theta);
    const second = convolved(rectify(first, (_, channel) => shift[channel]), `block_${number}_2`, 3);
    const shortcut = weights.has(down) ? convolved(x, down, 1, stride) : x;
    x = rectify(second, at => shortcut.values[at]);
  });
  const area = x.height * x.width;
  const features = Float64Array.from({ length: x.channels }, (_, c) => x.values.subarray(c * area, (c + 1) * area).reduce((sum, value) => sum + value, 0) / area);
  return addProduct(Float64Array.from(weights.get(`head_bias_${head}`)), weights.get(`head_${head}`), features.length, features);
}

function softmax(logits) {
  const top = Math.max(...logits), powers = Array.from(logits, value => Math.exp(value - top));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map(value => value / sum);
}
