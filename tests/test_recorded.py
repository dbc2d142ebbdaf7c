"""A recording in the place of a network: imitated, mapped and compared as the network itself, and never run."""

import tomllib

import attrs
import numpy as np
import pytest
import tomli_w
import torch

from dynamo import (
    BaseModel,
    Dataset,
    DynamoError,
    Fit,
    FitOptions,
    InputSpace,
    OutputSpace,
    Population,
    Trainer,
    Trajectory,
    embed,
    measure_fidelity,
    record,
)
from dynamo.analysis import average, compare, conjugacy, distance_matrix, transport
from dynamo.analysis.dynamics.base_view import BaseView
from dynamo.analysis.dynamics.state_space import model_and_data, state_space
from dynamo.analysis.networks.task import task_of
from dynamo.analysis.rivals.compare import common_recordings
from dynamo.contracts import at_readout
from dynamo.population.recorded import RecordedModel, Trajectories
from dynamo.population.recording import Recording, live, run
from problems import base_model, sequences

OPTIONS = FitOptions(
    meta_model="gru:hidden_size=6", theta_dim=3, models_per_step=None, batch_size=12, steps=4, output_weight=2.0
)


def networks(count=4, **kwargs):
    """GRUs of several widths on probe inputs of several lengths."""
    inputs = sequences(40, 7, 2, **kwargs)
    space = OutputSpace("real", 2, "every", "toy")
    data = Dataset.of_probes(InputSpace("real", (2,)), inputs, space)
    return Population([base_model(f"m{n}", data, hidden=3 + n, seed=n, group="ab"[n % 2]) for n in range(count)])


def recorded(models):
    """The same models as recordings of what they did."""
    made = []
    for base in models:
        data = models.dataset(base)
        both = Trajectories(run(base.model, data.probes()), run(base.model, data.test.inputs))
        made.append(BaseModel(base.name, RecordedModel(base.inputs, base.outputs, both), data, base.metadata))
    return Population(made)


def fitted(models, **options):
    trainer = Trainer(models, attrs.evolve(OPTIONS, **options))
    trainer.run()
    return Fit.of(trainer)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.fixture(scope="module")
def live_models():
    return networks()


@pytest.fixture(scope="module")
def stored(live_models, tmp_path_factory):
    """Recordings, written to a folder and read back."""
    folder = tmp_path_factory.mktemp("stored") / "population"
    recorded(live_models).save(folder)
    return Population.load(folder)


@pytest.mark.parametrize("options", [{}, {"scale_hidden": True}, {"recording_precision": "float16"}])
def test_a_recording_gives_the_fit_of_the_network_itself_to_the_bit(live_models, stored, options):
    wanted = fitted(live_models, **options)
    for models in (recorded(live_models), stored):
        found = fitted(models, **options)
        assert same(found.emulator, wanted.emulator)
        assert found.history == wanted.history
        assert np.array_equal(found.distances().matrix, wanted.distances().matrix)
        assert repr(measure_fidelity(found, models)) == repr(measure_fidelity(wanted, live_models))  # NaN is not NaN


def test_recordings_that_are_read_on_every_batch_or_from_the_disk_give_the_same_fit(stored, tmp_path):
    wanted = fitted(stored)
    assert same(fitted(stored, recording="live").emulator, wanted.emulator)
    trainer = Trainer(stored, attrs.evolve(OPTIONS, recording="disk"))
    trainer.record(tmp_path / "recordings")
    trainer.run()
    assert same(trainer.emulator, wanted.emulator)


def test_rivals_see_the_same_and_embedding_finds_the_same_places(live_models, stored):
    for one, other in zip(common_recordings(stored, 11), common_recordings(live_models, 11), strict=True):
        assert torch.equal(one.inputs.values, other.inputs.values)
        torch.testing.assert_close(one.trajectory.states[0], other.trajectory.states[0])
        torch.testing.assert_close(one.trajectory.outputs, other.trajectory.outputs)
    fit = fitted(live_models)
    fidelity = measure_fidelity(fit, live_models)
    assert torch.equal(*(embed(fit, models, fidelity).theta for models in (recorded(live_models), stored)))
    torch.testing.assert_close(embed(fit, stored, fidelity).theta, embed(fit, live_models, fidelity).theta)
    for table in (
        compare(fit, models, "group", methods=["cka", "procrustes"]).table() for models in (live_models, stored)
    ):
        assert [row[0] for row in table[1]] == ["dynamo", "cka", "procrustes"]
        assert all(cell is not None for row in table[1] for cell in row)


def test_what_was_written_is_read_back_and_only_when_it_is_asked_for(live_models, stored, monkeypatch):
    models = recorded(live_models)
    assert [base.fingerprint for base in stored] == [base.fingerprint for base in models]
    assert [base.metadata for base in stored] == [base.metadata for base in models]
    assert [base.state_shapes for base in stored] == [base.state_shapes for base in models]
    for one, other in zip(stored, models, strict=True):
        wanted = other.trajectories.tensors()
        found = one.trajectories.tensors()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    held = stored[0].trajectories
    assert stored[0].trajectories is held
    monkeypatch.setattr("dynamo.population.recorded.read_tensors", lambda *_: pytest.fail("it was read"))
    again = Population.load(stored.path)
    assert again.fingerprint == stored.fingerprint


def test_a_recording_is_not_run(live_models, stored):
    fit, refused = fitted(stored), r"model 'm0' is a recording: it cannot be run on new inputs"
    groups = fit.values_of("group")
    asked = [
        lambda: stored[0].model,
        lambda: conjugacy(fit, stored, groups),
        lambda: transport(fit, stored, groups),
        lambda: BaseView.of(fit, stored),
        lambda: model_and_data(fit, stored, "m0", base=True),
        lambda: average(fit, stored, "all"),
        lambda: live(stored, torch.device("cpu"), lambda values: values),
    ]
    for ask in asked:
        with pytest.raises(DynamoError, match=refused):
            ask()
    with pytest.raises(DynamoError, match="is a network, and no recording"):
        _ = live_models[0].trajectories
    model, data = model_and_data(fit, stored, "m0")
    assert len(state_space(model, data.test.inputs, starts=8, slow_tolerance=1e9).points) > 0


def test_labels_do_not_let_a_recording_be_run(live_models):
    data = live_models.dataset(live_models[0])
    labelled = attrs.evolve(
        data,
        only_probes=False,
        train=attrs.evolve(data.train, targets=torch.zeros(*data.train.inputs.mask.shape, 2)),
        test=attrs.evolve(data.test, targets=torch.zeros(*data.test.inputs.mask.shape, 2)),
    )
    networks = Population([attrs.evolve(base, data=labelled) for base in live_models])
    model = recorded(networks)
    with pytest.raises(DynamoError, match="model 'm0' is a recording"):
        task_of(fitted(networks), model)


# Steps that were not observed. ----------------------------------------------------------------------------------------


def with_holes(models, seed=5):
    """The recordings with some steps not observed."""
    generator, made = torch.Generator().manual_seed(seed), []
    for base in models:
        runs = []
        for part in (base.trajectories.probe, base.trajectories.held_out):
            seen = part.mask & (torch.rand(part.mask.shape, generator=generator) < 0.6)
            seen[:, 0] |= ~seen.any(1)
            zeros = [torch.where(seen[..., None], tensor, 0) for tensor in (*part.states, part.outputs)]
            runs.append(Trajectory(tuple(zeros[:-1]), zeros[-1], seen))
        model = RecordedModel(base.inputs, base.outputs, Trajectories(*runs))
        made.append(BaseModel(base.name, model, base.data, base.metadata))
    return Population(made)


def test_the_last_observed_step_is_read_where_a_mask_has_holes():
    outputs = torch.arange(8.0).view(2, 4, 1)
    mask = torch.tensor([[True, False, True, False], [False, True, True, True]])
    assert at_readout(outputs, mask, "last").flatten().tolist() == [2.0, 7.0]


def test_unobserved_steps_reach_neither_loss_nor_fidelity(live_models):
    models = with_holes(recorded(live_models))
    fit = fitted(models)
    for number, (base, figures) in enumerate(zip(models, measure_fidelity(fit, models).models, strict=True)):
        truth, inputs = base.trajectories.held_out, models.dataset(base).test.inputs
        there = run(fit.model_at(base.name), inputs)
        guess = fit.emulator.maps_of(number)[0](there.states[0])[truth.mask].double()
        wanted = truth.states[0][truth.mask].double()
        r2 = 1 - (guess - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()
        assert figures.hidden_r2 == pytest.approx(float(r2), abs=1e-6)
        target, found = truth.outputs[truth.mask], there.outputs[truth.mask]
        agreement = 1 - (found - target).square().sum() / (target - target.mean(0)).square().sum()
        assert figures.agreement == pytest.approx(float(agreement), abs=1e-5)
    trainer = Trainer(models, OPTIONS)
    rows = [torch.arange(3)] * len(models)
    hidden, output = trainer.losses(range(len(models)), rows)
    source = trainer.recordings[1]
    inputs, truth = source.batch(rows[1])
    states = trainer.emulator.meta_model.states(inputs, torch.zeros(3, 3))[0]
    error = (trainer.emulator.maps_of(1)[0](states) - truth.states[0]).square().sum(-1)
    by_hand = torch.stack([own[seen].mean() for own, seen in zip(error, truth.mask, strict=True)]).mean()
    torch.testing.assert_close(hidden[1], by_hand)
    error = (trainer.emulator.head_of(1)(states) - truth.outputs).square().sum(-1)
    by_hand = torch.stack([own[seen].mean() for own, seen in zip(error, truth.mask, strict=True)]).mean()
    torch.testing.assert_close(output[1], by_hand)


def test_rivals_compare_what_was_observed_in_all_models():
    """What stands on steps that one of them lacks does not count."""
    random = np.random.default_rng(0)
    inputs = sequences(6, 5, 2)
    states = [torch.from_numpy(random.normal(size=(6, 5, 3))).float() for _ in range(2)]
    seen = [torch.from_numpy(random.random((6, 5)) < 0.7) & inputs.mask for _ in range(2)]

    def distance(name, states, seen):
        runs = [Trajectory((own,), own[..., :0], mask) for own, mask in zip(states, seen, strict=True)]
        return distance_matrix(name, [Recording(inputs, one) for one in runs])[0, 1]

    both = seen[0] & seen[1]
    changed = [torch.where(both[..., None], own, 99.0) for own in states]
    assert distance("cka", states, seen) == distance("cka", changed, seen) == distance("cka", states, [both, both])
    assert distance("cka", states, seen) != distance("cka", states, [inputs.mask, inputs.mask])


def test_dsa_does_not_step_over_a_gap():
    """A line that is followed exactly by a linear law has a jump where nothing was observed."""
    pytest.importorskip("DSA")
    powers = 0.8 ** torch.arange(12.0)
    inputs = sequences(1, 12, 1)
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[0, 5:8] = False
    gap = torch.where(mask[0, :], powers, 0.0).view(1, 12, 1)

    def recording(states, mask):
        return Recording(attrs.evolve(inputs, mask=torch.ones(1, 12, dtype=torch.bool)),
                         Trajectory((states,), states[..., :0], mask))  # fmt: skip

    whole = recording(powers.view(1, 12, 1), torch.ones(1, 12, dtype=torch.bool))
    assert distance_matrix("dsa", [whole, recording(gap, mask)])[0, 1] == pytest.approx(0, abs=1e-5)


def test_models_on_data_of_their_own_are_compared_by_how_they_move_alone(live_models):
    pytest.importorskip("DSA")
    others = networks(seed=3)
    models = recorded(Population([*live_models[:2], *(attrs.evolve(b, name=f"{b.name}b") for b in others[:2])]))
    fit = fitted(models)
    found = compare(fit, models, "group", methods=["cka", "dsa"])
    assert "made on different inputs" in found.methods[1].reason
    assert found.methods[2].distances is not None


def test_models_without_outputs_are_told(live_models):
    runs = [base.trajectories for base in recorded(live_models)]
    space = OutputSpace("none", 0, "every", "toy")
    data = attrs.evolve(live_models.dataset(live_models[0]), outputs=None)
    without = [
        Trajectories(*(attrs.evolve(part, outputs=part.outputs[..., :0]) for part in (one.probe, one.held_out)))
        for one in runs
    ]
    models = Population(
        [BaseModel(b.name, RecordedModel(b.inputs, space, own), data, b.metadata)
         for b, own in zip(live_models, without, strict=True)]
    )  # fmt: skip
    fit = fitted(models, output_weight=0.0, optimizer="muon")
    assert np.isfinite(fit.distances().matrix).all()
    measured = measure_fidelity(fit, models)
    assert all(np.isnan(one.agreement) and not one.is_broken for one in measured.models)
    assert (
        "have no outputs to compare" in compare(fit, models, "group", methods=["output-disagreement"]).methods[1].reason
    )
    again = fitted(models, output_weight=7.0, optimizer="muon")
    assert same(again.emulator, fit.emulator)  # no outputs, no output loss


# Files. ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(live_models, tmp_path):
    recorded(live_models).save(tmp_path / "population")
    return tmp_path / "population"


def edit(folder, change):
    table = tomllib.loads((folder / "population.toml").read_text())
    change(table["models"])
    del table["digest"]
    (folder / "population.toml").write_text(tomli_w.dumps(table))


def test_a_recording_that_was_changed_is_refused_when_it_is_read(folder):
    path = folder / "recordings" / "m1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DynamoError, match="not the file that was saved"):
        record(Population.load(folder))


def test_damaged_recordings_are_named(folder):
    path = folder / "recordings" / "m1.safetensors"
    whole = path.read_bytes()
    for content, message in ((whole[: len(whole) // 2], "no readable tensors"), (None, "cannot read .*m1")):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(DynamoError, match=message):
            Population.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("probe.mask"), r"it lacks 'probe.mask'"),
        (lambda t: t.update(extra=torch.zeros(1)), "unknown tensor 'extra'"),
        (lambda t: t.update({"probe.states.0": t["probe.states.0"][:, :3]}), r"probe.states.0 is float32"),
        (lambda t: t.update({"held_out.outputs": t["held_out.outputs"][..., :1]}), "held_out.outputs is float32"),
        (lambda t: t.update({"probe.mask": t["probe.mask"].long()}), "must be bool"),
        (lambda t: t.update({"probe.states.0": t["probe.states.0"].long()}), "must be real numbers"),
        (lambda t: t["probe.states.0"].fill_(float("nan")), "has NaN or infinite values in its recording"),
        (lambda t: t["held_out.mask"][1].fill_(False), r"example 1 \(held_out\) has no observed step"),
        (
            lambda t: [t.update({n: t[n][:-1]}) for n in list(t) if n.startswith("held")],
            "recorded on 7 held-out inputs",
        ),
    ],
)
def test_recordings_that_hold_something_else_are_told(folder, change, message):
    from dynamo.contracts.files import sha256
    from dynamo.system.storage import read_tensors, tensors_to_bytes

    path = folder / "recordings" / "m0.safetensors"
    tensors = read_tensors(path)
    change(tensors)
    path.write_bytes(tensors_to_bytes(tensors))
    edit(folder, lambda models: models[0]["recording"].update(sha256=sha256(path.read_bytes())))
    with pytest.raises(DynamoError, match=f"m0.*{message}"):
        record(Population.load(folder))


@pytest.mark.parametrize("name", ["../m0.safetensors", "/etc/passwd", "recordings/../../x"])
def test_a_recording_outside_the_folder_is_refused(folder, name):
    edit(folder, lambda models: models[0]["recording"].update(file=name))
    with pytest.raises(DynamoError, match="must lie inside the population's folder"):
        Population.load(folder)


def test_an_entry_without_file_or_checksum_is_refused(folder):
    edit(folder, lambda models: models[0].update(recording="recordings/m0.safetensors"))
    with pytest.raises(DynamoError, match="must be a table with 'file' and 'sha256'"):
        Population.load(folder)


def test_recordings_stand_beside_networks(live_models, tmp_path):
    """One data set, one map; saved together."""
    data = live_models.dataset(live_models[0])
    half = Population([live_models[0], *recorded(live_models)[1:]])
    assert same(fitted(half).emulator, fitted(live_models).emulator)
    half.save(tmp_path / "half")
    again = Population.load(tmp_path / "half")
    assert [base.is_recording for base in again] == [False, True, True, True]
    assert again.fingerprint == half.fingerprint
    assert len({id(again.dataset(base)) for base in again}) == 1
    assert again.dataset(again[0]).fingerprint() == data.fingerprint()


def test_a_space_without_outputs_has_no_size():
    assert str(OutputSpace("none", 0)) == "no outputs"
    with pytest.raises(DynamoError, match="of kind 'none' has the size 0, not 2"):
        OutputSpace("none", 2)
    assert OutputSpace.of(OutputSpace("none", 0).table()) == OutputSpace("none", 0)
