"""Clusters, their number, and agreement with labels: planted answers, exact nulls, independent references."""

import csv

import attrs
import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import binomtest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, silhouette_samples

import problems
from dynamo import DynamoError
from dynamo.analysis.geometry import cuts
from dynamo.analysis.geometry.agreement import (
    MEASURES,
    _measure,
    _measure_shuffles,
    agreement,
    nearest_others,
    neighbour_votes,
)
from dynamo.analysis.geometry.clusters import Clusters, find_clusters, group_agreement
from dynamo.analysis.geometry.cuts import _best_cuts, _topmost, find_cuts
from dynamo.analysis.geometry.kmeans import kmeans
from dynamo.analysis.geometry.partitions import METHODS, cluster, silhouettes
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.analysis.rivals.pairs import pair_figures
from dynamo.cli import main
from dynamo.report.plots.clusters import plot_clusters


def planted(groups, each, distance=6.0, dimensions=6, seed=0):
    """Round groups around the corners of a simplex, in mixed order: places and the group of each."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(groups), each))
    return distance * np.eye(groups, dimensions)[codes] + rng.standard_normal((groups * each, dimensions)), codes


def moved(theta, seed=0):
    """The same places after a rotation with a reflection, a translation and a change of scale."""
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((theta.shape[1],) * 2))
    rotation[:, 0] *= -np.sign(np.linalg.det(rotation))
    return 7 + 0.1 * theta @ rotation


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_planted_clusters(method):
    theta, codes = planted(3, 8, distance=12.0)
    found = cluster(theta, method, None if method == "hdbscan" else 3)
    assert adjusted_rand_score(codes, found) == 1
    order = list(dict.fromkeys(found.tolist()))
    assert order == [0, 1, 2]


@pytest.mark.parametrize("groups", [2, 3, 5])
@pytest.mark.parametrize("method", ["kmeans", "average"])
def test_the_number_of_planted_clusters_is_chosen(groups, method):
    theta, codes = planted(groups, 8)
    found = find_clusters(theta, method)
    assert found.count == found.evidence.count == groups
    assert adjusted_rand_score(codes, found.numbers) == 1
    assert found.evidence.p_value <= 5 / 1000  # as many ways of parting are tried as there are wide coordinates
    for cut in found.evidence.cuts:
        if cut.counts:  # no group lies in two parts
            parts = set(zip(codes[cut.models].tolist(), cut.sides.tolist(), strict=True))
            assert len(parts) == len(set(codes[cut.models].tolist()))


@pytest.mark.parametrize("method", ["kmeans", "hdbscan"])
def test_one_cloud_is_one_cluster_and_two_are_two(method):
    rng = np.random.default_rng(1)
    cloud = rng.standard_normal((24, 4)) * [5, 1, 1, 0.2]
    assert find_clusters(cloud, method, draws=99).count == 1
    theta, codes = planted(2, 12, distance=10.0)
    found = find_clusters(theta, method, draws=99)
    assert found.evidence.p_value == 1 / 100
    assert adjusted_rand_score(codes, found.numbers) == 1


@pytest.mark.parametrize(("models", "widths"), [(20, [1, 1, 1]), (20, [10, 1, 1]), (10, [0.8**i for i in range(16)])])
@pytest.mark.parametrize("freedom", [5, 1e6])
def test_one_cluster_of_any_shape_is_split_no_oftener_than_the_level(models, widths, freedom):
    rng = np.random.default_rng(2)
    p_values = []
    for seed in range(100):
        theta = rng.standard_normal((models, len(widths))) * widths
        theta *= np.sqrt(freedom / rng.chisquare(freedom, (models, 1)))
        p_values.append(find_cuts(theta, draws=99, seed=seed).p_value)
    assert sum(p <= 0.05 for p in p_values) <= 11  # at most 5 on average; 12 or more have a probability below 0.5 %


@pytest.mark.parametrize("models", [16, 40])
def test_a_family_along_a_line_is_one_cluster(models):
    rng = np.random.default_rng(3)
    theta = 0.05 * rng.standard_normal((models, 6)) + np.linspace(-1, 1, models)[:, None] * [1, 0, 2, 0, 0, 1]
    assert find_clusters(theta).count == 1


def test_the_best_cut_is_that_of_all_cuts():
    places = np.random.default_rng(4).standard_normal((11, 2))
    places -= places.mean(axis=0)
    shares, sizes = _best_cuts(places)
    for axis in range(2):
        ordered = np.sort(places[:, axis])
        within = {size: size * ordered[:size].var() + (11 - size) * ordered[size:].var() for size in range(3, 9)}
        assert sizes[axis] == min(within, key=within.get)
        assert shares[axis] == pytest.approx(1 - min(within.values()) / (11 * ordered.var()))
    evenly = np.linspace(-1, 1, 4000)[:, None]
    assert _best_cuts(evenly)[0][0] == pytest.approx(3 / 4, abs=1e-6)


@pytest.mark.parametrize("apart", [0.0, 0.9, 1.1, 1.3, 1.6, 3.0])
def test_of_many_models_draws_end_when_it_is_clear_whether_a_cut_counts(apart, monkeypatch):
    rng = np.random.default_rng(int(10 * apart))
    points = rng.standard_normal((120, 2)) + apart * np.where(np.arange(120) % 2, 1, -1)[:, None] * [1, 0]
    soon = find_cuts(points)
    monkeypatch.setattr(cuts, "MANY", 1000)
    full = find_cuts(points)
    assert [cut.counts for cut in soon.cuts] == [cut.counts for cut in full.cuts]
    assert {cut.draws for cut in full.cuts} == {999}
    assert soon.cuts[0].draws < 999 or 0.02 < full.p_value < 0.1
    assert soon.p_value == pytest.approx(full.p_value, abs=4 * np.sqrt(0.05 / soon.cuts[0].draws))


def test_the_interval_of_clopper_and_pearson_decides():
    for reached, drawn, level in ((0, 200, 0.05), (30, 100, 0.05), (4, 100, 0.05), (0, 40, 0.05), (100, 100, 0.05)):
        interval = binomtest(reached, drawn).proportion_ci(1 - cuts.DOUBT, "exact")
        assert cuts._is_decided(reached, drawn, level) == (interval.low > level or interval.high <= level)


def test_fewer_than_six_models_cannot_be_cut():
    theta = np.array([[0.0], [0.1], [9.0], [9.1], [9.2]])
    found = find_clusters(theta)
    assert (found.count, found.evidence.p_value, found.evidence.cuts) == (1, 1, ())
    assert "fewer than 6 models" in found.evidence.describe()


def test_groups_of_eight_at_a_silhouette_of_a_fifth_are_usually_found():
    rng, codes, found = np.random.default_rng(5), np.repeat([0, 1], 8), 0
    for _ in range(30):
        theta = rng.standard_normal((16, 48))
        theta[:, 0] += 8.2 * codes
        distances = squareform(pdist(theta))
        assert 0.15 < silhouettes(distances, codes).mean() < 0.3
        found += find_clusters(theta).count == 2
    assert found >= 20


def spread(points, numbers):
    return sum(((points[numbers == n] - points[numbers == n].mean(0)) ** 2).sum() for n in set(numbers.tolist()))


@pytest.mark.parametrize(
    ("models", "dimensions", "count"), [(8, 2, 2), (8, 16, 3), (16, 16, 3), (16, 4, 5), (32, 16, 8)]
)
def test_k_means_reaches_the_best_of_many_starts(models, dimensions, count):
    for seed in range(3):
        points = np.random.default_rng(seed).standard_normal((models, dimensions))
        reference = KMeans(count, n_init=300, random_state=seed).fit(points).inertia_
        found = kmeans(points, count)
        assert len(set(found.tolist())) == count
        assert spread(points, found) <= reference * (1 + 1e-9)


def test_k_means_does_not_notice_order_and_rotation_and_allows_copies():
    points = np.random.default_rng(6).standard_normal((20, 5))
    order = np.random.default_rng(7).permutation(20)
    found = kmeans(points, 4)
    np.testing.assert_array_equal(kmeans(points[order], 4), found[order])
    np.testing.assert_array_equal(kmeans(moved(points), 4), found)
    assert len(set(kmeans(np.repeat(np.eye(3), 4, axis=0), 3).tolist())) == 3
    np.testing.assert_array_equal(kmeans(points, 1), 0)


@pytest.mark.parametrize("seed", range(30))
def test_all_analyses_have_the_same_k_means(seed):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal((16, 6)) * 0.8 ** np.arange(6)
    groups = rng.permutation(np.repeat(["a", "b", "c"], [6, 5, 5]))
    own = group_agreement(theta, groups).ari
    assert agreement(theta, groups, permutations=1, halves=20, seed=seed)["ARI"].value == own
    assert pair_figures(squareform(pdist(theta)), groups, permutations=1, seed=seed).ari["k-means"] == own
    assert adjusted_rand_score(groups, find_clusters(theta, count=3, seed=seed).numbers) == own


def test_silhouettes_agree_with_scikit_learn():
    theta, codes = planted(3, 5, distance=2.0)
    codes[0] = 7  # alone in its group
    distances = squareform(pdist(theta))
    np.testing.assert_allclose(silhouettes(distances, codes), silhouette_samples(theta, codes))
    codes[:4] = -1
    np.testing.assert_allclose(silhouettes(distances, codes)[4:], silhouette_samples(theta[4:], codes[4:]))
    np.testing.assert_array_equal(silhouettes(distances, codes)[:4], 0)
    np.testing.assert_array_equal(silhouettes(distances, np.zeros(15, dtype=int)), 0)


@pytest.mark.parametrize("neighbours", [1, 2, 3, 6])
def test_votes_of_neighbours_agree_with_brute_force(neighbours):
    theta, codes = planted(3, 7, distance=1.5)
    distances = squareform(pdist(theta))
    expected = []
    for model in range(len(theta)):
        nearest = sorted((other for other in range(len(theta)) if other != model), key=lambda o: distances[model, o])
        labels = [codes[other] for other in nearest[:neighbours]]
        expected.append(max(labels, key=lambda own: (labels.count(own), -labels.index(own))))
    np.testing.assert_array_equal(neighbour_votes(nearest_others(distances, neighbours), codes), expected)


def test_figures_agree_with_scikit_learn():
    theta, codes = planted(3, 7, distance=2.0)
    found = agreement(theta, codes, permutations=1, halves=20)
    reference = KMeans(3, n_init=10, random_state=0).fit_predict(theta)
    assert 0.1 < found["ARI"].value < 0.99
    assert found["ARI"].value == pytest.approx(adjusted_rand_score(codes, reference))
    assert found["AMI"].value == pytest.approx(adjusted_mutual_info_score(codes, reference))
    assert found["silhouette"].value == pytest.approx(silhouette_samples(theta, codes).mean())
    for measure in found.measures:
        assert measure.low <= measure.value <= measure.high


def test_groups_that_lie_apart_have_the_least_p_value():
    theta, codes = planted(2, 10, distance=10.0)
    found = agreement(theta, ["ab"[code] for code in codes], permutations=99, halves=20)
    assert tuple(measure.name for measure in found.measures) == MEASURES
    assert [measure.p_value for measure in found.measures] == [0.01] * 4
    for name in ("ARI", "AMI", "neighbours"):
        assert (found[name].low, found[name].value, found[name].high) == (1, 1, 1)
    assert abs(found["ARI"].chance) < 0.05
    assert found["neighbours"].chance == pytest.approx(9 / 19, abs=0.05)


def test_p_values_of_labels_without_meaning_are_spread_evenly():
    rng = np.random.default_rng(4)
    p_values = []
    for seed in range(16):
        theta, codes = rng.standard_normal((16, 3)), rng.permutation(np.repeat([0, 1], 8))
        clusters = find_clusters(theta, "agglomerative", 2)
        p_values.append(
            agreement(theta, codes, clusters=clusters, permutations=9, halves=20, seed=seed)["silhouette"].p_value
        )
    assert 0.34 < np.mean(p_values) < 0.76  # nominally 0.55, with a standard error of 0.072
    assert 2 <= sum(p <= 0.5 for p in p_values) <= 13


def test_the_interval_is_narrower_with_more_models():
    widths = []
    for each in (8, 64):
        theta, codes = planted(2, each, distance=2.5)
        found = agreement(theta, codes, clusters=find_clusters(theta, "agglomerative", 2), permutations=1, halves=60)
        widths.append(found["silhouette"].high - found["silhouette"].low)
    assert 2 < widths[0] / widths[1] < 4.5  # √8 = 2.8


def test_groups_of_two_have_no_interval():
    theta, codes = planted(4, 2)
    found = agreement(theta, codes, permutations=1, halves=20)
    assert all(np.isnan(measure.low) and np.isnan(measure.high) for measure in found.measures)
    assert not any(np.isnan(measure.value) for measure in found.measures)


def test_one_cluster_agrees_with_nothing():
    theta, codes = planted(2, 6)
    found = agreement(theta, codes, clusters=find_clusters(theta, "kmeans", 1), permutations=9, halves=20)
    assert (found["ARI"].value, found["ARI"].p_value) == (0, 1)
    assert found["silhouette"].p_value == 0.1


def test_places_of_groups_are_those_of_a_square():
    theta = np.array([[0.0, 0], [0, 2], [4, 0], [4, 2], [9, 9]])
    found = agreement(theta, ["a", "a", "b", "b", "c"], permutations=1, halves=20)
    first, _, last = found.groups
    assert (first.name, first.models, first.spread, first.within) == ("a", 2, 1, 2)
    far = [np.hypot(9, 9), np.hypot(9, 7)]
    assert first.between == pytest.approx((2 * 4 + 2 * np.hypot(4, 2) + sum(far)) / 6)
    assert (last.models, last.spread) == (1, 0)
    assert np.isnan(last.within)


def test_scattered_models_are_seen_to_be_no_cluster():
    rng = np.random.default_rng(5)
    theta = np.concatenate([rng.standard_normal((8, 5)), 10 * rng.standard_normal((8, 5))])
    good, bad = agreement(theta, np.repeat(["good", "untrained"], 8), permutations=1, halves=20).groups[:2]
    assert good.within < good.between
    assert bad.within > bad.between


def test_nothing_changes_with_rotation_reflection_translation_and_scale():
    theta, codes = planted(3, 6, distance=3.0)
    for method in ("agglomerative", "spectral"):
        first, second = (find_clusters(item, method, draws=19) for item in (theta, moved(theta)))
        np.testing.assert_array_equal(first.numbers, second.numbers)
        shares = [[cut.share for cut in one.evidence.cuts] for one in (first, second)]
        np.testing.assert_allclose(*shares)
    first, second = (
        agreement(
            item, codes, clusters=find_clusters(item, "agglomerative", 3), neighbours=3, permutations=19, halves=20
        )
        for item in (theta, moved(theta))
    )
    for one, other in zip(first.measures, second.measures, strict=True):
        np.testing.assert_allclose(attrs.astuple(one)[1:], attrs.astuple(other)[1:])
    assert second.groups[0].within == pytest.approx(0.1 * first.groups[0].within)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "kmean"}, "did you mean 'kmeans'"),
        ({"count": 12}, "12 models cannot be in 12 clusters: ask for 1 to 11"),
        ({"count": 0}, "12 models cannot be in 0 clusters"),
        ({"method": "hdbscan", "count": 2}, "hdbscan finds the number of clusters itself"),
        ({"draws": 18}, "needs at least 19 draws"),
    ],
)
def test_clusterings_that_cannot_be_are_told(arguments, message):
    with pytest.raises(DynamoError, match=message):
        find_clusters(planted(2, 6)[0], **arguments)


def test_maps_that_cannot_be_clustered_are_told():
    with pytest.raises(DynamoError, match="at least 3 models"):
        find_clusters(np.eye(2))
    with pytest.raises(DynamoError, match="NaN"):
        find_clusters(np.full((4, 2), np.nan))
    with pytest.raises(DynamoError, match="the 6 models lie at 2 different places: ask for at most 2"):
        find_clusters(np.repeat(np.eye(2), 3, axis=0), count=3)
    with pytest.raises(DynamoError, match="at 1 different places"):
        find_clusters(np.ones((6, 2)))
    with pytest.raises(DynamoError, match="kmeans needs the number"):
        cluster(np.eye(4), "kmeans")


def test_labels_that_cannot_be_compared_are_told():
    theta, codes = planted(2, 6)
    with pytest.raises(DynamoError, match="12 models in 1 groups"):
        agreement(theta, ["a"] * 12)
    with pytest.raises(DynamoError, match="12 models in 12 groups"):
        agreement(theta, range(12))
    with pytest.raises(DynamoError, match="12 models, 11 groups"):
        agreement(theta, codes[:-1])
    with pytest.raises(DynamoError, match="12 neighbours were asked for: each model has 1 to 11"):
        agreement(theta, codes, neighbours=12)
    with pytest.raises(DynamoError, match="too few"):
        agreement(theta, codes, permutations=0)


def test_the_picture_outlines_each_cluster():
    theta, codes = planted(3, 6)
    found = find_clusters(theta, "agglomerative")
    left, right = plot_clusters(found, spectrum(theta), "kind", list(codes)).axes
    assert [text.get_text() for text in left.texts] == ["1", "2", "3"]
    np.testing.assert_allclose(left.collections[0].get_offsets(), spectrum(theta).coordinates[codes == 0, :2])
    assert len(right.collections) == len(found.evidence.cuts)
    first = found.evidence.cuts[0]
    np.testing.assert_allclose(right.collections[0].get_offsets()[:, 0], first.places / first.places.std())
    given = Clusters("kmeans", np.zeros(18, dtype=int), None)
    (alone,) = plot_clusters(given, spectrum(theta)).axes
    assert not alone.texts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    fit, _ = problems.fitted(8)
    labels = [{"kind": "ab"[n % 2], "name": n, **({"odd": 1} if n else {})} for n in range(8)]
    folder = tmp_path_factory.mktemp("clusters") / "run"
    attrs.evolve(fit, metadata=labels).save(folder)
    return folder


def test_the_command_writes_its_tables(run, capsys):
    main(["analyse", "clusters", str(run), "--by", "kind", "--clusters", "2", "--permutations", "9"])
    told = capsys.readouterr().out
    assert "agreement with kind" in told
    rows = list(csv.DictReader((run / "clusters" / "clusters.csv").open()))
    assert [row["kind"] for row in rows] == list("abababab")
    assert {row["cluster"] for row in rows} == {"1", "2"}
    measures = list(csv.DictReader((run / "clusters" / "agreement.csv").open()))
    assert [row["measure"] for row in measures] == list(MEASURES)
    assert not (run / "clusters" / "cuts.csv").exists()


def test_the_command_chooses(run, tmp_path, capsys):
    main(
        [
            "analyse",
            "clusters",
            str(run),
            "--method",
            "average",
            "--draws",
            "19",
            "--permutations",
            "9",
            "-o",
            str(tmp_path),
        ]
    )
    assert "one cluster: p = " in capsys.readouterr().out
    assert next(csv.DictReader((tmp_path / "cuts.csv").open()))["models"] == "8"
    assert (tmp_path / "clusters.png").stat().st_size > 0
    main(["analyse", "clusters", str(run), "--clusters", "2", "--permutations", "9", "-o", str(tmp_path)])
    assert not (tmp_path / "cuts.csv").exists(), "evidence for a number that this call did not choose"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "kinds"], "did you mean 'kind'"),
        (["--by", "odd"], "1 of 8 models have no metadata 'odd'"),
        (["--by", "name", "--clusters", "2"], "a value of its own for each of the 8 models"),
        (["--clusters", "many"], "neither a number nor 'choose'"),
        (["--clusters", "8"], "8 models cannot be in 8 clusters"),
        (["--method", "ward"], "no clustering is called 'ward'"),
    ],
)
def test_wrong_turns_of_the_command(run, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["analyse", "clusters", str(run), *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("count", [4, 6, 8])
def test_half_samples_are_clustered_in_as_many_clusters_as_they_can_be(count):
    rng = np.random.default_rng(0)
    theta = np.repeat(rng.normal(size=(count, 4)) * 10, 2, 0) + rng.normal(size=(2 * count, 4)) * 0.01
    groups = ["a"] * count + ["b"] * count
    clusters = find_clusters(theta, count=count)
    assert clusters.count == count
    found = agreement(theta, groups, clusters=clusters, permutations=9, halves=20)
    assert found["ARI"].low - 1e-9 <= found["ARI"].value <= found["ARI"].high + 1e-9


@pytest.mark.parametrize("count", [2, 4])
def test_copies_of_models_are_clustered_by_their_places(count):
    theta, groups = np.repeat(np.random.default_rng(0).normal(size=(4, 4)), 3, 0), ["a"] * 6 + ["b"] * 6
    found = agreement(theta, groups, clusters=find_clusters(theta, count=count), permutations=9, halves=20)
    assert np.isfinite([measure.value for measure in found.measures]).all()
    twins = np.repeat(np.eye(2), 4, 0)
    assert agreement(twins, list("abcd" * 2), permutations=9, halves=20)["ARI"].value <= 0.5  # 2 places, 4 groups


def test_more_clusters_than_half_of_the_models_are_allowed():
    theta = np.random.default_rng(1).normal(size=(12, 4))
    found = agreement(theta, ["a", "b"] * 6, clusters=find_clusters(theta, count=8), permutations=9, halves=20)
    assert found["ARI"].low <= found["ARI"].high


def test_metadata_of_one_model_each_is_refused_before_models_are_clustered(run, capsys, monkeypatch):
    from dynamo.analysis.geometry import clusters

    monkeypatch.setattr(clusters, "find_clusters", lambda *arguments, **options: pytest.fail("clustered first"))
    for arguments, message in (
        (["--by", "name"], "a value of its own for each of the 8 models"),
        (["--by", "kind", "--neighbours", "8"], "8 neighbours were asked for: each model has 1 to 7"),
    ):
        with pytest.raises(SystemExit):
            main(["analyse", "clusters", str(run), *arguments])
        assert message in capsys.readouterr().err


def test_measures_of_many_shuffles_are_those_of_each():
    rng = np.random.default_rng(5)
    for groups, clusters in ((3, 4), (2, 2), (5, 1), (4, 3)):
        codes = np.concatenate([np.arange(groups), rng.integers(0, groups, 30)])
        numbers, theta = rng.integers(0, clusters, len(codes)), rng.normal(size=(len(codes), 3))
        numbers[0] = -1 if clusters == 4 else numbers[0]  # a model that is left out
        distances = squareform(pdist(theta))
        near = nearest_others(distances, 3)
        shuffles = np.stack([rng.permutation(codes) for _ in range(20)])
        together = _measure_shuffles(distances, shuffles, numbers, near)
        apart = [_measure(distances, own, numbers, near) for own in shuffles]
        np.testing.assert_allclose(together, apart, atol=1e-10)


@pytest.mark.parametrize("shape", [(40, 3), (30, 60), (25, 25)])
def test_kmeans_of_products_finds_what_moving_points_one_by_one_cannot_mend(shape):
    rng = np.random.default_rng(sum(shape))
    points = rng.normal(size=shape)
    numbers = kmeans(points, 3)

    def cost(labels):
        return sum(((points[labels == own] - points[labels == own].mean(0)) ** 2).sum() for own in np.unique(labels))

    least = cost(numbers)
    for row in range(len(points)):  # Hartigan's condition, from the definition
        for other in range(3):
            moved = numbers.copy()
            moved[row] = other
            assert cost(moved) >= least - 1e-6
    library = KMeans(3, n_init=200, random_state=0).fit(points)
    assert least <= library.inertia_ + 1e-9


@pytest.mark.parametrize("models", [30, 201])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_topmost_merges_are_undone_as_scipy_does(models, count):
    source = np.random.default_rng(models)
    for tree in (linkage(source.normal(size=(models, dimensions)), "ward") for dimensions in (1, 2, 9)):
        wanted, found = fcluster(tree, count, "maxclust"), _topmost(tree, count)
        assert len(set(found)) == count
        assert len(set(zip(wanted, found, strict=True))) == count  # the same parts
        if np.bincount(wanted)[1:].min() > 1:
            np.testing.assert_array_equal(found, wanted - 1)  # in the same order


def test_merges_that_are_equally_high_are_undone_together():
    square = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 9.0]]).repeat(4, axis=0)
    tree = linkage(square, "single")
    np.testing.assert_array_equal(_topmost(tree, 3), fcluster(tree, 3, "maxclust") - 1)
    np.testing.assert_array_equal(_topmost(tree, 4), fcluster(tree, 4, "maxclust") - 1)
