import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from dynamo import DynamoError
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.rivals.mds import mds, principal_coordinates

KINDS = ["classical", "metric", "non-metric"]


def points(count: int = 12, dimensions: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions)) * [3, 1, 1, 1][:dimensions]


def distances(places: np.ndarray) -> np.ndarray:
    return squareform(pdist(places))


@pytest.mark.parametrize("kind", ["classical", "metric"])
def test_a_planted_configuration_is_recovered_up_to_rotation(kind):
    planted = points()
    layout = mds(distances(planted), 2, kind)
    np.testing.assert_allclose(pdist(layout.coordinates), pdist(planted), atol=1e-6)
    np.testing.assert_allclose(layout.coordinates.mean(0), 0, atol=1e-9)
    assert layout.stress < 1e-6
    assert layout.non_euclidean < 1e-9


def test_classical_scaling_of_euclidean_distances_gives_principal_components():
    planted = points(dimensions=4)
    found, wanted = mds(distances(planted), 3).coordinates, spectrum(planted).coordinates[:, :3]
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-9)
    assert (found.max(0) > -found.min(0)).all()


def test_non_metric_scaling_needs_the_order_of_the_distances_alone():
    planted = distances(points(dimensions=4))
    layout, stretched = mds(planted, 2, "non-metric"), mds(np.expm1(planted), 2, "non-metric")
    assert layout.stress == pytest.approx(stretched.stress, rel=0.2)
    line = mds(distances(points(dimensions=1)) ** 0.5, 1, "non-metric")  # roots of distances on a line lie on none
    assert line.stress < 0.05 < mds(distances(points(dimensions=1)) ** 0.5, 1).stress


def test_smacof_lowers_the_stress_of_the_classical_solution():
    given = distances(points(dimensions=4))
    stress = {kind: mds(given, 2, kind).stress for kind in KINDS}
    assert stress["non-metric"] < stress["metric"] < stress["classical"]


def test_stress_by_hand():
    given = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=float)  # on a line: −½, −½, 1 up to scale
    line = mds(given, 1)
    found = pdist(line.coordinates)
    assert line.stress == pytest.approx(np.sqrt(((found - 1) ** 2).sum() / (found**2).sum()))
    assert mds(given, 2).stress == pytest.approx(0, abs=1e-9)


def test_distances_of_no_euclidean_space():
    star = np.full((4, 4), 2.0) - 2 * np.eye(4)
    star[0, 1:] = star[1:, 0] = 0.9  # the centre is nearer to the tips than the middle of their triangle: no such point
    layout = mds(star, 3)
    _, eigenvalues = principal_coordinates(star)
    assert eigenvalues.min() < 0
    assert layout.non_euclidean == pytest.approx(-eigenvalues.min() / np.abs(eigenvalues).sum())
    assert np.isfinite(layout.coordinates).all()
    assert layout.stress > 0
    np.testing.assert_array_equal(layout.coordinates[:, 2], 0)  # two positive eigenvalues, the third axis is empty


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_coincide(kind):
    pair = distances(np.array([[0.0], [0.0], [1.0], [1.0]]))
    layout = mds(pair, 2, kind)
    near, far = np.linalg.norm(layout.coordinates[0] - layout.coordinates[[1, 2]], axis=1)
    assert near < 0.05 * far
    nowhere = mds(np.zeros((4, 4)), 2, kind)
    np.testing.assert_array_equal(nowhere.coordinates, 0)
    assert (nowhere.stress, nowhere.non_euclidean) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_distances_give_the_same_layout(kind):
    given = distances(points(dimensions=4))
    first = mds(given, 2, kind)
    np.testing.assert_array_equal(first.coordinates, mds(given, 2, kind).coordinates)


def test_errors():
    good = distances(points(4))
    with pytest.raises(DynamoError, match="at most 3 components"):
        mds(good, 4)
    with pytest.raises(DynamoError, match="0 were asked for"):
        mds(good, 0)
    with pytest.raises(DynamoError, match=r"must be \[N, N\]"):
        mds(good[:3])
    with pytest.raises(DynamoError, match=r"must be \[N, N\]"):
        mds(np.zeros((1, 1)))
    for change, message in (
        ((0, 1, np.nan), "models 0 and 1 is nan"),
        ((0, 1, 9.0), "must be symmetric"),
        ((2, 2, 0.1), "zero on the diagonal"),
    ):
        bad = good.copy()
        bad[change[0], change[1]] = change[2]
        with pytest.raises(DynamoError, match=message):
            mds(bad)
    with pytest.raises(DynamoError, match="must be non-negative"):
        mds(-good)
