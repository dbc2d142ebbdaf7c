// A place on the map has no θ of its own: the coordinates are those of distances. It gets the mean θ of the nearest
// models, weighted by how near they are (R. Franke, 1982, Mathematics of Computation 38(157)); at a model, exactly its θ.
const NEAR = 6;

/** The models that a place in the plane is made of, and their shares, the largest first. */
function sharesAt(place) {
  const far = models.places.map(([x, y]) => Math.hypot(x - place[0], y - place[1]));
  const order = far.map((_, index) => index).sort((one, other) => far[one] - far[other] || one - other);
  if (far[order[0]] === 0) return [{ index: order[0], share: 1 }];
  const edge = order.length > NEAR ? 1 / far[order[NEAR]] : 0, near = order.slice(0, NEAR);
  let parts = near.map(index => (1 / far[index] - edge) ** 2);
  if (!parts.some(part => part > 0)) parts = near.map(() => 1);
  const sum = parts.reduce((total, part) => total + part, 0);
  return near.map((index, rank) => ({ index, share: parts[rank] / sum })).filter(({ share }) => share > 0);
}

function thetaOf(shares) {
  return models.theta[0].map((_, k) => shares.reduce((sum, { index, share }) => sum + share * models.theta[index][k], 0));
}
