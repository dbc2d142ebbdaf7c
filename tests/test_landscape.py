"""The landscape of a metric over the map, and hulls of any dimension."""

import csv

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.spatial import Delaunay

import problems
from dynamo import DynamoError, Fit, FitOptions, Population, Trainer
from dynamo.analysis.geometry.hull import hull_distance, outline
from dynamo.analysis.networks.landscape import frame_through, landscape, principal_frame
from dynamo.analysis.networks.task import some
from dynamo.cli import main
from dynamo.population.scores import score, task_loss
from dynamo.report.plots.landscape import plot_landscape
from test_search import plane


@pytest.fixture(scope="module")
def fit_and_population():
    return problems.fitted(4)


def with_thetas(fit: Fit, thetas: object) -> Fit:
    """The same fit with other model embeddings."""
    for theta, value in zip(fit.emulator.thetas, torch.as_tensor(np.array(thetas), dtype=torch.float32), strict=True):
        theta.data = value
    return fit


@pytest.mark.parametrize(("dimensions", "through"), [(2, ()), (1, ()), (2, ("m0", "m2", "m3")), (2, ("m3", "m1"))])
def test_scores_are_those_of_the_model_at_each_place(fit_and_population, dimensions, through):
    fit, population = fit_and_population
    test = some(population.dataset(population[0]).test, 17, seed=5)
    for metric in ("score", "loss"):
        found = landscape(
            fit, population, through=through, dimensions=dimensions, size=3, metric=metric, examples=17, seed=5
        )
        axes = len(through) - 1 if through else dimensions
        assert found.scores.shape == (3,) * axes
        for index in np.ndindex(found.scores.shape):
            place = [side[number] for side, number in zip(found.sides, index, strict=True)]
            np.testing.assert_allclose(found.thetas[index], found.frame.thetas(np.array(place)))
            model = fit.model_at(found.thetas[index].tolist())
            outputs = model(test.inputs.values, test.inputs.mask).detach()
            wanted = score(model, test) if metric == "score" else task_loss(outputs, test.targets, None, model.outputs)
            assert found.scores[index] == pytest.approx(float(wanted), abs=1e-6)
        for number, name in enumerate(fit.names):
            if metric == "score":
                assert found.emulator_scores[number] == score(fit.model_at(name), test)
                assert found.base_scores[number] == score(population[number].model, test)
    assert found.examples == 17


def test_the_principal_plane_holds_most_of_the_models():
    theta = np.random.default_rng(0).normal(size=(12, 5)) * [4, 2, 1, 0.3, 0.1] + 3
    frame = principal_frame(theta)
    np.testing.assert_allclose(frame.axes @ frame.axes.T, np.eye(2), atol=1e-12)
    covariance = np.cov(theta.T)
    variances, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(np.abs(frame.axes @ vectors[:, ::-1][:, :2]), np.eye(2), atol=1e-8)
    np.testing.assert_allclose(frame.coordinates(theta).var(0, ddof=1), variances[::-1][:2])
    np.testing.assert_allclose(frame.coordinates(frame.thetas(np.array([[0.3, -2.0]]))), [[0.3, -2.0]])
    assert frame.names[0] == f"first component of θ ({variances[-1] / variances.sum():.0%} of the variance)"


def test_a_plane_through_three_models_holds_them(fit_and_population):
    fit, population = fit_and_population
    found = landscape(fit, population, through=("m2", "m0", "m3"), size=5)
    np.testing.assert_allclose(found.off_frame[[2, 0, 3]], 0, atol=1e-6)
    assert found.off_frame[1] > 0.1
    np.testing.assert_allclose(found.model_coordinates[2], 0, atol=1e-6)
    theta = fit.theta.double().numpy()
    np.testing.assert_allclose(found.model_coordinates[0], [np.linalg.norm(theta[0] - theta[2]), 0], atol=1e-6)
    assert found.model_coordinates[3, 1] > 0
    gaps = np.linalg.norm(found.model_coordinates[3] - found.model_coordinates[0])
    assert gaps == pytest.approx(np.linalg.norm(theta[3] - theta[0]))


def test_the_grid_reaches_beyond_the_models(fit_and_population):
    fit, population = fit_and_population
    found = landscape(fit, population, size=4, margin=0.5)
    low, high = found.model_coordinates.min(0), found.model_coordinates.max(0)
    room = 0.5 * (high - low).max()
    for side, start, end in zip(found.sides, low, high, strict=True):
        np.testing.assert_allclose(side, np.linspace(start - room, end + room, 4))


@pytest.mark.parametrize("outside", [True, False])
def test_a_planted_optimum_is_the_best_place(outside):
    fit, _ = plane(count=8)
    theta = fit.theta.double().numpy()
    frame = principal_frame(theta)
    corner = frame.coordinates(theta)[np.abs(frame.coordinates(theta)[:, 0]).argmax()]
    target = frame.thetas(corner * (1.3 if outside else 0.2))
    fit, population = plane(count=8, target=target)

    def nearness(outputs, targets, mask, space):
        return -float((outputs - targets).norm(dim=-1).mean())

    found = landscape(fit, population, size=25, metric=nearness)
    steps = [side[1] - side[0] for side in found.sides]
    assert (np.abs(found.best_coordinates - frame.coordinates(target)) <= np.array(steps) * 0.51).all()
    assert (found.hull_in_frame.outside, found.metric, found.relation) == (outside, "nearness", "difference")
    if outside:
        assert found.hull.distance >= found.hull_in_frame.distance > 0
    worst = landscape(fit, population, size=25, metric="loss")
    np.testing.assert_array_equal(worst.best, found.best)
    assert worst.scores[worst.best] == worst.scores.min()
    assert not worst.more_is_better
    assert worst.reference == worst.base_scores.min()


def test_scores_are_told_relative_to_the_best_base_model(fit_and_population):
    fit, population = fit_and_population
    shares = landscape(fit, population, size=3)
    assert (shares.relation, shares.reference) == ("ratio", shares.base_scores.max())
    assert shares.best_model == fit.names[int(shares.base_scores.argmax())]
    np.testing.assert_allclose(shares.relative, shares.scores / shares.base_scores.max())
    assert shares.scores[shares.best] == shares.scores.max()
    losses = landscape(fit, population, size=3, metric="loss")
    assert losses.relation == "difference"
    np.testing.assert_allclose(losses.relative, losses.scores - losses.base_scores.min())
    fit, population = problems.fitted(kind="real")
    assert landscape(fit, population, size=2).relation == "difference"


def inside_by_linear_programme(points, place) -> bool:
    """Whether weights λ ≥ 0 with Σ λ = 1 and Σ λ_n p_n = x exist."""
    system = np.vstack([points.T, np.ones(len(points))])
    return linprog(np.zeros(len(points)), A_eq=system, b_eq=np.append(place, 1)).status == 0


@pytest.mark.parametrize(("count", "dimensions"), [(5, 1), (9, 2), (12, 3), (4, 6), (20, 16)])
def test_hull_membership_is_that_of_a_linear_programme_and_of_delaunay(count, dimensions):
    rng = np.random.default_rng(count)
    points = rng.normal(size=(count, dimensions)) * 3 + 7
    inside = rng.dirichlet(np.ones(count), size=20) @ points
    places = np.vstack([inside, points, rng.normal(size=(20, dimensions)) * 3 + 7])
    found = [hull_distance(points, place) for place in places]
    assert not any(item.outside for item in found[: 20 + count])
    assert any(item.outside for item in found)
    assert [not item.outside for item in found] == [inside_by_linear_programme(points, place) for place in places]
    if dimensions in (2, 3):
        generic = [*range(20), *range(20 + count, len(places))]  # corners are a matter of rounding
        simplices = Delaunay(points).find_simplex(places[generic])
        assert [not found[number].outside for number in generic] == (simplices >= 0).tolist()
    for item, place in zip(found, places, strict=True):
        assert item.distance == pytest.approx(np.linalg.norm(item.weights @ points - place), abs=1e-5)
        assert item.weights.min() >= 0
        assert item.weights.sum() == pytest.approx(1)
        gradient = (points - item.weights @ points) @ (item.weights @ points - place)
        assert gradient.min() > -1e-6  # no point of the hull is nearer (the variational inequality of a projection)


def test_distances_from_known_hulls():
    square = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2]])
    cases = [((1, 1), 0), ((3, 1), 1), ((3, 3), 2**0.5), ((-0.5, 2), 0.5), ((1, 400), 398), ((2, 1), 0)]
    for place, distance in cases:
        found = hull_distance(square, np.array(place))
        assert found.distance == pytest.approx(distance, rel=1e-6)
        assert found.outside == (distance > 0)
        assert found.relative == pytest.approx(distance / 2**0.5, rel=1e-6)
    segment = np.array([[0.0, 0, 0], [4, 0, 0], [1, 0, 0]])
    for place, distance in [((2, 3, 4), 5), ((2, 0, 0), 0), ((7, 4, 0), 5)]:
        assert hull_distance(segment, np.array(place)).distance == pytest.approx(distance, abs=1e-6)
    point = np.array([[1.0, 2]])
    assert hull_distance(point, np.array([4, 6])).distance == pytest.approx(5)
    assert hull_distance(point, np.array([4, 6])).relative == np.inf
    assert not hull_distance(point, np.array([1, 2])).outside
    line = np.array([[-1.0], [5]])
    assert [hull_distance(line, np.array([x])).outside for x in (-1.1, 0, 5, 5.1)] == [True, False, False, True]


def test_the_outline_of_a_plane():
    square = np.array([[1.0, 1], [0, 0], [2, 0], [0.4, 1], [2, 2], [0, 2]])
    assert set(outline(square)) == {1, 2, 4, 5}
    ways = [np.abs(square[a] - square[b]).sum() for a, b in zip(outline(square), outline(square)[1:], strict=False)]
    assert ways == [2, 2, 2]  # around it, never across
    assert outline(square[:2]) == outline(square[:, :1]) == outline(np.array([[0.0, 0], [1, 1], [2, 2]])) == ()


def test_two_models_have_a_line_and_one_has_nothing():
    fit, population = problems.fitted(2)
    with pytest.raises(DynamoError, match="lie on one line"):
        landscape(fit, population, size=3)
    found = landscape(fit, population, dimensions=1, size=3)
    np.testing.assert_allclose(found.off_frame, 0, atol=1e-6)
    assert found.outline == ()
    found = landscape(fit, population, through=("m1", "m0"), size=3)
    np.testing.assert_allclose(found.model_coordinates[1], 0)
    fit, population = problems.fitted(1)
    with pytest.raises(DynamoError, match="the map has no directions"):
        landscape(fit, population, dimensions=1, size=3)


def test_models_on_a_line_and_models_alike():
    fit, population = problems.fitted(4)
    fit = with_thetas(fit, np.outer([0, 1, 2, 5], [1, 2, 0, 1]))
    with pytest.raises(DynamoError, match="ask for a line"):
        landscape(fit, population)
    with pytest.raises(DynamoError, match="m0, m1, m2 lie on one line"):
        frame_through(fit, ("m0", "m1", "m2"))
    assert landscape(fit, population, dimensions=1, size=2).scores.shape == (2,)
    fit = with_thetas(fit, np.ones((4, 4)))
    with pytest.raises(DynamoError, match="no directions"):
        landscape(fit, population, dimensions=1)
    with pytest.raises(DynamoError, match="have the same theta"):
        frame_through(fit, ("m0", "m1"))


def test_bad_input(fit_and_population):
    fit, population = fit_and_population
    with pytest.raises(DynamoError, match="did you mean 'score'"):
        landscape(fit, population, metric="scor")
    with pytest.raises(DynamoError, match="did you mean 'm1'"):
        landscape(fit, population, through=("m0", "m11"))
    for through in (("m0",), ("m0", "m0"), ("m0", "m1", "m2", "m3")):
        with pytest.raises(DynamoError, match="two base models and a plane through three"):
            landscape(fit, population, through=through)
    with pytest.raises(DynamoError, match="at least 2 places"):
        landscape(fit, population, size=1)
    with pytest.raises(DynamoError, match="for every base model"):
        landscape(fit, population, metric=lambda *parts: float("nan"))


def test_several_heads():
    first, second = (problems.dataset(classes=classes, group=f"task{classes}") for classes in (2, 3))
    models = Population([problems.base_model(f"m{n}", first if n < 2 else second, seed=n) for n in range(4)])
    fit = Fit.of(Trainer(models, FitOptions(meta_model="gru:hidden_size=4", theta_dim=3)))
    fit = with_thetas(fit, np.random.default_rng(0).normal(size=(4, 3)))
    with pytest.raises(DynamoError, match="several heads"):
        landscape(fit, models, size=2)
    head = fit.emulator.blueprint.heads[1][0]
    found = landscape(fit, models, size=2, head=head)
    assert np.isnan(found.base_scores).tolist() == [True, True, False, False]
    assert np.isfinite(found.emulator_scores).all()
    assert found.best_model in ("m2", "m3")


def test_the_picture(fit_and_population):
    fit, population = fit_and_population
    found = landscape(fit, population, size=3)
    axes, bar = plot_landscape(found, "number", fit.values_of("number"), "title").axes
    mesh = axes.collections[0]
    np.testing.assert_allclose(mesh.get_array(), found.relative.T)
    assert "divided by that of the best base model" in bar.get_ylabel()
    points = np.concatenate([np.asarray(item.get_offsets()) for item in axes.collections if item.get_label() in "0123"])
    np.testing.assert_allclose(points, found.model_coordinates)
    star = next(item for item in axes.collections if item.get_label() == "best place")
    np.testing.assert_allclose(star.get_offsets(), [found.best_coordinates])
    line = landscape(fit, population, dimensions=1, size=3, metric="loss")
    (axes,) = plot_landscape(line, None, None).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), line.scores)
    assert axes.get_ylabel() == "loss on 24 test examples"


def test_command(tmp_path, capsys):
    train = ["-a", "gru:hidden_size=5", "-d", "digits-rows", "-f", "0.5", "--seeds", "3", "--epochs", "1"]
    main(["train", str(tmp_path / "pop"), *train])
    options = ["--meta-model", "gru:hidden_size=6", "--theta-dim", "3", "--models-per-step", "none", "--steps", "4"]
    main(["fit", str(tmp_path / "pop"), "-o", str(tmp_path / "run"), *options])
    capsys.readouterr()
    main(["analyse", "landscape", str(tmp_path / "run"), "--size", "3", "--examples", "40", "--colour-by", "seed"])
    told = capsys.readouterr().out
    assert "best of 9 places" in told
    assert "chosen on the same 40 test examples" in told
    folder = tmp_path / "run" / "landscape"
    with (folder / "grid.csv").open() as file:
        grid = list(csv.DictReader(file))
    fit = Fit.load(tmp_path / "run")
    test = fit.open_population().dataset(fit.open_population()[0]).test
    for row in (grid[0], grid[5]):
        model = fit.model_at([float(row[f"theta_{axis}"]) for axis in (1, 2, 3)])
        assert float(row["score"]) == pytest.approx(score(model, some(test, 40)), abs=1e-6)
    with (folder / "landscape.csv").open() as file:
        assert [row["model"] for row in csv.DictReader(file)] == fit.names
    assert (folder / "landscape.png").read_bytes().startswith(b"\x89PNG")
    name = fit.names[0]
    for arguments, message in (
        (["--through", name, "--line"], "give one"),
        (["--through", "digits"], "no base model is called"),
        (["--metric", "scor"], "did you mean 'score'"),
        (["--colour-by", "sed"], "did you mean 'seed'"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["analyse", "landscape", str(tmp_path / "run"), *arguments])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
