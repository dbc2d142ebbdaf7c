"""Algorithm 1, its multi-model form, resume, and faults."""

import os
import signal
from itertools import combinations

import attrs
import pytest
import torch
from torch import nn

from dynamo import (
    Augmentation,
    BaseModel,
    Dataset,
    DynamicalModel,
    DynamoError,
    FitOptions,
    Population,
    Trainer,
)
from dynamo.contracts.errors import Interrupted
from dynamo.contracts.trajectory import Trajectory
from dynamo.population.recording import Recording, live, state_variances
from dynamo.training.optimisation import cosine_7_32
from dynamo.training.options import choose
from problems import base_model, dataset, population

SMALL = FitOptions(
    meta_model="gru:hidden_size=6,embedding_size=3",
    theta_dim=3,
    models_per_step=2,
    batch_size=8,
    steps=6,
    learning_rate=0.01,
)


def small(**changes) -> FitOptions:
    return attrs.evolve(SMALL, **changes)


def gradients(trainer: Trainer, chosen: list[int], rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    hidden, output = trainer.losses(chosen, rows)
    trainer.emulator.zero_grad()
    trainer.loss(hidden, output).backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in trainer.emulator.named_parameters()
    }


def in_float64(trainer: Trainer) -> Trainer:
    trainer.emulator.double()
    trainer._recordings = [
        Recording(
            type(recording.inputs)(recording.inputs.values.double(), recording.inputs.mask),
            Trajectory(
                tuple(state.double() for state in recording.trajectory.states),
                recording.trajectory.outputs.double(),
                recording.trajectory.mask,
            ),
        )
        for recording in trainer.recordings
    ]
    return trainer


def test_defaults_are_table_1():
    options = FitOptions()
    assert (options.learning_rate, options.beta1, options.beta2, options.epsilon) == (1e-3, 0.9, 0.999, 1e-8)
    assert (options.weight_decay, options.epochs, options.batch_size) == (1e-4, 100, 128)
    assert (options.theta_dim, options.output_weight, options.models_per_step) == (16, 1.0, 1)
    trainer = Trainer(population(), FitOptions(epochs=1))
    assert trainer.emulator.meta_model.state_shapes == ((512,),)
    assert trainer.steps == 1  # 3 models with 12 examples each fill less than one batch of 128


def test_epochs_count_passes_over_every_models_data():
    # 3 models with 12 unlabelled examples each, 4 examples a step: one pass over all takes 9 steps.
    assert Trainer(population(), small(steps=None, epochs=1, models_per_step=1, batch_size=4)).steps == 9


def test_thetas_start_at_zero():
    trainer = Trainer(population(), SMALL)
    assert all(torch.equal(theta, torch.zeros(3)) for theta in trainer.emulator.thetas)


def test_cosine_schedule():
    assert cosine_7_32(0, 10) == 1
    assert cosine_7_32(10, 10) == pytest.approx(0.19509, abs=1e-5)
    trainer = Trainer(population(), SMALL)
    trainer.run()
    rates = [row[1] for row in trainer.history]
    assert rates == pytest.approx([0.01 * cosine_7_32(step, 6) for step in range(6)])


@pytest.mark.parametrize("scale_hidden", [False, True])
def test_gradient_of_the_whole_objective_against_finite_differences(scale_hidden):
    trainer = in_float64(Trainer(population(), small(scale_hidden=scale_hidden, output_weight=0.7)))
    with torch.no_grad():
        for theta in trainer.emulator.thetas:
            theta.normal_()
    chosen, rows = [2, 0], [torch.tensor([1, 5]), torch.tensor([0, 7, 3])]
    found = gradients(trainer, chosen, rows)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in trainer.emulator.named_parameters():
            direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            values = []
            for sign in (1, -1):
                parameter += sign * 1e-6 * direction
                values.append(trainer.loss(*trainer.losses(chosen, rows)).item())
                parameter -= sign * 1e-6 * direction
            slope = (values[0] - values[1]) / 2e-6
            assert float((found[name] * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize("part", ["states", "outputs"])
def test_a_fit_in_double_precision_has_double_targets(part):
    """What single precision would round away changes the losses."""
    trainer = in_float64(Trainer(population(), SMALL))
    chosen, rows = [0, 1], [torch.tensor([1, 5]), torch.tensor([0, 7])]
    before = torch.stack(trainer.losses(chosen, rows))
    for recording in trainer.recordings:
        target = recording.trajectory.states[0] if part == "states" else recording.trajectory.outputs
        target.mul_(1 + 1e-10)
    change = (torch.stack(trainer.losses(chosen, rows)) - before).abs()[int(part == "outputs")]
    assert bool((change > 0).all())
    assert bool((change < 1e-8).all())


class Double(DynamicalModel):
    """A model whose states and outputs are in double precision, of the same values."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        for name in ("inputs", "outputs", "state_shapes"):
            setattr(self, name, getattr(model, name))

    def trajectory(self, inputs):
        found = self.model.trajectory(inputs)
        return Trajectory(tuple(state.double() for state in found.states), found.outputs.double(), found.mask)


@pytest.mark.parametrize("recording", ["memory", "device", "disk", "live"])
@pytest.mark.parametrize("doubled", [{0, 1, 2}, {0}])
def test_base_models_in_double_precision_are_fitted_in_single(recording, doubled, tmp_path):
    models = list(population())
    mixed = [
        attrs.evolve(base, model=Double(base.model)) if number in doubled else base
        for number, base in enumerate(models)
    ]
    histories = []
    for bases in (models, mixed):
        trainer = Trainer(Population(bases), small(recording=recording))
        if recording == "disk":
            trainer.record(tmp_path / str(len(histories)))
        trainer.run()
        histories.append(trainer.history)
    assert histories[0] == histories[1]


def test_only_the_chosen_models_thetas_and_maps_have_gradients():
    trainer = Trainer(population(), SMALL)
    found = gradients(trainer, [1], [torch.arange(4)])
    for name, gradient in found.items():
        if name.startswith(("thetas.", "state_maps.")):
            assert bool(gradient.any()) == (name.split(".")[1] == "1"), name


def test_algorithm_1_and_the_multi_model_form_have_the_same_expected_gradient():
    """The mean over all single models, and over all pairs, of the gradient on the same data: both are equation 4's."""
    trainer = in_float64(Trainer(population(), SMALL))
    rows = [torch.tensor([0, 3, 4]), torch.tensor([2, 2, 9]), torch.tensor([1, 5, 8])]
    singles = [gradients(trainer, [n], [rows[n]]) for n in range(3)]
    pairs = [gradients(trainer, list(pair), [rows[n] for n in pair]) for pair in combinations(range(3), 2)]
    everyone = gradients(trainer, [0, 1, 2], rows)
    for name in everyone:
        mean_single = torch.stack([found[name] for found in singles]).mean(0)
        mean_pair = torch.stack([found[name] for found in pairs]).mean(0)
        torch.testing.assert_close(mean_single, everyone[name])
        torch.testing.assert_close(mean_pair, everyone[name])


def test_models_are_drawn_uniformly_and_without_repeats():
    trainer = Trainer(population(), SMALL)
    counts = torch.zeros(3)
    for step in range(1500):
        chosen, rows = trainer.draw(step)
        assert len(set(chosen)) == 2
        assert all(len(row) == 4 and int(row.min()) >= 0 and int(row.max()) < 12 for row in rows)
        counts[chosen] += 1
    # Each is drawn with probability 2/3 a step: 1000 ± 18 (one standard deviation).
    assert float((counts - 1000).abs().max()) < 75


def test_a_model_that_was_not_drawn_is_left_alone():
    trainer = Trainer(population(), small(models_per_step=1, steps=1, weight_decay=0.5))
    chosen, _ = trainer.draw(0)
    before = {name: tensor.clone() for name, tensor in trainer.emulator.state_dict().items()}
    trainer.run()
    for name, tensor in trainer.emulator.state_dict().items():
        own = name.startswith(("thetas.", "state_maps."))
        if own and name.split(".")[1] != str(chosen[0]):
            assert torch.equal(tensor, before[name]), name
        elif own:
            assert not torch.equal(tensor, before[name]), name


def test_base_models_are_bit_identical_after_a_fit():
    models = population()
    before = [{key: tensor.clone() for key, tensor in base.model.state_dict().items()} for base in models]
    Trainer(models, SMALL).run()
    for base, states in zip(models, before, strict=True):
        assert all(torch.equal(tensor, states[key]) for key, tensor in base.model.state_dict().items())


def test_thetas_have_their_own_learning_rate():
    slow = Trainer(population(), small(steps=1))
    fast = Trainer(population(), small(steps=1, theta_learning_rate=0.05))
    slow.run()
    fast.run()
    # AdamW's first step moves every entry by its learning rate.
    chosen = slow.draw(0)[0][0]
    torch.testing.assert_close(slow.emulator.thetas[chosen].abs(), torch.full((3,), 0.01), rtol=1e-3, atol=0)
    torch.testing.assert_close(fast.emulator.thetas[chosen].abs(), torch.full((3,), 0.05), rtol=1e-3, atol=0)


def test_hidden_scale_is_the_variance_of_the_states():
    trainer = Trainer(population(), small(scale_hidden=True))
    trajectory = trainer.recordings[0].trajectory
    real = torch.cat([trajectory.states[0][b, : int(n)] for b, n in enumerate(trajectory.mask.sum(1))])
    assert trainer.scales[0] == [pytest.approx(float(real.var(0, unbiased=False).sum()), rel=1e-5)]
    assert state_variances(trajectory) == trainer.scales[0]
    assert Trainer(population(), SMALL).scales == [None, None, None]


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not():
    runs = [Trainer(population(), small(seed=seed)) for seed in (3, 3, 4)]
    for run in runs:
        run.run()
    first, second, third = (torch.stack(list(run.emulator.thetas)) for run in runs)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, optimizer):
    whole = Trainer(population(), small(optimizer=optimizer))
    whole.run()
    assert not whole.emulator.training
    half = Trainer(population(), small(checkpoint_every=3, optimizer=optimizer))

    class Stop(Exception):
        pass

    def stop(step, steps, loss):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        half.run(tmp_path / "checkpoint.pt", stop)
    again = Trainer(population(), small(checkpoint_every=3, optimizer=optimizer))
    again.resume(tmp_path / "checkpoint.pt")
    assert again.step == 3
    again.run()
    assert again.history == whole.history
    for name, tensor in whole.emulator.state_dict().items():
        assert torch.equal(tensor, again.emulator.state_dict()[name]), name


def test_ctrl_c_leaves_a_checkpoint_and_the_old_handler(tmp_path):
    trainer = Trainer(population(), SMALL)
    before = signal.getsignal(signal.SIGINT)

    def interrupt(step, steps, loss):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"stopped at step 2 of 6; saved in .*checkpoint\.pt"):
        trainer.run(tmp_path / "checkpoint.pt", interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    resumed = Trainer(population(), SMALL)
    resumed.resume(tmp_path / "checkpoint.pt")
    assert resumed.step == 2


def test_a_checkpoint_of_another_population_or_options_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    Trainer(population(), SMALL).save(path)
    other = Population([base_model(f"m{n}", dataset(), hidden=3 + n, seed=n + 7) for n in range(3)])
    with pytest.raises(DynamoError, match="another population"):
        Trainer(other, SMALL).resume(path)
    with pytest.raises(DynamoError, match=r"other options \(output_weight\)"):
        Trainer(population(), small(output_weight=0.0)).resume(path)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    Trainer(population(), SMALL).save(path)
    content = path.read_bytes()
    for damaged in (content[:-10], content[:100] + bytes([content[100] ^ 1]) + content[101:], b""):
        path.write_bytes(damaged)
        with pytest.raises(DynamoError, match="no whole checkpoint"):
            Trainer(population(), SMALL).resume(path)


@pytest.mark.parametrize(("part", "kind"), [("states", "hidden"), ("outputs", "output")])
def test_a_loss_that_is_not_finite_names_step_model_and_loss(part, kind):
    trainer = Trainer(population(), small(models_per_step=3, batch_size=9))
    trajectory = trainer.recordings[1].trajectory
    (trajectory.states[0] if part == "states" else trajectory.outputs)[:] = float("nan")
    with pytest.raises(DynamoError, match=rf"the {kind} loss of model 'm1' is nan at step 1"):
        trainer.run()


def test_one_model_alone_is_allowed():
    trainer = Trainer(population(1), SMALL)
    trainer.run()
    assert trainer.history[-1][2] < trainer.history[0][2]


def test_heads_by_output_space_by_label_and_shared():
    three, two = dataset(classes=3, group="a"), dataset(classes=2, group="b")
    real = dataset(classes=4, group="c", kind="real")
    models = Population([base_model(name, data, task=name) for name, data in (("a", three), ("b", two), ("c", real))])
    trainer = Trainer(models, SMALL)
    assert [head.outputs.size for head in trainer.emulator.heads] == [3, 2, 4]
    trainer.run()
    assert all(trainer.emulator.thetas[n].abs().sum() > 0 for n in range(3))
    with pytest.raises(DynamoError, match="outputs that differ"):
        Trainer(models, small(head_by="all"))
    same = Population([base_model(f"m{n}", dataset(group=f"g{n}"), site=n % 2) for n in range(4)])
    assert len(Trainer(same, SMALL).emulator.heads) == 4
    assert len(Trainer(same, small(head_by="all")).emulator.heads) == 1
    assert len(Trainer(same, small(head_by="site")).emulator.heads) == 2
    with pytest.raises(DynamoError, match="head_by names the metadata 'sit'"):
        Trainer(same, small(head_by="sit"))


def test_data_sets_of_different_lengths_share_a_batch():
    """One step and five: recordings are padded to the longest of the batch, and the padding does not count."""
    lengths = {"one": dataset(steps=1), "five": dataset(steps=5)}
    models = Population([base_model(name, data) for name, data in lengths.items()])
    trainer = Trainer(models, SMALL)
    rows = [torch.arange(4)] * 2
    together = trainer.losses([0, 1], rows)
    for number in range(2):
        alone = trainer.losses([number], rows[:1])
        for part, wanted in zip(together, alone, strict=True):
            torch.testing.assert_close(part[number], wanted[0])


def test_divergences_per_model_and_per_group():
    assert choose("l2; a=l1:reduction=mean; m3=huber", ["m1", "a"]) == "l1:reduction=mean"
    assert choose("l2; a=l1; m3=huber", ["m3", "a"]) == "huber"
    assert choose("l2:squared=false", ["m3", "a"]) == "l2:squared=false"
    assert choose("a=l1", ["b"]) is None
    plain, mixed = Trainer(population(), SMALL), Trainer(population(), small(hidden_divergence="l2; m1=l1"))
    rows = [torch.arange(4)] * 3
    before, after = (trainer.losses([0, 1, 2], rows)[0] for trainer in (plain, mixed))
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert not torch.equal(before[1], after[1])


def test_models_of_several_kinds_have_the_losses_that_they_have_alone():
    """Widths, heads and divergences in turn, in any order: the batch is sorted by them, the losses are not."""
    data = {group: dataset(group=group) for group in "ab"}
    models = Population([base_model(f"m{n}", data["ab"[n % 2]], hidden=3 + n % 3, seed=n) for n in range(6)])
    trainer = in_float64(Trainer(models, small(hidden_divergence="l2; m4=l1", scale_hidden=True)))
    chosen, rows = [4, 1, 5, 0, 3], [torch.arange(2 + n) for n in range(5)]
    together = trainer.losses(chosen, rows)
    for place, (number, row) in enumerate(zip(chosen, rows, strict=True)):
        for part, (alone,) in zip(together, trainer.losses([number], [row]), strict=True):
            torch.testing.assert_close(part[place], alone)


def test_the_fused_optimiser_makes_the_steps_of_its_plain_form():
    fits = []
    for plain in (False, True):
        trainer = Trainer(population(), SMALL)
        assert all(group["fused"] for group in trainer._annealed.optimizer.param_groups)
        if plain:
            for group in trainer._annealed.optimizer.param_groups:
                group.update(fused=False, foreach=False)
        trainer.run()
        fits.append(trainer.emulator.state_dict())
    for key, tensor in fits[0].items():
        torch.testing.assert_close(tensor, fits[1][key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta_model": "gur"}, "no meta-model is called 'gur': did you mean 'gru'"),
        ({"meta_model": "gru:hiden_size=3"}, "has no option 'hiden_size': did you mean 'hidden_size'"),
        ({"hidden_divergence": "kl"}, "compares logits; it cannot compare the states"),
        ({"batch_size": 1}, "cannot serve 2 models"),
        ({"device": "nowhere"}, "device 'nowhere' cannot be used"),
        ({"state_map": "identity"}, "identity"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_any_work(changes, message):
    with pytest.raises(DynamoError, match=message):
        Trainer(population(), small(**changes))


def test_bfloat16_autocast_comes_close_to_float32():
    full, half = Trainer(population(), SMALL), Trainer(population(), small(precision="bfloat16"))
    rows = [torch.arange(4)] * 2
    for a, b in zip(full.losses([0, 1], rows), half.losses([0, 1], rows), strict=True):
        for x, y in zip(a, b, strict=True):
            assert y.dtype == torch.float32
            assert y.item() == pytest.approx(x.item(), rel=0.03)


def test_live_models_train_as_recordings_do(tmp_path):
    """Memory, disk and live give one fit; only augmentation asks for live."""
    fits = []
    for kind in ("memory", "disk", "live"):
        trainer = Trainer(population(), small(recording=kind))
        trainer.record(tmp_path)
        trainer.run()
        fits.append(torch.stack(list(trainer.emulator.thetas)))
    torch.testing.assert_close(fits[0], fits[1], rtol=0, atol=0)
    torch.testing.assert_close(fits[0], fits[2], rtol=1e-4, atol=1e-5)
    with pytest.raises(DynamoError, match="recordings on disk need a folder"):
        Trainer(population(), small(recording="disk")).run()
    with pytest.raises(DynamoError, match="set recording to live"):
        small(augmentation="weak")


def test_an_augmented_fit_is_resumed_bit_for_bit(tmp_path):
    class Jitter(Augmentation):
        def __init__(self, inputs):
            self.inputs = inputs

        def __call__(self, values):
            return values + 0.1 * torch.randn_like(values)

    def trainer():
        models = population()
        return Trainer(models, small(checkpoint_every=3), live(models, torch.device("cpu"), Jitter(models.inputs)))

    def stop(step, steps, loss):
        if step == 4:
            raise KeyboardInterrupt

    whole, half, rest = trainer(), trainer(), trainer()
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        half.run(tmp_path / "checkpoint.pt", stop)
    rest.resume(tmp_path / "checkpoint.pt")
    assert rest.step == 3
    rest.run()
    assert torch.equal(torch.stack(list(whole.emulator.thetas)), torch.stack(list(rest.emulator.thetas)))
    plain = Trainer(population(), small())
    plain.run()
    assert not torch.equal(torch.stack(list(plain.emulator.thetas)), torch.stack(list(whole.emulator.thetas)))


def test_block_outputs_compare_states_as_they_are():
    """Equation 5: the states without V_n are outputs too; they need equal shapes."""
    data = dataset()
    models = Population([base_model(f"m{n}", data, hidden=6, seed=n) for n in range(2)])
    trainer = Trainer(models, small(block_outputs=True))
    plain = Trainer(models, small())
    chosen, rows = trainer.draw(0)
    (_, found), (_, answers) = trainer.losses(chosen, rows), plain.losses(chosen, rows)
    for place, (number, row) in enumerate(zip(chosen, rows, strict=True)):
        inputs, base = trainer.recordings[number].batch(row)
        theta = trainer.emulator.thetas[number].expand(len(row), -1)
        (meta,) = trainer.emulator.meta_model.states(inputs, theta)
        steps = base.mask.sum(1)
        errors = ((meta - base.states[0]) ** 2).sum(2).masked_fill(~base.mask, 0).sum(1) / steps
        torch.testing.assert_close(found[place], (errors.mean() + answers[place]) / 2)
    with pytest.raises(DynamoError, match="block_outputs compares states as they are"):
        Trainer(population(), small(block_outputs=True))


def test_the_output_loss_may_count_the_readout_step_alone():
    """Of models that answer at the end; those that answer at every step are as before."""
    base = base_model("m", dataset(), hidden=6)
    base.model.outputs = attrs.evolve(base.outputs, readout="every")
    data = Dataset.of_probes(base.inputs, dataset().train.inputs)
    models = [Population([BaseModel("m", base.model, data)]), Population([base_model("m", dataset(), hidden=6)])]
    for own, matters in zip(models, (False, True), strict=True):
        plain, last = (Trainer(own, small(models_per_step=1, output_steps=steps)) for steps in ("all", "readout"))
        chosen, rows = plain.draw(0)
        (hidden, output), (same_hidden, found) = plain.losses(chosen, rows), last.losses(chosen, rows)
        torch.testing.assert_close(hidden, same_hidden)
        inputs, done = plain.recordings[0].batch(rows[0])
        theta = plain.emulator.thetas[0].expand(len(inputs), -1)
        features = plain.emulator.meta_model.features(plain.emulator.meta_model.states(inputs, theta))
        distance = plain.plan.output[0](plain.emulator.head_of(0)(features), done.outputs)
        ends = done.mask.sum(1) - 1
        wanted = distance[torch.arange(len(ends)), ends].mean() if matters else output[0]
        torch.testing.assert_close(found[0], wanted)
        assert (abs((found - output).item()) > 1e-4) == matters


def test_wall_time_is_counted_and_goes_on_after_a_resume(tmp_path):
    trainer = Trainer(population(), small(checkpoint_every=3))
    trainer.run(tmp_path / "c.pt")
    assert 0 < trainer.seconds < 60
    again = Trainer(population(), small(checkpoint_every=3))
    again.resume(tmp_path / "c.pt")
    assert 0 < again.seconds <= trainer.seconds


class Broken(nn.Module):
    """Makes the outputs of a network NaN, whatever its weights are."""

    def forward(self, states):
        return states[..., :3] * float("nan")


@pytest.mark.parametrize("recording", ["memory", "live"])
def test_a_base_model_that_gives_nan_is_blamed_itself(recording):
    models = population()
    models[1].model.readout_layer = Broken()
    trainer = Trainer(models, small(recording=recording, models_per_step=3, batch_size=9))
    with pytest.raises(DynamoError, match=r"'m1'.*(gives NaN or infinite|are NaN or infinite).*leave it out") as told:
        trainer.run()
    assert "learning_rate" not in str(told.value)


def test_a_fit_that_diverges_is_told_to_slow_down():
    trainer = Trainer(population(), small(models_per_step=3, batch_size=9))
    with torch.no_grad():
        next(trainer.emulator.meta_model.parameters()).fill_(float("inf"))
    with pytest.raises(DynamoError, match="lower learning_rate"):
        trainer.run()
