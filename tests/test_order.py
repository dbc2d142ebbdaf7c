"""Numbers that follow the map: planted orders, chance, degenerate numbers, sequences, and the command."""

import csv

import attrs
import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree, shortest_path
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

import problems
from command_line import dynamo
from dynamo import DynamoError
from dynamo.analysis.geometry.order import MEASURES, Trend, as_numbers, order, sequences, trend
from dynamo.analysis.geometry.order import _through_the_tree as through_the_tree
from dynamo.report.plots.order import plot_order


def curve(count=24):
    """Models along one and a half turns of a spiral, in an order of their own: distances and the true numbers."""
    numbers = np.random.default_rng(0).permutation(count).astype(float)
    angle = 3 * np.pi * (numbers + 1) / count
    points = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1)
    return squareform(pdist(points)), numbers


def test_a_planted_line_is_recovered_exactly():
    numbers = np.random.default_rng(1).permutation(20)
    found = order(np.abs(numbers[:, None] - numbers).astype(float), numbers.tolist(), neighbours=2, permutations=99)
    assert found["leading coordinate"].value == pytest.approx(1)
    assert found["way"].value == pytest.approx(1)
    assert numbers[found.start] == 0
    np.testing.assert_allclose(found.ways, numbers)
    assert {measure.p_value for measure in found.measures} == {0.01}
    inner = (numbers > 0) & (numbers < 19)
    np.testing.assert_allclose(found.predicted[inner], numbers[inner])  # the neighbours are one below and one above
    assert set(np.abs(found.predicted - numbers)[~inner]) == {1.5}
    assert found.error == pytest.approx(np.sqrt(2 * 1.5**2 / 20))
    assert found.mean_error == pytest.approx(np.std(numbers) * 20 / 19)
    assert found["neighbours"].value == pytest.approx(1 - (found.error / found.mean_error) ** 2)


def test_ways_follow_a_curve_on_which_the_leading_coordinate_goes_astray():
    distances, numbers = curve()
    found = order(distances, numbers.tolist(), permutations=99)
    assert found["way"].value == pytest.approx(1)
    assert found["way"].p_value == 0.01
    assert found["leading coordinate"].value == pytest.approx(
        abs(spearmanr(found.places.coordinates[:, 0], numbers).statistic)
    )
    assert found["leading coordinate"].value < 0.9


def test_shuffled_numbers_are_at_chance():
    distances, numbers = curve(30)
    p_values = []
    for seed in range(40):
        shuffled = np.random.default_rng(seed).permutation(numbers).tolist()
        found = order(distances, shuffled, permutations=99, seed=seed)
        p_values.append([measure.p_value for measure in found.measures])
    assert (np.mean(np.array(p_values) <= 0.05, axis=0) <= 0.15).all()
    np.testing.assert_allclose(np.mean(p_values, axis=0), 0.5, atol=0.15)
    assert found["neighbours"].chance < 0 < found["leading coordinate"].chance < found["way"].chance < 0.5


def test_numbers_that_many_models_share():
    """Two models at each of eight places, with one number: every measure is at its best but for the ends."""
    place = np.repeat(np.arange(8), 2)
    found = order(np.abs(place[:, None] - place).astype(float), (10 * place).tolist(), neighbours=1, permutations=99)
    assert found["way"].value == pytest.approx(1)
    assert found["leading coordinate"].value == pytest.approx(1)
    assert found["neighbours"].value == pytest.approx(1)
    assert found.error == 0


def test_nothing_changes_with_the_order_of_the_models_and_the_units():
    distances, numbers = curve()
    rows = np.random.default_rng(5).permutation(len(numbers))
    one = order(distances, numbers.tolist(), permutations=9)
    other = order(7 * distances[np.ix_(rows, rows)], (100 - 3 * numbers[rows]).tolist(), permutations=9)
    for name in MEASURES:
        assert other[name].value == pytest.approx(one[name].value)
    assert other.error == pytest.approx(3 * one.error)
    assert other.mean_error == pytest.approx(3 * one.mean_error)


def test_ways_are_those_through_scipys_spanning_tree():
    distances = squareform(pdist(np.random.default_rng(2).normal(size=(40, 3))))
    wanted = shortest_path(minimum_spanning_tree(distances), directed=False)
    np.testing.assert_allclose(through_the_tree(distances), wanted)


def test_runs_that_part_from_one_start_are_ordered_from_there():
    """Three runs of ten checkpoints in three directions: no line holds them, and the tree branches."""
    angles = np.repeat(2 * np.pi * np.arange(3) / 3, 10)
    steps = np.tile(np.arange(10.0), 3)
    radius = steps + 0.01
    distances = squareform(pdist(np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)))
    found = order(distances, steps.tolist(), permutations=99)
    assert found["way"].value == pytest.approx(1, abs=0.01)
    assert steps[found.start] == 0
    assert found["way"].p_value == 0.01
    assert found["leading coordinate"].value < 0.3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b", "c", "d"], "'a' for some model; an order needs numbers.*dynamo analyse clusters RUN --by size"),
        ([True, False, True, False], "True for some model; an order needs numbers"),
        ([1, 2, None, 3], "None for some model"),
        ([1.0, 2.0, float("nan"), 3.0], "'size' is not finite for some model"),
        ([3, 3, 3, 3], "'size' is 3 for all models: an order needs numbers that differ"),
        ([1], "at least 4 models; there are 1"),
    ],
)
def test_what_is_no_order_is_told(values, message):
    with pytest.raises(DynamoError, match=message):
        as_numbers(values, "size")


def test_maps_without_an_order_are_told():
    with pytest.raises(DynamoError, match="all models lie at one place"):
        order(np.zeros((5, 5)), range(5))
    with pytest.raises(DynamoError, match=r"shape \(3, 3\) are not those of 5 models"):
        order(np.zeros((3, 3)), range(5))
    for wrong in ({"neighbours": 0}, {"permutations": 0}):
        with pytest.raises(DynamoError, match="take at least 1 of each"):
            order(curve()[0], curve()[1].tolist(), **wrong)


def test_more_neighbours_than_models_are_all_others():
    found = order(np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0))), [0, 1, 2, 6], neighbours=9, permutations=9)
    np.testing.assert_allclose(found.predicted, [3, 8 / 3, 7 / 3, 1])
    assert found["neighbours"].value == pytest.approx(0)  # it is the mean of all others


def test_a_plane_has_its_trend_and_noise_has_none():
    drawn = np.random.default_rng(3).normal(size=(30, 3))
    xy = np.linalg.qr(drawn - drawn.mean(axis=0))[0]
    found = trend(xy, (3 * xy[:, 0] - 4 * xy[:, 1] + 7).tolist())
    assert found.direction == pytest.approx((0.6, -0.8))
    assert found.r2 == pytest.approx(1)
    assert found.is_clear
    assert not trend(xy, np.random.default_rng(4).normal(size=30).tolist()).is_clear
    assert trend(xy[:, :1], (-2 * xy[:, 0]).tolist()).direction == (-1, 0)
    for flat in (trend(xy, [1] * 30), trend(np.zeros((30, 2)), range(30)), trend(np.zeros((30, 0)), range(30))):
        assert (flat.direction, flat.is_clear) == ((0, 0), False)
    assert not trend(xy[:3], [1, 2, 3]).is_clear  # a plane runs through any three models


def test_the_trend_of_models_along_a_line_points_along_it():
    """What lies across the line says nothing, however well it fits by chance."""
    along = np.linspace(-10, 10, 12)
    across = 0.01 * np.random.default_rng(8).normal(size=12)
    numbers = along + 100 * across
    assert trend(np.stack([along, across], axis=1), numbers.tolist()).direction == pytest.approx((1, 0), abs=0.01)


def test_the_p_value_of_a_trend_is_that_of_statistics_by_hand():
    """One coordinate: F is t², and SciPy's regression has the p-value of t."""
    from scipy.stats import linregress

    x = np.random.default_rng(6).normal(size=(12, 1))
    y = x[:, 0] + np.random.default_rng(7).normal(size=12)
    assert trend(x, y.tolist()).p_value == pytest.approx(linregress(x[:, 0], y).pvalue)


def checkpoints():
    return [
        {"architecture": "gru", "seed": seed, "epoch": epoch, "step": 10 * epoch, "score": seed + epoch / 7}
        for epoch in (3, 1, 2)
        for seed in (0, 1)
    ]


def test_checkpoints_of_a_run_are_joined_in_order():
    runs = checkpoints()
    assert sequences(runs, "epoch") == [[2, 4, 0], [3, 5, 1]]
    assert sequences(runs, "step") == sequences(runs, "epoch")  # which an epoch determines
    assert sequences(runs, "epoch", ["seed"]) == sequences(runs, "epoch")
    assert sequences(runs, "epoch", ["architecture"]) == []  # two models have each epoch
    assert sequences(runs[:2], "epoch") == []  # nothing to join
    assert sequences(runs, "seed") == []
    assert sequences(runs, "score") == []
    assert sequences([{**own, "id": f"m{n}"} for n, own in enumerate(runs)], "epoch") == []
    assert sequences([{**own, "id": f"m{n}"} for n, own in enumerate(runs)], "epoch", ["seed"]) == [
        [2, 4, 0],
        [3, 5, 1],
    ]


def test_the_picture_joins_models_and_shows_a_clear_trend():
    numbers = np.arange(12)
    found = order(np.abs(np.subtract.outer(numbers, numbers)).astype(float), numbers.tolist(), permutations=9)
    left, right, _ = plot_order(found, "epoch", [[0, 1, 2], [5, 6]], "a title").axes
    np.testing.assert_allclose(left.lines[0].get_xdata(), found.places.coordinates[:3, 0])
    assert len(left.lines) == 2
    assert len(left.texts) == 1  # the arrow
    assert right.get_xlabel() == "epoch"
    shuffled = attrs.evolve(found, trend=Trend((1.0, 0.0), 0.1, 0.4))
    assert not plot_order(shuffled, "epoch").axes[0].texts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    fit, _ = problems.fitted(8)
    metadata = [
        {"seed": n // 4, "epoch": n % 4, "kind": "ab"[n // 4], "name": f"n{n}", **({"odd": 1} if n else {})}
        for n in range(8)
    ]
    folder = tmp_path_factory.mktemp("order") / "run"
    attrs.evolve(fit, metadata=metadata).save(folder)
    return folder


def test_the_command(run, capsys):
    assert dynamo("analyse", "order", run, "--by", "epoch", "--join", "seed", "--permutations", "9") == 0
    told = capsys.readouterr().out
    assert "epoch as the 3 nearest models predict it: root mean square error" in told
    assert "distances by combined" in told
    models = list(csv.DictReader((run / "order" / "models.csv").open()))
    assert [row["epoch"] for row in models] == list("00112233")
    measures = list(csv.DictReader((run / "order" / "order.csv").open()))
    assert [row["measure"] for row in measures] == list(MEASURES)
    assert (run / "order" / "order.png").stat().st_size > 0
    assert dynamo("analyse", "order", run, "--by", "epoch", "--distance", "theta", "--permutations", "9") == 0
    assert "distances by theta" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "epochs"], "did you mean 'epoch'"),
        (["--by", "odd"], "1 of 8 models have no metadata 'odd'"),
        (["--by", "kind"], "an order needs numbers"),
        (["--by", "epoch", "--join", "sed"], "did you mean 'seed'"),
        (["--by", "epoch", "--distance", "state"], "did you mean 'states'"),
    ],
)
def test_wrong_turns_of_the_command(run, capsys, arguments, message):
    assert dynamo("analyse", "order", run, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_number_of_its_own_for_each_model_is_sent_to_its_question(run, capsys):
    fit = problems.fitted(4)[0]
    named = attrs.evolve(fit, metadata=[{"size": n, "id": f"i{n}", "kind": "ab"[n % 2]} for n in range(4)])
    named.save(run.parent / "named")
    for command in ("clusters", "compare"):
        assert dynamo("analyse", command, run.parent / "named", "--by", "size") == 2
        assert (
            "names no groups; whether a number follows the map is asked with `dynamo analyse order RUN --by size`"
            in (" ".join(capsys.readouterr().err.split()))
        )
        assert dynamo("analyse", command, run.parent / "named", "--by", "id") == 2
        assert "choose a key whose values some models share: kind" in " ".join(capsys.readouterr().err.split())
