"""What the measures on matrices of features ``[n, p]`` share."""

import numpy as np

from dynamo.analysis.arrays import AnyFloats, Floats

#: Relative size below which numbers are rounding: states are recorded in single precision at best.
RESOLUTION = float(np.finfo(np.float32).eps)

#: Divisors are at least this, so that a model that does not vary has correlation 0 with every other.
TINY = 1e-300


def centred(features: AnyFloats) -> Floats:
    """The features minus their means, without units that are constant; one unit of zeros where all are constant."""
    features = np.asarray(features, dtype=np.float64)
    moved = features - features.mean(axis=0)
    varies = np.abs(moved).max(axis=0) > RESOLUTION * np.abs(features).max(axis=0)
    return moved[:, varies] if varies.any() else np.zeros((len(features), 1))


def narrow(features: Floats) -> Floats:
    """The same features along other orthonormal axes, with at most as many columns as rows.

    All products of two rows stay as they are, so whatever does not notice rotations does not notice this.
    """
    rows, columns = features.shape
    return features if columns <= rows else np.asarray(np.linalg.qr(features.T, mode="r")).T
