"""Figures of what does not vary, and figures that are measured batch by batch."""

import math

import attrs
import pytest
import torch

from dynamo import Dataset, Examples, Fit, FitOptions, Inputs, OutputSpace, Population, Trainer, measure_fidelity
from dynamo.fit import fidelity as module
from dynamo.fit.fidelity import agreement, read_fidelity, unexplained, write_fidelity
from dynamo.population import recording, scores
from dynamo.population.base_model import BaseModel
from dynamo.population.recording import run, state_variances
from dynamo.population.scores import Score, Unexplained, score, task_score, unexplained_share
from dynamo.training.objective import output_loss
from dynamo.training.options import output_divergence
from problems import base_model, dataset, fitted, population, sequences
from test_trainer import small

FLAT = OutputSpace("real", 2)


def test_r2_of_what_does_not_vary_is_undefined_and_of_what_varies_a_little_is_not():
    guess, mask = torch.randn(50, 2), torch.ones(50, 1, dtype=torch.bool)
    for constant in (0.0, 2.5, 1e-9, 1e9 / 3):
        target = torch.full((50, 2), constant)
        assert math.isnan(unexplained_share(guess, target))
        assert math.isnan(task_score(guess, target, mask, FLAT))
    small = 1 + 1e-4 * torch.randn(50, 2)
    assert task_score(small, small, mask, FLAT) == 1
    assert unexplained_share(torch.full((50, 2), 1.0), small).item() > 0.9


@pytest.mark.parametrize("kind", ["real", "classes"])
@pytest.mark.parametrize("readout", ["last", "every"])
def test_batch_by_batch_is_all_at_once(kind, readout):
    space, inputs = OutputSpace(kind, 3, readout), sequences(40, 6, 2)
    shape = (40, 6, 3) if readout == "every" else (40, 3)
    outputs, targets = 5 + torch.randn(shape), 5 + torch.randn(shape)
    targets = targets.argmax(-1) if kind == "classes" else targets
    streamed = Score(space)
    for rows in (slice(0, 1), slice(1, 30), slice(30, 40)):
        streamed.add(outputs[rows], targets[rows], inputs.mask[rows])
    assert streamed.value == pytest.approx(task_score(outputs, targets, inputs.mask, space), rel=1e-12)
    if kind == "real":
        a, b = (part[inputs.mask] if readout == "every" else part for part in (outputs.double(), targets.double()))
        r2 = 1 - (a - b).square().sum() / (b - b.mean(0)).square().sum()
        assert streamed.value == pytest.approx(r2.item(), rel=1e-12)


def test_sums_keep_their_digits_far_from_zero():
    target = 1e4 + torch.randn(1000, 3, dtype=torch.float64)
    guess, streamed = target + 0.5, Unexplained()
    for part in range(0, 1000, 100):
        streamed.add(guess[part : part + 100], target[part : part + 100])
    wanted = 0.25 * 3000 / (target - target.mean(0)).square().sum()
    assert streamed.share == pytest.approx(wanted.item(), rel=1e-9)


@pytest.mark.parametrize("kind", ["real", "classes"])
def test_fidelity_in_batches_is_that_of_all_test_data_at_once(kind, monkeypatch):
    fit, models = fitted(kind=kind)
    monkeypatch.setattr(module, "_BATCH", 5)
    for number, (base, found) in enumerate(zip(models, measure_fidelity(fit, models).models, strict=True)):
        test = models.dataset(base).test
        target, guess = run(base.model, test.inputs), run(fit.model_at(base.name), test.inputs)
        with torch.no_grad():
            mapped = fit.emulator.maps_of(number)[0](guess.states[0])
        divergence = output_divergence(fit.options, base.name, "toy", base.outputs)
        wanted = (
            1 - unexplained(mapped, target.states[0], target.mask).item(),
            output_loss(divergence, guess.outputs, target.outputs, target.mask).item(),
            agreement(guess, target, base.outputs),
            score(base.model, test),
            score(fit.model_at(base.name), test),
        )
        assert attrs.astuple(found)[1:] == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_fidelity_and_scores_hold_one_batch_at_a_time(monkeypatch):
    data = dataset(examples=8)
    many = Inputs(torch.randn(4000, 5, 2), torch.ones(4000, 5, dtype=torch.bool))
    data = attrs.evolve(data, test=Examples(many, torch.zeros(4000, dtype=torch.int64)))
    models = Population([base_model("a", data, hidden=64)])
    fit = Fit.of(Trainer(models, FitOptions(meta_model="gru:hidden_size=8", theta_dim=2, steps=1, batch_size=4)))
    sizes = []

    def sized(model, inputs, batch_size=512, where=""):
        for part in module_trajectories(model, inputs, batch_size, where):
            sizes.append(part.states[0].shape[0])
            yield part

    module_trajectories = module.trajectories
    monkeypatch.setattr(module, "trajectories", sized)
    monkeypatch.setattr(recording, "trajectories", sized)
    monkeypatch.setattr(scores, "trajectories", sized)
    measure_fidelity(fit, models)
    score(models[0].model, data.test)
    assert max(sizes) <= 512
    assert sum(sizes) == 3 * 4000


def constant_targets():
    data = dataset(kind="real")
    parts = [Examples(part.inputs, torch.full_like(part.targets, 2.5)) for part in (data.train, data.test)]
    return Dataset(data.inputs, data.outputs, *parts)


def test_constant_targets_have_no_score_in_files_and_means(tmp_path):
    models = Population([base_model("a", constant_targets()), base_model("b", dataset(kind="real"), seed=1)])
    options = FitOptions(meta_model="gru:hidden_size=5", theta_dim=2, models_per_step=None, batch_size=8, steps=2)
    trainer = Trainer(models, options)
    trainer.run()
    fit = Fit.of(trainer)
    found = measure_fidelity(fit, models)
    assert math.isnan(found.models[0].base_score)
    assert math.isnan(found.models[0].emulator_score)
    assert found.models[0].hidden_r2 <= 1
    assert found.mean("base_score") == found.models[1].base_score
    fit.save(tmp_path)
    write_fidelity(found, tmp_path)
    assert (tmp_path / "fidelity.csv").read_text().splitlines()[1].endswith(",,")
    assert repr(read_fidelity(tmp_path)) == repr(found)


def dead(data, scale=0.0):
    base = base_model("dead", data, seed=9)
    with torch.no_grad():
        for parameter in base.model.rnn.parameters():
            parameter.mul_(scale)
    return base


def test_a_dead_model_has_no_hidden_loss_and_spoils_no_other_under_scale_hidden():
    data = dataset()
    living = [base_model(f"m{n}", data, seed=n) for n in range(2)]
    options = FitOptions(
        meta_model="gru:hidden_size=6", theta_dim=2, models_per_step=None, batch_size=9, steps=3, scale_hidden=True
    )
    trainer = Trainer(Population([dead(data), *living]), options)
    assert trainer.scales[0] == [math.inf]
    rows = [torch.arange(3)] * 3
    hidden, output = trainer.losses([0, 1, 2], rows)
    assert hidden[0].item() == 0
    assert output[0].item() > 0
    assert hidden[1:].min() > 0
    trainer.run()
    found = measure_fidelity(Fit.of(trainer), trainer.population)
    assert math.isnan(found.models[0].hidden_r2)
    assert math.isfinite(found.mean("hidden_r2"))
    variances = state_variances(trainer.recordings[1].batch(torch.arange(12))[1])
    assert trainer.scales[1] == pytest.approx(variances)


def test_a_model_that_hardly_moves_does_not_drown_the_others_under_scale_hidden():
    data = dataset()
    living = [base_model(f"m{n}", data, seed=n) for n in range(3)]
    trainer = Trainer(Population([dead(data, 1e-3), dead_too(data), *living]), small(scale_hidden=True))
    own = [state_variances(source.batch(torch.arange(12))[1])[0] for source in trainer.recordings]
    assert own[0] < 1e-4 * min(own[2:])
    assert [scale for (scale,) in trainer.scales] == pytest.approx([0.01 * sorted(own[2:])[0], math.inf, *own[2:]])


def dead_too(data):
    return attrs.evolve(dead(data), name="dead-too")


def test_nan_on_test_data_alone_is_told_and_stops_nothing():
    models = population(2)
    data = models.dataset(models[0])
    test = Examples(Inputs(data.test.inputs.values.clone(), data.test.inputs.mask), data.test.targets)
    fit = Fit.of(Trainer(models, FitOptions(meta_model="gru:hidden_size=5", theta_dim=2, batch_size=4, steps=1)))
    test.inputs.values[3, 0] = float("nan")
    spoilt = [BaseModel(base.name, base.model, attrs.evolve(data, test=test)) for base in models]
    population_ = Population(spoilt)
    unchecked = {f"live {id(base.data)}": base.data for base in spoilt}
    population_._data._built.update(unchecked)  # past the check of their inputs
    found = measure_fidelity(fit, population_)
    assert all(model.is_broken and model.is_poor for model in found.models)
