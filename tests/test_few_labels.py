"""Learning θ from a few labels: what moves, what is found, what is never looked at, and the baselines."""

import csv
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

import problems
from dynamo import DynamoError, Fit, Inputs, InputSpace, OutputSpace
from dynamo.analysis.networks.few_labels import Estimate, few_labels
from dynamo.analysis.networks.label_baselines import FINE_TUNING_RATE, PROBE_STRENGTHS, fine_tuned, linear_probe, pick
from dynamo.analysis.networks.labels import deal, draw_labels, label_count, stopping_point
from dynamo.analysis.networks.landscape import landscape
from dynamo.analysis.networks.task import answers, task_of
from dynamo.cli import main
from dynamo.contracts.protocols import DynamicalModel, Head, MetaModel
from dynamo.population.scores import score, task_loss
from dynamo.registry import make
from dynamo.report.plots.few_labels import plot_few_labels

SETTINGS = {"labels": 60, "draws": 3, "steps": 30, "folds": 3, "start": "zero", "seed": 1}
NAMES = [
    "θ-learning",
    "meta-model at the start",
    "best base model by the labels",
    "fine-tuned, all weights",
    "linear probe",
    "ensemble of base models",
    "best base model by test (oracle)",
]


class Dial(MetaModel):
    """States θ ⊙ x_t: with the head below, a linear classifier whose weights are θ."""

    def __init__(self, like: MetaModel) -> None:
        super().__init__()
        self.inputs, self.theta_dim = like.inputs, like.theta_dim
        self.state_shapes, self.feature_size = ((like.theta_dim,),), like.theta_dim

    def states(self, inputs, theta):
        return (inputs.values * theta[:, None],)

    def features(self, states):
        return states[0]


class Sum(Head):
    """Two classes, by the sign of the sum of the features."""

    def __init__(self, outputs) -> None:
        super().__init__()
        self.outputs, self.feature_size = outputs, 4
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, features):
        sums = self.scale * features.sum(-1)
        return torch.stack([-sums, sums], -1)


@pytest.fixture(scope="module")
def planted():
    """Classes that the meta-model gives at a place of the map where no model is."""
    fit, population = problems.fitted(4, examples=160, classes=2, features=4)
    fit.emulator.meta_model = Dial(fit.emulator.meta_model)
    fit.emulator.heads = nn.ModuleList([Sum(population[0].model.outputs)])
    model, data = fit.model_at([0.7, -0.9, 0.5, 0.4]), population.dataset(population[0])
    for part in (data.train, data.test):
        part.targets[:] = model(part.inputs.values, part.inputs.mask).argmax(-1)
    return fit, population


@pytest.fixture(scope="module")
def found(planted):
    return few_labels(*planted, **SETTINGS)


def method(result, name):
    return next(item for item in result.methods if item.name == name)


def test_a_planted_theta_is_learned_from_zero(planted, found):
    assert [item.name for item in found.methods] == NAMES
    start = method(found, "meta-model at the start").score.mean
    assert start < 0.6
    assert method(found, "θ-learning").scores.min() > 0.95
    np.testing.assert_array_equal(found.thetas[:, 0], 0)
    fit, population = planted
    test = population.dataset(population[0]).test
    for theta, own in zip(found.learned, method(found, "θ-learning").scores, strict=True):
        assert own == score(fit.model_at(theta.tolist()), test)
    for draw, steps in enumerate(found.steps):
        assert steps == found.validation[draw].argmin()
        np.testing.assert_array_equal(found.learned[draw], found.thetas[draw, steps])


def test_nothing_but_theta_moves(planted):
    fit, population = planted
    before = deepcopy(fit.emulator.state_dict()), deepcopy([base.model.state_dict() for base in population])
    state = torch.get_rng_state()
    few_labels(fit, population, labels=12, draws=2, steps=3, folds=2)
    after = fit.emulator.state_dict(), [base.model.state_dict() for base in population]
    for old, new in zip([before[0], *before[1]], [after[0], *after[1]], strict=True):
        assert all(torch.equal(old[key], new[key]) for key in old)
    assert all(not parameter.requires_grad for base in population for parameter in base.model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_draws_differ_and_a_seed_brings_them_back(planted, found):
    sets = [set(rows.tolist()) for rows in found.rows]
    assert all(len(rows) == 60 for rows in sets)
    assert sets[0] != sets[1] != sets[2] != sets[0]
    again = few_labels(*planted, **SETTINGS)
    np.testing.assert_array_equal(found.thetas, again.thetas)
    for one, two in zip(found.methods, again.methods, strict=True):
        np.testing.assert_array_equal(one.scores, two.scores)
    task = task_of(*planted)
    other = draw_labels(task, 60, 3, balanced=False, seed=2)
    assert all(set(rows.tolist()) not in sets for rows in other)


def test_test_data_change_nothing_but_the_scores(planted):
    fit, population = planted
    first = few_labels(fit, population, labels=20, draws=2, steps=8, folds=2)
    changed = deepcopy(population)
    changed.dataset(changed[0]).test.targets[:] = torch.randperm(160, generator=torch.Generator().manual_seed(0)) % 2
    second = few_labels(fit, changed, labels=20, draws=2, steps=8, folds=2)
    np.testing.assert_array_equal(first.thetas, second.thetas)
    assert first.steps == second.steps
    assert [item.note for item in first.methods[:-1]] == [item.note for item in second.methods[:-1]]
    assert first.methods[0].score.mean != second.methods[0].score.mean


def test_intervals_are_students(found):
    own = method(found, "θ-learning").scores
    for item in found.methods:
        difference = item.scores - own
        for estimate, values in ((item.score, item.scores), (item.difference, difference)):
            assert estimate.mean == pytest.approx(values.mean())
            if values.std() > 0:
                wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
                assert (estimate.low, estimate.high) == pytest.approx(tuple(wanted))
            else:
                assert estimate.low == estimate.high == pytest.approx(values.mean())
    assert Estimate.of(np.array([1.0, 3.0])).high == pytest.approx(2 + stats.t.ppf(0.975, 1))


def test_choosing_and_averaging_base_models(planted, found):
    fit, population = planted
    task, test = task_of(fit, population), population.dataset(population[0]).test
    alone = [score(base.model, test) for base in population]
    for draw, rows in enumerate(found.rows):
        part = task.labelled[rows]
        ranked = []
        for base in population:
            outputs = base.model(part.inputs.values, part.inputs.mask)
            loss = torch.nn.functional.cross_entropy(outputs, part.targets)
            ranked.append((score(base.model, part), -float(loss)))
        best = ranked.index(max(ranked))
        assert method(found, "best base model by the labels").scores[draw] == alone[best]
        assert pick(task, [answers(base.model, task.labelled.inputs)[0] for base in population], rows) == best
    oracle = method(found, "best base model by test (oracle)")
    assert set(oracle.scores) == {max(alone)}
    assert alone[fit.names.index(oracle.note)] == max(alone)
    mean = sum(base.model(test.inputs.values, test.inputs.mask).softmax(-1) for base in population)
    accuracy = float((mean.argmax(-1) == test.targets).float().mean())
    np.testing.assert_allclose(method(found, "ensemble of base models").scores, accuracy)


def test_fine_tuning_is_adam_on_all_weights_stopped_by_cross_validation(planted):
    fit, population = planted
    task, base = task_of(fit, population), population[1].model
    rows = draw_labels(task, 14, 1, balanced=False, seed=0)[0]
    split, steps = deal(task, rows, 2), 12

    def loss(model, rows):
        part = task.labelled[rows]
        return task_loss(model(part.inputs.values, part.inputs.mask), part.targets, part.inputs.mask, model.outputs)

    def trained(rows, steps):
        model = deepcopy(base).requires_grad_(True)
        optimizer = torch.optim.Adam(model.parameters(), lr=FINE_TUNING_RATE)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model, rows).backward()
            optimizer.step()
        return model

    curve = [
        sum(len(check) * loss(trained(learn, count), check).item() for learn, check in split)
        for count in range(steps + 1)
    ]
    found, point = fine_tuned(task, base, split, steps=steps)
    assert point == int(np.argmin(curve))
    assert found == score(trained(torch.cat([check for _, check in split]), point), task.dataset.test)


def test_the_linear_probe_is_logistic_regression_with_a_penalty_from_cross_validation(planted):
    fit, population = planted
    task = task_of(fit, population)
    model, test = population[2].model, population.dataset(population[2]).test
    rows = draw_labels(task, 40, 1, balanced=False, seed=0)[0]
    split = deal(task, rows, 4)

    def states(inputs):
        last = inputs.mask.sum(1) - 1
        return model.trajectory(inputs).states[0][torch.arange(len(last)), last].numpy()

    def accuracy(strength, learn, where, targets):
        scaler = StandardScaler().fit(states(task.labelled.inputs[learn]))
        probe = LogisticRegression(C=strength, max_iter=2000)
        probe.fit(scaler.transform(states(task.labelled.inputs[learn])), task.labelled.targets[learn])
        return probe.score(scaler.transform(states(where)), targets)

    means = [
        np.mean(
            [accuracy(c, learn, task.labelled.inputs[check], task.labelled.targets[check]) for learn, check in split]
        )
        for c in PROBE_STRENGTHS
    ]
    chosen = PROBE_STRENGTHS[int(np.argmax(means))]
    _, features = answers(model, task.labelled.inputs)
    _, test_features = answers(model, test.inputs)
    found = linear_probe(features, task.labelled.targets, split, test_states=test_features, test_targets=test.targets)
    assert found == pytest.approx(accuracy(chosen, rows, test.inputs, test.targets))


def test_states_of_images_are_averaged_over_positions():
    space, classes = InputSpace("image", (3, 16, 16)), OutputSpace("classes", 4)
    model = make("architecture", "cifar-resnet:depth=8,width=4", DynamicalModel, space, classes).eval()
    inputs = Inputs(torch.randn(5, 3, 16, 16), torch.ones(5, 1, dtype=torch.bool))
    outputs, states = answers(model, inputs, batch_size=2)
    with torch.no_grad():
        trajectory = model.trajectory(inputs)
    torch.testing.assert_close(states, trajectory.states[-1][:, 0].mean((2, 3)))
    torch.testing.assert_close(outputs, trajectory.outputs[:, 0])


def test_folds_share_out_every_label_and_every_class(planted):
    task = task_of(*planted)
    rows = draw_labels(task, 23, 1, balanced=False, seed=0)[0]
    split = deal(task, rows, 4)
    assert sorted(torch.cat([check for _, check in split]).tolist()) == sorted(rows.tolist())
    for learn, check in split:
        assert sorted([*learn.tolist(), *check.tolist()]) == sorted(rows.tolist())
        assert len(check) in (5, 6)
        counts = [int((task.labelled.targets[check] == value).sum()) for value in (0, 1)]
        whole = [int((task.labelled.targets[rows] == value).sum()) for value in (0, 1)]
        assert all(abs(count - total / 4) < 1 for count, total in zip(counts, whole, strict=True))


def test_balanced_draws_have_as_many_of_each_class(planted):
    task = task_of(*planted)
    for rows in draw_labels(task, 16, 3, balanced=True, seed=0):
        assert torch.bincount(task.labelled.targets[rows]).tolist() == [8, 8]
        assert len(set(rows.tolist())) == 16


def test_counts_and_shares(planted):
    task = task_of(*planted)
    assert [label_count(labels, task) for labels in (0.1, 7, 80.0)] == [16, 7, 80]
    for labels in (2.5, 0.001):
        with pytest.raises(DynamoError, match="give a fraction"):
            label_count(labels, task)
    with pytest.raises(DynamoError, match=r"81 labels are asked for; there are 80 labelled examples$"):
        label_count(81, task)


def test_the_stopping_point_weighs_folds_by_their_size():
    checks = np.array([[3.0, 1, 2], [1, 2, 0.9]])
    assert stopping_point(checks, [1, 1])[0] == 2
    point, loss = stopping_point(checks, [3, 1])
    assert point == 1
    np.testing.assert_allclose(loss, [2.5, 1.25, 1.725])
    assert stopping_point(np.ones((2, 3)), [1, 1])[0] == 0


def test_real_outputs_skip_the_probe_with_a_reason():
    result = few_labels(*problems.fitted(kind="real"), labels=8, draws=2, steps=2, folds=2)
    probe = method(result, "linear probe")
    assert (probe.scores, probe.score, probe.difference) == (None, None, None)
    assert "one class an example" in probe.note
    assert all(item.scores is not None for item in result.methods if item is not probe)


def test_one_base_model_is_enough():
    fit, population = problems.fitted(1, examples=40)
    result = few_labels(fit, population, labels=16, draws=2, steps=2, folds=2)
    np.testing.assert_allclose(result.thetas[:, 0], fit.theta.expand(2, -1))
    assert len(plot_few_labels(result, None, None, None).axes) == 1


def test_errors(planted):
    fit, population = planted
    for settings, message in (
        ({"labels": 81}, "81 labels are asked for"),
        ({"labels": 8, "start": "m11"}, "did you mean 'm1'"),
        ({"labels": 8, "draws": 1}, "an interval needs 2 draws"),
        ({"labels": 8, "folds": 1}, "cross-validation 2 folds"),
        ({"labels": 8, "folds": 9, "balanced": True}, "8 labels cannot be dealt into 9 folds"),
        ({"labels": 3, "folds": 2}, "cross-validation needs 2 of each"),
        ({"labels": 8, "head": "no"}, "no head is called 'no'"),
    ):
        with pytest.raises(DynamoError, match=message):
            few_labels(fit, population, **settings)
    changed = deepcopy(population)
    data = changed.dataset(changed[0])
    order = torch.randperm(160, generator=torch.Generator().manual_seed(0))  # of Dataset.halves
    data.train.targets[:] = 0
    with pytest.raises(DynamoError, match="all 80 labelled examples are of class 0"):
        few_labels(fit, changed, labels=8)
    data.train.targets[order[:3]] = 1
    with pytest.raises(DynamoError, match=r"draw 0 of 8 labels has (no|1) examples? of class 1.*--balanced"):
        few_labels(fit, changed, labels=8)
    assert few_labels(fit, changed, labels=8, balanced=True, draws=2, steps=1, folds=2).labels == 8
    with pytest.raises(DynamoError, match="cannot be balanced"):
        few_labels(*problems.fitted(kind="real"), labels=8, balanced=True)


def test_the_picture(planted, found):
    fit, population = planted
    background = landscape(fit, population, size=3)
    figure = plot_few_labels(found, background, "number", fit.values_of("number"))
    left, right = figure.axes[0], figure.axes[-1]
    ends = [item.get_offsets()[0] for item in left.collections if item.get_label() in ("its end", "_child")]
    ways = [line.get_xydata() for line in left.lines if len(line.get_xydata()) in {steps + 1 for steps in found.steps}]
    for draw, steps in enumerate(found.steps):
        way = background.frame.coordinates(found.thetas[draw, : steps + 1])
        assert any(way.shape == drawn.shape and np.allclose(way, drawn) for drawn in ways)
    np.testing.assert_allclose(ends[0], background.frame.coordinates(found.learned[0]))
    assert [label.get_text() for label in right.get_yticklabels()] == NAMES


def test_command(tmp_path, capsys):
    train = ["-a", "gru:hidden_size=5", "-d", "digits-rows", "-f", "0.5", "--seeds", "3", "--epochs", "1"]
    main(["train", str(tmp_path / "pop"), *train])
    options = ["--meta-model", "gru:hidden_size=6", "--theta-dim", "3", "--models-per-step", "none", "--steps", "4"]
    main(["fit", str(tmp_path / "pop"), "-o", str(tmp_path / "run"), *options])
    capsys.readouterr()
    fast = ["--steps", "2", "--draws", "2", "--folds", "2"]
    main(["analyse", "few-labels", str(tmp_path / "run"), "--labels", "40", "--balanced", *fast])
    told = capsys.readouterr().out
    assert "2 draws of 40 labels out of 337 (no base model was trained on them)" in told
    folder = tmp_path / "run" / "few-labels"
    with (folder / "few-labels.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["method"] for row in table] == NAMES
    with (folder / "draws.csv").open() as file:
        draws = list(csv.DictReader(file))
    fit = Fit.load(tmp_path / "run")
    data = fit.open_population().dataset(fit.open_population()[0])
    for row in draws:
        model = fit.model_at([float(row[f"theta_{axis}"]) for axis in (1, 2, 3)])
        assert float(row["θ-learning"]) == pytest.approx(score(model, data.test), abs=1e-6)
    mean = np.mean([float(row["linear probe"]) for row in draws])
    assert float(next(row["score"] for row in table if row["method"] == "linear probe")) == pytest.approx(mean)
    assert (folder / "few-labels.png").read_bytes().startswith(b"\x89PNG")
    for arguments, message in (
        (["--labels", "0.5"], "674 labels are asked for; there are 337 labelled examples that no base model"),
        (["--labels", "40", "--colour-by", "sed"], "did you mean 'seed'"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["analyse", "few-labels", str(tmp_path / "run"), *arguments])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
