"""Search over θ: planted optima, the trust region, and data that must not be looked at."""

import csv
import sys

import numpy as np
import pytest
import torch

import problems
from dynamo import DynamoError, Fit, Population
from dynamo.analysis.networks.descent import ThetaLoss, descend, spread_of
from dynamo.analysis.networks.evaluate import scores_at
from dynamo.analysis.networks.search import search
from dynamo.analysis.networks.search_methods import Region
from dynamo.analysis.networks.task import base_scores, sign_of, some, task_of
from dynamo.cli import main
from dynamo.contracts.data import Examples
from dynamo.population.base_model import BaseModel
from dynamo.population.scores import score, task_loss
from dynamo.report.plots.search import plot_search

METHODS = ("gradient", "cma", "random")


def plane(count: int = 6, dimensions: int = 3, target: np.ndarray | None = None) -> tuple[Fit, Population]:
    """A map on which the outputs are θ itself, for a task whose every answer is ``target``."""
    fit, population = problems.plane(dimensions, count=count, kind="real")
    if target is not None:
        data = population.dataset(population[0])
        for part in (data.train, data.test):
            part.targets[:] = torch.as_tensor(target)
    return fit, population


def half_seen(population: Population, share: float = 0.5) -> Population:
    """The same models with a label that says how much of the labelled half they were trained on."""
    return Population(
        [BaseModel(base.name, base.model, base.data, {**base.metadata, "fraction": share}) for base in population]
    )


@pytest.fixture(scope="module")
def planted():
    """The best place is beyond the farthest model, and within the region."""
    fit, _ = plane()
    theta = fit.theta.double().numpy()
    target = theta.mean(0) + 1.7 * (theta - theta.mean(0))[2]
    return *plane(target=target), target


@pytest.mark.parametrize(("method", "off"), [("gradient", 0.02), ("cma", 0.02), ("random", 0.5)])
def test_each_method_finds_a_planted_optimum(planted, method, off):
    fit, population, target = planted
    before = [theta.clone() for theta in fit.emulator.thetas]

    def nearness(outputs, targets, mask, space):
        return -float((outputs - torch.as_tensor(target, dtype=outputs.dtype)).norm(dim=-1).mean())

    found = search(fit, population, method, metric=nearness, budget=400, rate=0.1)
    np.testing.assert_allclose(found.tuning, -np.linalg.norm(found.thetas - target, axis=1), atol=1e-4)
    assert np.linalg.norm(found.theta - target) < off
    assert np.linalg.norm(found.theta - target) < np.linalg.norm(found.thetas[: found.known] - target, axis=1).min()
    assert found.held_out == pytest.approx(found.tuning[found.best], abs=1e-5)
    assert found.best == found.tuning.argmax()
    np.testing.assert_array_equal(found.best_so_far, np.maximum.accumulate(found.tuning))
    assert len(found.tuning) <= 400
    if method != "random":
        assert found.hull.outside
    assert all(torch.equal(*pair) for pair in zip(before, fit.emulator.thetas, strict=True))


def test_loss_is_minimised(planted):
    fit, population, _ = planted
    found = search(fit, population, "gradient", metric="loss", budget=150)
    assert found.tuning[found.best] == found.tuning.min() < 1e-3
    assert found.best_so_far[-1] == found.tuning.min()
    assert found.chosen == found.base_tuning.argmin()


@pytest.mark.parametrize("method", METHODS)
def test_no_place_leaves_the_trust_region(method):
    fit, population = plane(target=np.array([50.0, 0, 0]))
    found = search(fit, population, method, metric="loss", budget=60, radius=0.8)
    region = Region.around(fit.theta.double().numpy(), 0.8)
    distances = region.distances(found.thetas)
    assert distances.max() <= region.limit * (1 + 1e-6)
    assert found.limit == region.limit
    if method == "gradient":
        assert distances[-1] == pytest.approx(region.limit, rel=1e-5)  # the target is far beyond it


def test_the_region_is_the_ellipsoid_of_mahalanobis():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(30, 4)) * [3, 1, 0.2, 0.01] + 5
    region = Region.around(theta, 2.0)
    centred, inverse = theta - theta.mean(0), np.linalg.inv(np.cov(theta.T))
    wanted = np.sqrt(np.einsum("nd,de,ne->n", centred, inverse, centred))
    np.testing.assert_allclose(region.distances(theta), wanted)
    assert region.limit == pytest.approx(2 * wanted.max())
    np.testing.assert_allclose(region.thetas(region.whitened(theta)), theta)
    np.testing.assert_allclose(region.project(theta), theta)
    far = theta.mean(0) + 100 * centred
    np.testing.assert_allclose(region.distances(region.project(far)), region.limit)
    shrunk = region.project(far) - theta.mean(0)
    np.testing.assert_allclose(
        shrunk / np.linalg.norm(shrunk, axis=1, keepdims=True), centred / np.linalg.norm(centred, axis=1, keepdims=True)
    )


def test_a_region_of_few_models_lies_in_their_span():
    theta = np.array([[0.0, 0, 0, 1], [2, 0, 0, 1]])
    region = Region.around(theta, 1.5)
    np.testing.assert_allclose(
        region.project(np.array([[9.0, 4, 4, 4], [0.5, 1, 0, 1]])), [[2.5, 0, 0, 1], [0.5, 0, 0, 1]]
    )
    for alike in (theta[:1], theta[[0, 0, 0]]):
        with pytest.raises(DynamoError, match="no directions to search in"):
            Region.around(alike)


@pytest.mark.parametrize("method", METHODS)
def test_the_held_out_set_is_looked_at_once_at_the_end(method):
    fit, population = problems.fitted()
    population = half_seen(population)
    data = population.dataset(population[0])
    seen = []

    def spy(outputs, targets, mask, space):
        seen.append(targets.clone())
        return float((outputs.argmax(-1) == targets).float().mean())

    found = search(fit, population, method, metric=spy, budget=20)
    held_out = [len(targets) == len(data.test) and torch.equal(targets, data.test.targets) for targets in seen]
    first = held_out.index(True)
    assert all(held_out[first:])
    assert len(seen) - first == 2 + len(population)  # the chosen place, the mean, and each base model
    half, _ = data.halves()
    assert all(torch.equal(targets, half.targets[len(half) // 2 :]) for targets in seen[:first])
    assert (found.tuning_size, found.held_out_size, found.seen) == (len(half) - len(half) // 2, len(data.test), False)


def test_scores_are_those_of_the_models():
    fit, population = problems.fitted()
    found = search(fit, population, "random", budget=12, seed=3)
    data = population.dataset(population[0])
    half, _ = data.halves()
    assert (found.seen, found.tuning_size) == (True, len(half))
    np.testing.assert_allclose(found.base_held_out, [score(base.model, data.test) for base in population])
    np.testing.assert_allclose(found.base_tuning, [score(base.model, half) for base in population])
    np.testing.assert_allclose(found.tuning, scores_at(fit, found.thetas, half), atol=1e-6)
    np.testing.assert_allclose(found.thetas[:3], fit.theta, atol=1e-6)
    assert found.held_out == score(fit.model_at(found.theta.tolist()), data.test)
    assert found.mean_held_out == score(fit.model_at(fit.theta.mean(0)), data.test)
    again, other = (search(fit, population, "random", budget=12, seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(found.thetas, again.thetas)
    assert not np.allclose(found.thetas, other.thetas)


def test_cma_depends_on_its_seed_alone():
    fit, population = problems.fitted()
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, again, other = (search(fit, population, "cma", budget=20, seed=seed).thetas for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[4:10], other[4:10])
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


@pytest.mark.parametrize("kind", ["classes", "real"])
@pytest.mark.parametrize("batch_size", [5, 2048])
def test_the_gradient_of_theta_is_that_of_finite_differences(kind, batch_size):
    fit, population = problems.fitted(kind=kind)
    fit.emulator.double()
    train = population.dataset(population[0]).train
    examples = Examples(train.inputs.with_values(train.inputs.values.double()), train.targets)
    examples = examples if kind == "classes" else Examples(examples.inputs, examples.targets.double())
    loss = ThetaLoss(fit, examples, batch_size=batch_size)
    theta = fit.theta[:2].clone().requires_grad_()
    learn, check = [torch.arange(11), torch.arange(3, 24)], [torch.arange(11, 15), torch.arange(0)]
    losses, checks = loss.backward(theta, learn, check)

    def alone(place, rows):
        model, part = fit.model_at(place), examples[rows]
        outputs = model.trajectory(part.inputs).at_readout("last")
        return float(task_loss(outputs.detach(), part.targets, part.inputs.mask, model.outputs))

    for run in range(2):
        assert float(losses[run]) == pytest.approx(alone(fit.theta[run], learn[run]), rel=1e-5)
        for axis in range(4):
            step = torch.zeros(4, dtype=torch.float64)
            step[axis] = 1e-5
            slope = (alone(fit.theta[run] + step, learn[run]) - alone(fit.theta[run] - step, learn[run])) / 2e-5
            assert float(theta.grad[run, axis]) == pytest.approx(slope, rel=1e-4, abs=1e-8)
    assert float(checks[0]) == pytest.approx(alone(fit.theta[0], check[0]), rel=1e-5)
    assert np.isnan(float(checks[1]))


def test_an_answer_at_every_step_counts_each_real_step_once():
    fit, population = problems.fitted()
    space = population[0].model.outputs
    inputs = population.dataset(population[0]).train.inputs
    fit.emulator.heads[0].outputs = type(space)("classes", space.size, "every")
    targets = torch.randint(space.size, inputs.mask.shape, generator=torch.Generator().manual_seed(0))
    theta, rows = fit.theta[:1].clone().requires_grad_(), [torch.arange(24)]
    whole, parts = (
        ThetaLoss(fit, Examples(inputs, targets), batch_size=size).backward(theta, rows, [torch.arange(0)])[0]
        for size in (100, 7)
    )
    assert float(whole) == pytest.approx(float(parts), rel=1e-5)


def test_paths_side_by_side_are_what_each_is_alone():
    fit, population = problems.fitted()
    examples = population.dataset(population[0]).train
    rows = [torch.arange(9), torch.arange(4, 20), torch.arange(24)]
    together = descend(ThetaLoss(fit, examples, batch_size=30), fit.theta.numpy(), rows, steps=4)
    for run in range(3):
        alone = descend(ThetaLoss(fit, examples), fit.theta[run : run + 1].numpy(), rows[run : run + 1], steps=4)
        np.testing.assert_allclose(together.thetas[run], alone.thetas[0], atol=1e-5)
        np.testing.assert_allclose(together.losses[run], alone.losses[0], atol=1e-5)
    assert together.thetas.shape == (3, 5, 4)
    assert (together.losses[:, -1] < together.losses[:, 0]).all()


def test_the_unit_of_steps():
    theta = np.array([[1.0, 2], [3, 2]])
    assert spread_of(theta) == pytest.approx(np.sqrt(0.5))
    assert spread_of(theta[:1]) == pytest.approx(np.sqrt(2.5))
    assert spread_of(np.zeros((2, 3))) == 1


def test_the_labelled_examples_that_no_model_was_trained_on():
    fit, population = problems.fitted()
    half, _ = population.dataset(population[0]).halves()
    task = task_of(fit, half_seen(population, 0.25))
    assert torch.equal(task.labelled.targets, half.targets[round(len(half) * 0.25) :])
    assert not task.seen
    for share in (1.0, "most"):
        task = task_of(fit, half_seen(population, share))
        assert torch.equal(task.labelled.targets, half.targets)
        assert task.seen
    assert task_of(fit, population).seen


def test_some_examples_are_drawn_without_replacement():
    examples = problems.dataset().test
    drawn = some(examples, 10, seed=1)
    assert len(drawn) == 10
    rows = [(examples.inputs.values == value).flatten(1).all(1).nonzero().item() for value in drawn.inputs.values]
    assert len(set(rows)) == 10
    assert torch.equal(drawn.targets, examples.targets[rows])
    assert some(examples, None) is some(examples, 99) is examples


def test_several_heads_and_the_models_of_one():
    first, second = (problems.dataset(classes=classes, group=f"task{classes}") for classes in (2, 3))
    models = [problems.base_model(f"m{n}", first if n < 2 else second, seed=n) for n in range(5)]
    from dynamo import FitOptions, Trainer

    fit = Fit.of(Trainer(Population(models), FitOptions(meta_model="gru:hidden_size=4", theta_dim=2)))
    with pytest.raises(DynamoError, match="several heads"):
        search(fit, Population(models), budget=9)
    heads = [name for name, _ in fit.emulator.blueprint.heads]
    task = task_of(fit, Population(models), heads[1])
    assert task.names == ["m2", "m3", "m4"]
    assert task.dataset is second
    assert len(base_scores(task, second.test)) == 3
    mixed = Population([*models[:2], problems.base_model("m2", problems.dataset(group="task3"), seed=2), *models[3:]])
    with pytest.raises(DynamoError, match="different data sets"):
        task_of(fit, mixed, heads[1])


def test_errors(monkeypatch):
    fit, population = problems.fitted()
    with pytest.raises(DynamoError, match="did you mean 'gradient'"):
        search(fit, population, "gradiant")
    with pytest.raises(DynamoError, match="did you mean 'score'"):
        search(fit, population, metric="scor")
    with pytest.raises(DynamoError, match="used up by the models"):
        search(fit, population, budget=4)
    with pytest.raises(DynamoError, match="must be above 0"):
        search(fit, population, radius=0)
    with pytest.raises(DynamoError, match="NaN"):
        search(fit, population, metric=lambda *parts: float("nan"))
    with pytest.raises(DynamoError, match="make smaller steps"):
        descend(ThetaLoss(fit, population.dataset(population[0]).train), np.full((1, 4), np.nan), [torch.arange(3)])
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(DynamoError, match=r"pip install 'dynamo-embedding\[search\]'"):
        search(fit, population, "cma", budget=20)
    assert (sign_of("loss"), sign_of("score")) == (-1, 1)


def test_the_picture_shows_the_places():
    fit, population = problems.fitted()
    for method in ("gradient", "random"):
        found = search(fit, population, method, budget=10)
        left, right = plot_search(found, "number", fit.values_of("number")).axes
        assert left.get_legend().get_title().get_text() == "number"
        np.testing.assert_allclose(right.lines[0].get_ydata(), found.tuning)
        drawn = left.lines[0].get_xydata() if method == "gradient" else left.collections[0].get_offsets()
        np.testing.assert_allclose(drawn, found.coordinates[found.known :])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    train = ["-a", "gru:hidden_size=5", "-d", "digits-rows", "-f", "0.5", "--seeds", "3", "--epochs", "1"]
    main(["train", str(folder / "pop"), *train])
    options = ["--meta-model", "gru:hidden_size=6", "--theta-dim", "3", "--models-per-step", "none", "--steps", "4"]
    main(["fit", str(folder / "pop"), "-o", str(folder / "run"), *options])
    return folder / "run"


def test_command(run, tmp_path, capsys):
    main(
        ["analyse", "search", str(run), "-o", str(tmp_path), "--budget", "9", "--method", "random", "--examples", "60"]
    )
    told = capsys.readouterr().out
    assert "chosen on 60 labelled training examples (no base model was trained on them)" in told
    with (tmp_path / "path.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert [row["chosen"] for row in rows].count("True") == 1
    best = next(row for row in rows if row["chosen"] == "True")
    assert float(best["tuning"]) == max(float(row["tuning"]) for row in rows)
    with (tmp_path / "search.csv").open() as file:
        table = list(csv.DictReader(file))
    model = Fit.load(run).model_at([float(best[f"theta_{axis}"]) for axis in (1, 2, 3)])
    population = Fit.load(run).open_population()
    assert float(table[0]["held_out"]) == pytest.approx(score(model, population.dataset(population[0]).test))
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        main(["analyse", "search", str(run), "-o", str(tmp_path), "--colour-by", "fractoin"])
    assert "did you mean 'fraction'" in capsys.readouterr().err
