"""Networks that were trained elsewhere: data without labels, all of which serves the meta-model."""

import attrs
import pytest
import torch

from dynamo import (
    Dataset,
    DynamoError,
    Examples,
    Fit,
    FitOptions,
    Inputs,
    InputSpace,
    OutputSpace,
    Trainer,
    analysis,
    measure_fidelity,
    record,
    testing,
    train_population,
)
from dynamo.analysis.networks.task import task_of
from dynamo.contracts.data import FEW, split_probes
from dynamo.fit.probes import draw_probes
from dynamo.population.base_model import BaseModel
from dynamo.population.population import Population
from dynamo.population.scores import score
from dynamo.population.stored_data import StoredData
from problems import base_model, dataset, sequences

OPTIONS = FitOptions(meta_model="gru:hidden_size=6", theta_dim=4, models_per_step=None, batch_size=12, steps=3)


TOY = OutputSpace("classes", 3, group="toy")


def probes(count=40, outputs=TOY, targets=None, **kwargs):
    return Dataset.of_probes(InputSpace("real", (2,)), sequences(count, 5, 2), outputs, targets, **kwargs)


def unlabelled(count=3, data=None):
    """GRUs of different widths on inputs without labels."""
    data, like = data or probes(), dataset()
    made = (base_model(f"m{n}", like, hidden=3 + n, seed=n) for n in range(count))
    return Population([attrs.evolve(base, data=data) for base in made])


def fitted(population):
    trainer = Trainer(population, OPTIONS)
    trainer.run()
    return Fit.of(trainer)


@pytest.mark.parametrize(("count", "held"), [(100, 20), (20, FEW), (10, 5), (3, 1), (2, 1)])
def test_every_probe_input_serves_or_is_held_out_and_none_does_both(count, held):
    kept, tested = split_probes(count)
    assert len(tested) == held
    assert sorted([*kept.tolist(), *tested.tolist()]) == list(range(count))
    again, other = split_probes(count)[1], split_probes(count, seed=1)[1]
    assert torch.equal(tested, again)
    assert count < 10 or not torch.equal(tested, other)


def test_all_training_inputs_train_the_meta_model():
    data = probes(50)
    assert data.probe_size == len(data.probes()) == len(data.train) == 40
    assert data.probes() is data.train.inputs
    (recording, *_) = record(unlabelled(1, data))
    assert torch.equal(recording.inputs.values, data.train.inputs.values)
    every = torch.cat([data.train.inputs.values, data.test.inputs.values])
    assert sorted(every[:, 0, 0].tolist()) == sorted(sequences(50, 5, 2).values[:, 0, 0].tolist())
    drawn = draw_probes(unlabelled(2, data), None)
    assert torch.equal(drawn.values, data.train.inputs.values[:, : drawn.values.shape[1]])


def test_targets_stay_with_their_inputs():
    inputs = sequences(30, 5, 2)
    data = Dataset.of_probes(InputSpace("real", (2,)), inputs, OutputSpace("real", 1), inputs.values[:, :1, 0])
    for part in (data.train, data.test):
        assert torch.equal(part.labels[:, 0], part.inputs.values[:, 0, 0])


def test_fidelity_without_labels_has_all_but_scores():
    targets = torch.arange(40) % 3
    with_labels, without = (unlabelled(data=probes(targets=given)) for given in (targets, None))
    fits = [fitted(with_labels), fitted(without)]
    assert torch.equal(fits[0].theta, fits[1].theta)
    one, other = (measure_fidelity(fit, models) for fit, models in zip(fits, (with_labels, without), strict=True))
    for name in ("hidden_r2", "output_divergence", "agreement"):
        assert one.mean(name) == other.mean(name)
    for name in ("base_score", "emulator_score"):
        assert 0 <= one.mean(name) <= 1
        assert str(other.mean(name)) == "nan"


def test_what_needs_labels_says_so_before_it_runs_a_model(monkeypatch):
    models = unlabelled()
    fit = fitted(models)
    monkeypatch.setattr(BaseModel, "model", property(lambda self: pytest.fail("a model was run")))
    for question in (
        lambda: analysis.few_labels(fit, models, 8, draws=2, folds=2),
        lambda: analysis.search(fit, models, budget=8),
        lambda: analysis.landscape(fit, models, size=2),
        lambda: analysis.average(fit, models, "all"),
        lambda: analysis.scores_at(fit, fit.theta.numpy(), models.dataset(models[0]).test),
    ):
        with pytest.raises(DynamoError, match="this needs labels; this population has none"):
            question()


def test_a_score_needs_labels():
    models = unlabelled()
    with pytest.raises(DynamoError, match="this needs labels"):
        score(models[0].model, probes().test)


def test_labelled_probes_are_the_examples_to_tune_on_and_may_have_been_seen():
    models = unlabelled(data=probes(targets=torch.arange(40) % 3))
    task = task_of(fitted(models), models)
    assert task.seen
    assert len(task.labelled) == 32
    result = analysis.few_labels(fitted(models), models, 12, draws=2, steps=2, folds=2, balanced=True)
    assert result.pool == 32


def test_no_base_model_is_trained_on_data_that_is_all_probes(monkeypatch, tmp_path):
    for data, message in (
        (probes(targets=torch.arange(40) % 3), "there is no half to train base models on"),
        (attrs.evolve(probes(), only_probes=False), "needs labels"),
        (attrs.evolve(dataset(), outputs=None, train=Examples(sequences(9, 5, 2)), test=Examples(sequences(9, 5, 2))),
         "needs a task"),
    ):  # fmt: skip
        monkeypatch.setattr("dynamo.training.train_population.make", lambda *_, data=data: data)
        with pytest.raises(DynamoError, match=rf"data set 'digits-rows'.*{message}"):
            train_population(tmp_path / "new", ["gru"], "digits-rows")
    assert not (tmp_path / "new").exists()


def test_one_data_set_without_a_task_serves_models_of_different_outputs():
    shared = probes(outputs=None)
    one, other = base_model("one", dataset()), base_model("other", dataset(classes=5, group="five"))
    models = Population([attrs.evolve(base, data=shared) for base in (one, other)])
    assert models.dataset(models[0]) is models.dataset(models[1])
    fit = fitted(models)
    assert [fit.model_at(name).outputs.size for name in ("one", "other")] == [3, 5]
    with pytest.raises(DynamoError, match="does not fit its data set"):
        Population([attrs.evolve(other, data=probes())]).dataset(attrs.evolve(other, data=probes()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probes(held_out=0), "above 0 and below 1, not 0"),
        (lambda: probes(1), "1 inputs are too few"),
        (lambda: probes(targets=torch.zeros(39)), "there are 40 inputs and 39 targets"),
        (lambda: probes(outputs=None, targets=torch.zeros(40)), "targets need an output space"),
        (lambda: probes().halves(), "no half to train base models on"),
        (lambda: probes(outputs=None).task, "needs a task"),
    ],
)
def test_what_cannot_be_probes_is_refused(call, message):
    with pytest.raises(DynamoError, match=message):
        call()


def test_fingerprints_tell_labels_and_roles_apart():
    data = dataset()
    variants = [data, attrs.evolve(data, only_probes=True), attrs.evolve(data, train=Examples(data.train.inputs))]
    assert len({one.fingerprint() for one in variants}) == 3


def test_the_contract_of_data_sets_holds_without_labels():
    testing.check_dataset(probes())
    testing.check_dataset(probes(outputs=None))
    testing.check_dataset(probes(targets=torch.arange(40) % 3))


@pytest.mark.parametrize("data", [probes(), probes(outputs=None), probes(targets=torch.arange(40) % 3), dataset()])
def test_a_live_data_set_is_saved_with_the_population(data, tmp_path):
    models = unlabelled(data=data)
    models.save(tmp_path / "saved")
    assert [path.name for path in tmp_path.rglob("data*")] == ["data.safetensors"]
    again = Population.load(tmp_path / "saved")
    there = again.dataset(again[0])
    assert there.fingerprint() == data.fingerprint()
    assert (there.outputs, there.tokens, there.only_probes) == (data.outputs, data.tokens, data.only_probes)
    assert again.data_fingerprints == models.data_fingerprints
    assert torch.equal(fitted(again).theta, fitted(models).theta)
    again.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "data.safetensors").read_bytes() == (
        tmp_path / "saved" / "data.safetensors"
    ).read_bytes()


def test_several_data_sets_are_saved_each_once(tmp_path):
    one, other = probes(seed=1), probes(seed=2)
    bases = unlabelled(4)
    models = Population(
        [attrs.evolve(base, data=data) for base, data in zip(bases, (one, other, one, other), strict=True)]
    )
    models.save(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("data*")) == ["data-2.safetensors", "data.safetensors"]
    again = Population.load(tmp_path)
    assert [again.dataset(base).fingerprint() for base in again] == [
        data.fingerprint() for data in (one, other, one, other)
    ]


def test_a_saved_data_set_that_was_changed_is_refused(tmp_path):
    unlabelled().save(tmp_path)
    path = tmp_path / "data.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    again = Population.load(tmp_path)
    with pytest.raises(DynamoError, match=r"data\.safetensors is not the file that was saved"):
        again.dataset(again[0])


def test_the_data_of_a_population_must_lie_in_its_folder(tmp_path):
    unlabelled().save(tmp_path / "saved")
    path = tmp_path / "saved" / "population.toml"
    text = "".join(line for line in path.read_text().splitlines(True) if not line.startswith("digest"))
    path.write_text(text.replace('"data.safetensors"', '"../data.safetensors"'))
    with pytest.raises(DynamoError, match=r"the data '\.\./data\.safetensors' must lie inside"):
        Population.load(tmp_path / "saved")


def test_a_file_of_other_tensors_is_no_data_set(tmp_path):
    from dynamo.contracts.files import sha256
    from dynamo.system.storage import tensors_to_bytes

    path = tmp_path / "data.safetensors"
    for tensors in (
        {"x": torch.zeros(2)},
        {"rest": torch.tensor([1.5])},
        {"rest": torch.frombuffer(bytearray(b"[]"), dtype=torch.uint8)},
    ):
        content = tensors_to_bytes(tensors)
        path.write_bytes(content)
        with pytest.raises(DynamoError, match="holds no data set"):
            StoredData(path, sha256(content)).read()


def test_examples_without_targets_are_cut_like_others():
    part = Examples(Inputs(torch.zeros(4, 2, 3), torch.ones(4, 2, dtype=torch.bool)))
    assert len(part[:3]) == 3
    assert part[:3].targets is None
