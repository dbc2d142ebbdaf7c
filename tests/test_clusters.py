"""Clusters, their number, and agreement with labels: planted answers, exact nulls, independent references."""

import csv

import attrs
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, silhouette_samples

import problems
from dynamo import DynamoError
from dynamo.analysis.geometry.agreement import MEASURES, agreement, nearest_others, neighbour_votes
from dynamo.analysis.geometry.clusters import Clusters, _gaussian_like, find_clusters
from dynamo.analysis.geometry.partitions import METHODS, cluster, silhouettes
from dynamo.analysis.geometry.spectrum import spectrum
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
def test_the_number_of_planted_clusters_is_chosen(groups):
    theta, codes = planted(groups, 8)
    found = find_clusters(theta, "agglomerative", most=7, draws=39)
    assert found.count == groups
    assert adjusted_rand_score(codes, found.numbers) == 1
    assert found.evidence.p_value == 1 / 40
    assert found.evidence.numbers == (2, 3, 4, 5, 6, 7)
    assert found.evidence.null.shape == (39, 6)
    best = found.evidence.numbers.index(groups)
    assert found.evidence.scores[best] == pytest.approx(silhouette_samples(theta, codes).mean())


@pytest.mark.parametrize("method", ["kmeans", "hdbscan"])
def test_one_cloud_is_one_cluster_and_two_are_two(method):
    rng = np.random.default_rng(1)
    cloud = rng.standard_normal((24, 4)) * [5, 1, 1, 0.2]
    assert find_clusters(cloud, method, most=3, draws=19).count == 1
    theta, codes = planted(2, 12, distance=10.0)
    found = find_clusters(theta, method, most=3, draws=19)
    assert found.evidence.p_value == 1 / 20
    assert adjusted_rand_score(codes, found.numbers) == 1


@pytest.mark.parametrize(("models", "widths"), [(20, [1, 1, 1]), (20, [10, 1, 1]), (10, [0.8**i for i in range(16)])])
def test_a_gaussian_of_any_shape_is_split_at_the_nominal_rate(models, widths):
    rng = np.random.default_rng(2)
    p_values = []
    for seed in range(24):
        theta = rng.standard_normal((models, len(widths))) * widths
        p_values.append(find_clusters(theta, "agglomerative", most=3, draws=19, seed=seed).evidence.p_value)
    assert sum(p <= 0.1 for p in p_values) <= 6  # nominally 2.4; 7 or more have a probability below 1 %
    assert 0.35 < np.mean(p_values) < 0.7  # nominally 0.525, with a standard error of 0.059


def test_the_null_keeps_mean_and_covariance():
    points = spectrum(planted(2, 5)[0]).coordinates
    drawn = _gaussian_like(points, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(drawn.T @ drawn, points.T @ points, atol=1e-10)
    assert np.abs(drawn - points).max() > 0.1


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
        first, second = (find_clusters(item, method, most=4, draws=19) for item in (theta, moved(theta)))
        np.testing.assert_array_equal(first.numbers, second.numbers)
        np.testing.assert_allclose(first.evidence.scores, second.evidence.scores)
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
        ({"most": 12}, "12 models cannot be in 12 clusters"),
        ({"most": 1}, "at least 2 must be tried"),
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
    found = find_clusters(theta, "agglomerative", most=4, draws=19)
    left, right = plot_clusters(found, spectrum(theta), "kind", list(codes)).axes
    assert [text.get_text() for text in left.texts] == ["1", "2", "3"]
    np.testing.assert_allclose(left.collections[0].get_offsets(), spectrum(theta).coordinates[codes == 0, :2])
    line = next(line for line in right.lines if line.get_label() == "this map")
    np.testing.assert_allclose(line.get_xydata(), np.stack([found.evidence.numbers, found.evidence.scores], axis=1))
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
    assert not (run / "clusters" / "numbers.csv").exists()


def test_the_command_chooses(run, tmp_path, capsys):
    main(
        [
            "analyse",
            "clusters",
            str(run),
            "--method",
            "average",
            "--most",
            "3",
            "--draws",
            "19",
            "--permutations",
            "9",
            "-o",
            str(tmp_path),
        ]
    )
    assert "one cluster: p = " in capsys.readouterr().out
    assert [row["clusters"] for row in csv.DictReader((tmp_path / "numbers.csv").open())] == ["2", "3"]
    assert (tmp_path / "clusters.png").stat().st_size > 0
    main(["analyse", "clusters", str(run), "--clusters", "2", "--permutations", "9", "-o", str(tmp_path)])
    assert not (tmp_path / "numbers.csv").exists(), "evidence for a number that this call did not choose"


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
