import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import average_precision_score, silhouette_score

from dynamo import DynamoError
from dynamo.analysis.geometry.clusters import group_agreement
from dynamo.analysis.rivals import pairs
from dynamo.analysis.rivals.pairs import (
    CLUSTERERS,
    auprc,
    clusterings,
    neighbour_accuracy,
    pair_figures,
    violation_rate,
)

# Two groups of two. Within: 1 and 4; between: 2, 3, 5, 6.
HAND = np.array([[0, 1, 2, 3], [1, 0, 5, 6], [2, 5, 0, 4], [3, 6, 4, 0]], dtype=float)
GROUPS = np.array([0, 0, 1, 1])


def distances(points: np.ndarray) -> np.ndarray:
    return squareform(pdist(points))


def blobs(groups: int = 3, size: int = 5, apart: float = 20.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = apart * np.eye(groups, 4)
    numbers = np.repeat(np.arange(groups), size)
    return centres[numbers] + rng.normal(size=(groups * size, 4)), numbers


def test_the_figures_by_hand():
    found = pair_figures(HAND, ["a", "a", "b", "b"])
    # a: its pair comes first of five. b: its pair comes third, after two of the four pairs with a.
    assert found.auprc == pytest.approx((1 + 1 / 3) / 2)
    assert found.auprc_chance == pytest.approx(1 / 5)
    assert found.violation_rate == pytest.approx((0 + 2 / 4) / 2)
    assert found.silhouette == pytest.approx(np.mean([1.5 / 2.5, 4.5 / 5.5, -0.5 / 4, 0.5 / 4.5]))
    assert neighbour_accuracy(HAND, GROUPS, neighbours=1) == 0.5
    assert found.neighbour_accuracy == 0  # with three neighbours, two are always of the other group
    assert (found.spreads["a"].within, found.spreads["a"].between, found.spreads["a"].ratio) == (1, 4, 0.25)
    assert found.spreads["b"].ratio == 1


def test_equal_distances():
    same = 1 - np.eye(6)
    groups = np.array([0, 0, 0, 1, 1, 1])
    assert auprc(same, groups) == pytest.approx(3 / 12)  # the share of own pairs
    assert violation_rate(same, groups) == 1  # a pair that is not nearer violates
    assert pair_figures(same, groups).silhouette == 0
    nowhere = pair_figures(np.zeros((6, 6)), groups)
    assert max(nowhere.ari.values()) < 0.2
    assert np.isnan(nowhere.spreads["0"].ratio)


def test_average_precision_is_that_of_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    given = distances(rng.integers(0, 3, size=(15, 2)).astype(float))
    groups = rng.integers(0, 4, size=15)
    wanted = [
        average_precision_score(np.repeat([1, 0], [len(own), len(other)]), -np.concatenate([own, other]))
        for own, other in pairs._pairs(given, groups)
    ]
    assert auprc(given, groups) == pytest.approx(np.mean(wanted))


@pytest.mark.parametrize("count", [2, 7, 300])
def test_average_precision_without_ties_is_that_of_the_form_for_ties(count):
    rng = np.random.default_rng(count)
    given = distances(rng.normal(size=(400, 3)))
    groups = rng.integers(0, count, size=400)
    rows, columns, rank = pairs._sorted_pairs(given)
    assert rank[-1] == len(rank)
    wanted = []
    for group in np.unique(groups):
        listed = (groups[rows] == group) | (groups[columns] == group)
        own = (groups[rows] == groups[columns])[listed]
        if own.any():
            wanted.append(pairs._tied_precision(own, rank[listed]))
    assert auprc(given, groups) == pytest.approx(np.mean(wanted), rel=1e-13)


def test_groups_that_lie_apart_are_found_by_all():
    points, groups = blobs()
    found = pair_figures(distances(points), groups)
    assert (found.groups, found.auprc, found.violation_rate, found.neighbour_accuracy) == (3, 1, 0, 1)
    assert found.silhouette == pytest.approx(silhouette_score(points, groups))
    assert set(found.ari) == set(CLUSTERERS)
    assert all(ari == 1 for ari in found.ari.values())
    assert found.auprc_p == max(found.ari_p.values()) == 0.001
    assert max(spread.ratio for spread in found.spreads.values()) < 0.25


def test_shuffled_labels_are_at_chance():
    points, groups = blobs(apart=3)
    rng = np.random.default_rng(0)
    found = [pair_figures(distances(points), rng.permutation(groups), permutations=19, seed=seed) for seed in range(40)]
    assert np.mean([item.auprc for item in found]) == pytest.approx(found[0].auprc_chance, abs=0.05)
    assert np.mean([item.violation_rate for item in found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([item.neighbour_accuracy for item in found]) == pytest.approx(4 / 14, abs=0.08)
    for name in CLUSTERERS:
        assert np.mean([item.ari[name] for item in found]) == pytest.approx(0, abs=0.06)
    assert 0.3 < np.mean([item.auprc_p for item in found]) < 0.7


def test_a_group_that_is_spread_out_is_told():
    points, groups = blobs(groups=2)
    points[groups == 1] = 20 * np.eye(5, 4)[:5]  # each as far from its own as from the others
    found = pair_figures(distances(points), groups)
    assert found.spreads["0"].ratio < 0.2 < 0.9 < found.spreads["1"].ratio
    assert found.ari["average"] < 1


def test_k_means_on_euclidean_distances_is_k_means_on_the_points():
    points, groups = blobs(apart=3)
    assert pair_figures(distances(points), groups).ari["k-means"] == pytest.approx(group_agreement(points, groups).ari)


def test_the_figures_do_not_depend_on_scale_or_order_of_the_models():
    points, groups = blobs(apart=3)
    given, order = distances(points), np.random.default_rng(5).permutation(len(groups))
    first, scaled = pair_figures(given, groups), pair_figures(1000 * given, groups)
    moved = pair_figures(given[np.ix_(order, order)], groups[order])
    for name in ("auprc", "violation_rate", "silhouette", "neighbour_accuracy"):
        assert getattr(first, name) == pytest.approx(getattr(scaled, name))
        assert getattr(first, name) == pytest.approx(getattr(moved, name))
    assert first.ari == pytest.approx(scaled.ari)
    assert [first.ari[name] for name in ("average", "complete", "single")] == pytest.approx(
        [moved.ari[name] for name in ("average", "complete", "single")]
    )


def test_ties_do_not_favour_models_that_stand_side_by_side():
    same, groups = 1 - np.eye(12), np.repeat([0, 1], 6)
    found = [neighbour_accuracy(same, groups, seed=seed) for seed in range(20)]
    assert np.mean(found) < 0.6
    scores = {name: [] for name in CLUSTERERS}
    for seed in range(20):
        for name, clusters in clusterings(same, 2, seed).items():
            scores[name].append(len({tuple(clusters[:6]), tuple(clusters[6:])}) == 2 and len(set(clusters[:6])) == 1)
    assert not any(all(found) for found in scores.values())


def test_one_far_model_and_models_that_coincide_are_no_accident():
    points, groups = blobs(groups=2)
    points[1] = points[0]
    points[4] = 1e5
    found = pair_figures(distances(points), groups)
    assert all(np.isfinite(list(found.ari.values())))
    assert found.ari == pair_figures(distances(points), groups).ari


def test_a_group_of_one_has_no_pairs_of_its_own():
    points, groups = blobs(groups=2)
    found = pair_figures(distances(points[:6]), groups[:6])
    assert np.isnan(found.spreads["1"].within)
    assert (found.auprc, found.violation_rate) == (1, 0)


def test_errors():
    points, groups = blobs()
    given = distances(points)
    with pytest.raises(DynamoError, match="15 models, and groups of 14"):
        pair_figures(given, groups[1:])
    with pytest.raises(DynamoError, match="15 models in 1 group"):
        pair_figures(given, ["one"] * 15)
    with pytest.raises(DynamoError, match="15 models in 15 group"):
        pair_figures(given, range(15))
    with pytest.raises(DynamoError, match="must be symmetric"):
        pair_figures(np.triu(given), groups)
