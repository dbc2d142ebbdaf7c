"""Averages on the map, and the two averages that need no map."""

import csv

import numpy as np
import pytest
import torch

import problems
from dynamo import DynamoError, Fit, FitOptions, Population, Spec, Trainer
from dynamo.analysis.networks.averages import Way, average, between, mean_theta, mixture, parameter_average
from dynamo.analysis.networks.evaluate import outputs_at, scores_at
from dynamo.analysis.networks.geodesic import geodesic
from dynamo.cli import main
from dynamo.contracts.data import Dataset, Examples
from dynamo.contracts.protocols import DynamicalModel
from dynamo.population.base_model import BaseModel
from dynamo.population.scores import score
from dynamo.registry import make


@pytest.fixture(scope="module")
def fit_and_population():
    return problems.fitted()


def fit_of(population: Population) -> Fit:
    """An emulator with thetas drawn at random."""
    fit = Fit.of(Trainer(population, FitOptions(meta_model="gru:hidden_size=6", theta_dim=4, batch_size=12)))
    for number, theta in enumerate(fit.emulator.thetas):
        theta.data = torch.randn(4, generator=torch.Generator().manual_seed(number))
    return fit


def permuted(base: BaseModel, name: str, seed: int) -> BaseModel:
    """The same function with the units of the GRU in another order."""
    model = make("architecture", base.architecture, DynamicalModel, base.model.inputs, base.model.outputs)
    state = base.model.state_dict()
    units = torch.randperm(len(state["rnn.weight_hh_l0"]) // 3, generator=torch.Generator().manual_seed(seed))
    for key, tensor in state.items():
        if key == "rnn.weight_hh_l0":
            tensor = tensor.unflatten(0, (3, -1))[:, units][:, :, units].flatten(0, 1)
        elif key.startswith("rnn."):
            tensor = tensor.unflatten(0, (3, -1))[:, units].flatten(0, 1)
        elif tensor.ndim == 2:
            tensor = tensor[:, units]
        state[key] = tensor
    model.load_state_dict(state)
    return BaseModel(name, model.eval(), base.data, base.metadata, base.architecture)


def test_a_mixture_has_equal_weights_on_a_subset(fit_and_population):
    fit, _ = fit_and_population
    assert mixture(fit, "m1").tolist() == [0, 1, 0]
    assert mixture(fit, "number=2").tolist() == [0, 0, 1]
    assert mixture(fit, "m0, number=2.0").tolist() == [0.5, 0, 0.5]
    assert mixture(fit, ["m0", "m0"]).tolist() == [1, 0, 0]
    np.testing.assert_allclose(mixture(fit, "all"), 1 / 3)
    np.testing.assert_allclose(mean_theta(fit, "m0,m2"), (fit.theta[0] + fit.theta[2]) / 2, atol=1e-7)
    np.testing.assert_allclose(mean_theta(fit), fit.theta.mean(0), atol=1e-7)


def test_labels_are_read_as_they_are_written():
    data = problems.dataset()
    labels = [{"size": 1.0, "big": True}, {"size": 0.1, "big": False}, {"task": "1"}]
    fit = fit_of(Population([problems.base_model(f"m{n}", data, **given) for n, given in enumerate(labels)]))
    assert mixture(fit, "size=1").tolist() == [1, 0, 0]
    assert mixture(fit, "big=false").tolist() == [0, 1, 0]
    assert mixture(fit, "task=1").tolist() == [0, 0, 1]
    with pytest.raises(DynamoError, match=r"no model has big=1: the values of 'big' are False, True"):
        mixture(fit, "big=1")
    with pytest.raises(DynamoError, match=r"no model has size=large: the values of 'size' are 0.1, 1.0"):
        mixture(fit, "size=large")


def test_the_line_on_the_map_is_the_model_at_each_mixture(fit_and_population):
    fit, population = fit_and_population
    test = population.dataset(population[0]).test
    result = between(fit, population, ("m0", "m1,m2"), points=5)
    line = result.ways[0]
    assert result.alphas.tolist() == [0, 0.25, 0.5, 0.75, 1]
    for alpha, found in zip(result.alphas, line.scores, strict=True):
        theta = (1 - alpha) * fit.theta[0] + alpha * (fit.theta[1] + fit.theta[2]) / 2
        assert found == pytest.approx(score(fit.model_at(theta), test), abs=1e-6)
    assert line.scores[0] == pytest.approx(score(fit.model_at("m0"), test), abs=1e-6)


def test_every_way_between_two_models_starts_and_ends_with_them(fit_and_population):
    data = problems.dataset(examples=200)
    models = Population([problems.base_model(f"m{n}", data, seed=n) for n in range(3)])
    result = between(fit_of(models), models, ("m0", "m2"), points=3)
    ends = [score(models[0].model, data.test), score(models[2].model, data.test)]
    assert [way.name for way in result.ways] == ["line", "parameters", "ensemble"]
    for way in result.ways[1:]:
        assert [way.scores[0], way.scores[-1]] == pytest.approx(ends)
    assert [scores.tolist() for scores in result.base_scores] == [pytest.approx([end]) for end in ends]


def test_the_dip_is_measured_from_the_chord():
    assert Way("line", np.array([1.0, 0.4, 0.0])).dip == pytest.approx(0.1)
    assert Way("line", np.array([0.0, 0.9, 1.0])).dip == 0
    assert Way("line", None, "why").dip is None


def softmax(outputs):
    exponentials = np.exp(outputs - outputs.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("kind", ["classes", "real"])
def test_the_ensemble_against_numpy(kind):
    population = problems.population(3, kind=kind, examples=60)
    test = population.dataset(population[0]).test
    outputs = [base.model(test.inputs.values, test.inputs.mask).detach().double().numpy() for base in population]
    targets = test.targets.numpy()

    def wanted(weights):
        if kind == "classes":
            mean = sum(weight * softmax(output) for weight, output in zip(weights, outputs, strict=True))
            return (mean.argmax(1) == targets).mean()
        mean = sum(weight * output for weight, output in zip(weights, outputs, strict=True))
        return 1 - ((mean - targets) ** 2).sum() / ((targets - targets.mean(0)) ** 2).sum()

    fit = fit_of(population)
    ensemble = between(fit, population, ("m0", "m1,m2"), points=4).ways[-1]
    found = [wanted([1 - alpha, alpha / 2, alpha / 2]) for alpha in (0, 1 / 3, 2 / 3, 1)]
    assert ensemble.scores == pytest.approx(np.array(found), abs=1e-5)
    assert average(fit, population, "all").ensemble_score == pytest.approx(wanted([1 / 3] * 3), abs=1e-5)


def test_the_parameter_average_of_a_model_with_itself_is_itself():
    data = problems.dataset()
    base = problems.base_model("a", data)
    other = problems.base_model("b", data, seed=1)
    for mixed in (parameter_average([base, base], [0.3, 0.7]), parameter_average([base, other], [1.0, 0.0])):
        for key, tensor in base.model.state_dict().items():
            torch.testing.assert_close(mixed.state_dict()[key], tensor)
    half = parameter_average([base, other], [0.5, 0.5]).state_dict()["rnn.weight_hh_l0"]
    torch.testing.assert_close(half, (base.model.rnn.weight_hh_l0 + other.model.rnn.weight_hh_l0) / 2)


def test_batch_norm_statistics_are_averaged_too():
    spec = Spec("cifar-resnet", {"depth": 8, "width": 4})
    data = make("dataset", "digits", Dataset)
    models = []
    for number in range(2):
        model = make("architecture", spec, DynamicalModel, data.inputs, data.outputs)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.fill_(1.0 + number)
        models.append(BaseModel(f"m{number}", model.eval(), data, {}, spec))
    mixed = parameter_average(models, [0.25, 0.75]).state_dict()
    variances = [tensor for key, tensor in mixed.items() if key.endswith("running_var")]
    assert variances
    assert all(torch.allclose(tensor, torch.tensor(1.75)) for tensor in variances)


def test_permuted_copies_of_a_network_average_in_outputs_but_not_in_weights():
    """Planted: three networks that are one function. Its decisions are the targets, so that every score is 1."""
    data = problems.dataset(examples=300)
    first = problems.base_model("a", data, hidden=12)
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.mul_(5 * (parameter.ndim > 1))  # no biases: decisions that depend on the inputs
        decisions = first.model(data.test.inputs.values, data.test.inputs.mask).argmax(-1)
    data = Dataset(data.inputs, data.outputs, data.train, Examples(data.test.inputs, decisions))
    first = BaseModel("a", first.model, data, {}, first.architecture)
    models = Population([first, permuted(first, "b", 1), permuted(first, "c", 2)])
    _, parameters, ensemble = between(fit_of(models), models, ("a", "b"), points=5).ways
    assert ensemble.scores.tolist() == pytest.approx([1.0] * 5, abs=0.011)
    assert parameters.scores[[0, -1]].tolist() == pytest.approx([1.0, 1.0], abs=0.011)
    assert parameters.scores[2] < 0.8
    assert parameters.dip > 0.2 > 0.011 > ensemble.dip
    result = average(fit_of(models), models, "all")
    assert result.base_mean == pytest.approx(1, abs=0.011)
    assert result.ensemble_score > 0.98
    assert result.parameters_score < 0.8


def test_weights_that_do_not_match_have_no_average(fit_and_population):
    fit, population = fit_and_population  # GRUs of three widths
    parameters = between(fit, population, ("m0", "m1"), points=3).ways[1]
    assert parameters.scores is None
    assert "hidden_size=3" in parameters.reason
    assert "hidden_size=4" in parameters.reason
    result = average(fit, population, "all")
    assert result.models == 3
    assert result.parameters_score is None
    assert "m0 is a gru" in result.reason
    assert result.base_best == pytest.approx(
        max(score(base.model, population.dataset(base).test) for base in population)
    )
    test = population.dataset(population[0]).test
    assert result.emulator_score == pytest.approx(scores_at(fit, mean_theta(fit)[None], test)[0])
    live = Population.of({"a": population[0].model, "b": population[1].model}, problems.dataset())
    assert "live module" in average(fit_of(live), live, "all").reason


def bend(start, end, points, seed=0):
    """A crooked way."""
    way = np.linspace(start, end, points)
    way[1:-1] += 0.5 * np.random.default_rng(seed).normal(size=way[1:-1].shape)
    return way


def test_where_the_metric_is_euclidean_the_geodesic_is_the_straight_line():
    fit, population = problems.plane(4, kind="real")
    start, end = fit.theta[0].double().numpy(), fit.theta[1].double().numpy()
    inputs = population.dataset(population[0]).halves()[1]
    found = geodesic(fit, bend(start, end, 6), inputs, iterations=60)
    np.testing.assert_allclose(found.thetas, np.linspace(start, end, 6), atol=2e-3)
    distance = np.linalg.norm(end - start)
    assert found.length == pytest.approx(distance, rel=1e-4)
    assert found.energy == pytest.approx(distance**2, rel=1e-4)
    assert found.line_length > 1.2 * distance
    way = bend(start, end, 6)
    steps = np.linalg.norm(np.diff(way, axis=0), axis=1)
    assert found.line_length == pytest.approx(steps.sum(), rel=1e-5)
    assert found.line_energy == pytest.approx(5 * (steps**2).sum(), rel=1e-5)


def test_between_probabilities_the_geodesic_is_a_great_circle():
    """With θ as the logits the map is an octant of the sphere of √p, whose shortest ways are arcs."""
    fit, population = problems.plane(4, kind="classes")
    start, end = np.array([4.0, 0, 0, 0]), np.array([0, 4.0, 1, 0])
    inputs = population.dataset(population[0]).halves()[1]
    found = geodesic(fit, np.linspace(start, end, 9), inputs, iterations=200)
    angle = np.arccos(np.sqrt(softmax(start) * softmax(end)).sum())
    assert found.length == pytest.approx(8 * 2 * np.sin(angle / 16), rel=1e-3)
    assert found.energy == pytest.approx(found.length**2, rel=1e-3)  # at even speed
    assert found.line_energy > 1.1 * found.energy
    np.testing.assert_array_equal(found.thetas[[0, -1]], [start, end])


def test_the_geodesic_never_has_more_energy_than_the_line(fit_and_population):
    fit, population = fit_and_population
    before = {key: tensor.clone() for key, tensor in fit.emulator.state_dict().items()}
    seen = []
    result = between(fit, population, ("m0", "m1"), points=7, shortest=True, progress=lambda *now: seen.append(now))
    line, shortest = result.ways[:2]
    assert shortest.name == "geodesic"
    assert shortest.energy < line.energy
    assert shortest.energy >= shortest.length**2 * (1 - 1e-6)
    assert shortest.scores[[0, -1]].tolist() == line.scores[[0, -1]].tolist()
    assert seen[0][0] == 1
    assert all(torch.equal(tensor, before[key]) for key, tensor in fit.emulator.state_dict().items())
    two = between(fit, population, ("m0", "m1"), points=2, shortest=True).ways
    assert two[1].energy == two[0].energy


def test_the_energy_of_a_way_against_numpy(fit_and_population):
    fit, population = fit_and_population
    probe = population.dataset(population[0]).halves()[1]
    way = np.linspace(fit.theta[0].tolist(), fit.theta[1].tolist(), 4)
    found = geodesic(fit, way, probe, iterations=1, batch_size=8)
    targets = torch.zeros(len(probe), dtype=torch.int64)
    roots = np.stack([np.sqrt(softmax(o.double().numpy())) for o in outputs_at(fit, way, Examples(probe, targets))])
    squares = ((roots[1:] - roots[:-1]) ** 2).sum(-1).mean(1)
    assert found.line_energy == pytest.approx(3 * squares.sum(), rel=1e-4)
    assert found.line_length == pytest.approx(np.sqrt(squares).sum(), rel=1e-4)


def test_two_heads():
    one, two = problems.dataset(classes=3, group="x"), problems.dataset(classes=2, group="y")
    models = Population([problems.base_model(name, data) for name, data in (("a", one), ("b", one), ("c", two))])
    fit = fit_of(models)
    with pytest.raises(DynamoError, match="several heads: say which with --head, one of x, y"):
        between(fit, models, ("a", "c"))
    with pytest.raises(DynamoError, match="no head is called 'z'"):
        average(fit, models, "all", head="z")
    result = average(fit, models, "all", head="y")
    assert (result.ensemble_score, result.parameters_score) == (None, None)
    assert result.reason == "a does another task (x)"
    assert result.base_mean == result.base_best == pytest.approx(score(models[2].model, two.test))
    assert average(fit, models, "a,b").reason == ""  # one task: nothing to be said
    across = average(fit, models, "a,b", head="y")
    assert (across.base_mean, across.base_best) == (None, None)
    assert across.emulator_score == pytest.approx(scores_at(fit, mean_theta(fit, "a,b")[None], two.test, head="y")[0])


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ("", "the average of no models is not defined"),
        ([], "the average of no models is not defined"),
        ("m9", "no base model is called 'm9': did you mean"),
        ("numbr=1", "no metadata is called 'numbr': did you mean 'number'"),
        ("number=7", "no model has number=7: the values of 'number' are 0, 1, 2"),
    ],
)
def test_errors(fit_and_population, subset, message):
    with pytest.raises(DynamoError, match=message):
        mean_theta(fit_and_population[0], subset)


def test_more_errors(fit_and_population):
    fit, population = fit_and_population
    with pytest.raises(DynamoError, match="at least 2 points"):
        between(fit, population, ("m0", "m1"), points=1)
    spoilt = population.select([True] * 3)
    real = problems.dataset(kind="real")
    for base in spoilt:
        dataset = spoilt.dataset(base)
        object.__setattr__(dataset, "test", real.test)
    with pytest.raises(DynamoError, match="the metric is not defined"):
        average(fit, spoilt, "m0")


def test_the_command(tmp_path, capsys):
    train = ["-a", "gru:hidden_size=6", "-d", "digits-rows", "--epochs", "1", "--seeds", "2", "-f", "1", "-f", "0.5"]
    main(["train", str(tmp_path / "p"), *train])
    fit = ["--meta-model", "gru:hidden_size=8", "--theta-dim", "3", "--models-per-step", "none", "--steps", "4"]
    run = str(tmp_path / "run")
    main(["fit", str(tmp_path / "p"), "-o", run, *fit])
    ends = ["fraction=1", "digits-gru-50-s1"]
    main(["analyse", "averages", run, "--between", *ends, "--points", "3", "--geodesic"])
    folder = tmp_path / "run" / "averages"
    assert [row["way"] for row in csv.DictReader((folder / "ways.csv").open())] == [
        "line", "geodesic", "parameters", "ensemble",
    ]  # fmt: skip
    path = list(csv.DictReader((folder / "path.csv").open()))
    assert [float(row["alpha"]) for row in path] == [0, 0.5, 1]
    assert (folder / "ways.png").stat().st_size > 0
    capsys.readouterr()
    main(["analyse", "averages", run, "--of", "fraction=1", "--of", "all", "-o", str(tmp_path / "other")])
    rows = list(csv.DictReader((tmp_path / "other" / "averages.csv").open()))
    assert [(row["of"], row["models"]) for row in rows] == [("fraction=1", "2"), ("all", "4")]
    assert "picture" in capsys.readouterr().out
    for wrong, message in (
        ([], "give --between A B, or --of SUBSET"),
        (["--of", "all", "--between", *ends], "--between and --of ask two questions: give one of them at a time"),
    ):
        with pytest.raises(SystemExit):
            main(["analyse", "averages", run, *wrong])
        assert message in capsys.readouterr().err
