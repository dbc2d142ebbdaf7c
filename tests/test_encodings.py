"""Populations whose base models read the same raw examples in different encodings."""

import attrs
import numpy as np
import pytest
import torch

import problems
from command_line import dynamo
from dynamo import (
    BaseModel,
    Dataset,
    Encoding,
    Examples,
    FitOptions,
    Inputs,
    InputSpace,
    OutputSpace,
    Population,
    Ranks,
    Reencoded,
    Spec,
    Trainer,
    component,
    encode_texts,
    fit_population,
    measure_fidelity,
    preset,
    train_population,
    wrap,
)
from dynamo.contracts import DynamicalModel, InvalidValueError, Trajectory, collate, match_steps
from dynamo.contracts.errors import DynamoError
from dynamo.population.recording import record
from dynamo.training.base_models import BaseTrainingOptions

REAL = InputSpace("real", (2,))
FINE = InputSpace("real", (1,))
SUM = OutputSpace("real", 2, group="sum")


def real(*lengths: int) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def split(inputs: Inputs) -> Encoding:
    """Every step of two numbers as two steps of one: the clocks meet at each second step."""
    values, mask = inputs.values.flatten(1)[..., None], inputs.mask.repeat_interleave(2, 1)
    steps = torch.where(inputs.mask, 2 * torch.arange(inputs.mask.shape[1]) + 1, -1)
    return Encoding(FINE, Inputs(values, mask), steps)


def joined(inputs: Inputs) -> Encoding:
    """Every two steps as one; the last one of an odd number stands alone, with zeros."""
    steps = inputs.mask.shape[1]
    values = torch.nn.functional.pad(inputs.values * inputs.mask[..., None], (0, 0, 0, steps % 2))
    lengths, times = inputs.mask.sum(1, keepdim=True), torch.arange(steps)
    meets = inputs.mask & ((times % 2 == 1) | (times == lengths - 1))
    mask = torch.arange(values.shape[1] // 2) < (lengths + 1) // 2
    clock = torch.where(meets, times // 2, -1)
    return Encoding(InputSpace("real", (4,)), Inputs(values.unflatten(1, (-1, 2)).flatten(2), mask), clock)


def backwards(steps: torch.Tensor) -> torch.Tensor:
    """The steps of the first example, which has no padding, in the opposite order."""
    return torch.cat([steps[:1].flip(1), steps[1:]])


def data(examples: int = 40) -> Dataset:
    """Sums of sequences of two numbers a step, which come in finer and in coarser steps too."""

    def part(seed: int) -> Examples:
        inputs = problems.sequences(examples, 6, 2, seed)
        inputs = Inputs(inputs.values * inputs.mask[..., None], inputs.mask)
        inputs = inputs.with_encoding("fine", split(inputs)).with_encoding("coarse", joined(inputs))
        return Examples(inputs, inputs.values.sum(1))

    return Dataset(REAL, SUM, part(1), part(2), encoding="pairs")


class Adder(DynamicalModel):
    """Adds up its inputs: those at even and at odd places of each step apart."""

    outputs, state_shapes = SUM, ((2,),)

    def __init__(self, inputs: InputSpace) -> None:
        super().__init__()
        self.inputs = inputs
        self.weight = torch.nn.Parameter(torch.ones(1))

    def trajectory(self, inputs: Inputs) -> Trajectory:
        whole = inputs.values.flatten(1).unflatten(1, (-1, 2)) if self.inputs.size > 1 else None
        if whole is None:  # one number a step: even steps go to the first sum
            signs = torch.eye(2)[torch.arange(inputs.values.shape[1]) % 2]
            sums = (inputs.values * signs).cumsum(1)
        else:
            sums = whole.cumsum(1)[:, self.inputs.size // 2 - 1 :: self.inputs.size // 2]
        sums = sums * self.weight
        return Trajectory((sums,), sums, inputs.mask)


def adders(dataset: Dataset) -> dict[str, DynamicalModel]:
    fine, coarse = (Reencoded(Adder(dataset.encodings[name]), name, REAL) for name in ("fine", "coarse"))
    return {"pairs": Adder(REAL), "fine": fine, "coarse": coarse}


def test_models_that_compute_alike_on_other_clocks_have_the_same_trajectory():
    dataset = data()
    population = Population.of(adders(dataset), dataset)
    shared, fine, coarse = (recording.trajectory for recording in record(population))
    assert torch.equal(fine.mask, shared.mask)
    torch.testing.assert_close(fine.states[0][fine.mask], shared.states[0][fine.mask])
    # the coarse one has a state at every second step, and at the end
    assert not torch.equal(coarse.mask, shared.mask)
    assert not bool((coarse.mask & ~shared.mask).any())
    torch.testing.assert_close(coarse.states[0][coarse.mask], shared.states[0][coarse.mask])
    for run in (fine, coarse):
        torch.testing.assert_close(run.at_readout("last"), shared.at_readout("last"))


def test_such_models_come_to_one_place_of_the_map():
    dataset = data(200)
    models = adders(dataset)
    models["other"] = problems.base_model("other", dataset, hidden=2).model
    models["other"].outputs = SUM
    fit = fit_population(
        Population.of(models, dataset), FitOptions(steps=150, models_per_step=None, batch_size=128, seed=1)
    )
    distances = fit.distances("outputs").matrix
    alike = distances[:3, :3].max()
    assert alike < 0.2 * distances[3, :3].min()


def test_match_steps_finds_equal_times_and_ties_the_ends():
    generator = np.random.default_rng(0)
    for _ in range(20):
        rows = [
            (np.sort(generator.integers(1, 30, size=generator.integers(1, 9))),
             np.sort(generator.integers(1, 30, size=generator.integers(1, 9))))
            for _ in range(5)
        ]  # fmt: skip
        times, own = ([row[which] for row in rows] for which in (0, 1))
        masks = [real(*(len(row) for row in side)) for side in (times, own)]
        padded = [
            torch.zeros(mask.shape, dtype=torch.int64).masked_scatter(mask, torch.tensor(np.concatenate(side)))
            for side, mask in zip((times, own), masks, strict=True)
        ]
        found = match_steps(padded[0], masks[0], padded[1], masks[1])
        for number, (asked, there) in enumerate(zip(times, own, strict=True)):
            wanted = [max((place for place, time in enumerate(there) if time == one), default=-1) for one in asked]
            wanted[-1] = len(there) - 1
            assert found[number, : len(asked)].tolist() == wanted
            assert bool((found[number, len(asked) :] == -1).all())
    with pytest.raises(InvalidValueError, match="own_times fall"):
        match_steps(torch.tensor([[1]]), real(1), torch.tensor([[2, 1]]), real(2))
    with pytest.raises(InvalidValueError, match="do not fit"):
        match_steps(torch.tensor([[1]]), real(2), torch.tensor([[2, 1]]), real(2))


def test_rows_devices_and_joins_keep_what_belongs_together():
    inputs = data().train.inputs
    some = inputs[torch.tensor([3, 0])]
    assert torch.equal(some.read_as("fine").steps[1], inputs.read_as("fine").steps[0])
    whole = collate([inputs[:3], inputs[3:]])
    for name in ("fine", "coarse"):
        assert torch.equal(whole.read_as(name).steps, inputs.read_as(name).steps[:, : whole.longest])
        model = Reencoded(Adder(data().encodings[name]), name, REAL)
        together, apart = model.trajectory(whole), [model.trajectory(part) for part in (inputs[:3], inputs[3:])]
        torch.testing.assert_close(together.at_readout("last"), torch.cat([run.at_readout("last") for run in apart]))
    assert not collate([inputs[:3], inputs[3:].plain]).encodings
    assert not inputs.with_values(inputs.values * 2).encodings
    assert inputs.plain.plain is inputs.plain or torch.equal(inputs.plain.values, inputs.values)
    assert inputs.to("cpu").encodings.keys() == {"fine", "coarse"}
    assert "fine: Encoding" in repr(inputs)
    assert "encodings" not in repr(inputs.plain)


def test_one_step_for_the_whole_input_stays_one():
    dataset = data()

    class Last(Adder):
        def trajectory(self, inputs: Inputs) -> Trajectory:
            last = super().trajectory(inputs).at_readout("last")[:, None]
            return Trajectory((last,), last, torch.ones(len(inputs), 1, dtype=torch.bool))

    run = Reencoded(Last(FINE), "fine", REAL).trajectory(dataset.train.inputs)
    assert run.mask.shape == (len(dataset.train), 1)
    torch.testing.assert_close(run.outputs[:, 0], dataset.train.targets)


class Blocks(DynamicalModel):
    """Two blocks as time: what it does with a whole sequence; or the same at the last step of each, with holes."""

    inputs, outputs, state_shapes = REAL, SUM, ((2,), (2,))

    def __init__(self, *, spread: bool) -> None:
        super().__init__()
        self.spread = spread

    def clock(self, inputs: Inputs) -> torch.Tensor:
        last = torch.arange(inputs.mask.shape[1]) == inputs.mask.sum(1, keepdim=True) - 1
        return last if self.spread else torch.ones(len(inputs), 1, dtype=torch.bool)

    def trajectory(self, inputs: Inputs) -> Trajectory:
        sums = (inputs.values * inputs.mask[..., None]).sum(1, keepdim=True)
        mask = self.clock(inputs)
        states = [part.expand(-1, mask.shape[1], -1) for part in (sums, sums.tanh())]
        return Trajectory((states[0], states[1]), states[1], mask)


def test_blocks_as_time_over_a_sequence_are_compared_at_its_end():
    dataset = data(60)
    options = FitOptions(
        meta_model="gru-stack:layers=2,hidden_size=8",
        steps=200,
        models_per_step=None,
        batch_size=64,
        learning_rate=1e-2,
    )
    whole, spread = (Population.of({"m": Blocks(spread=spread)}, dataset) for spread in (False, True))
    fits = [fit_population(population, options) for population in (whole, spread)]
    assert torch.equal(fits[0].theta, fits[1].theta)
    fidelities = [measure_fidelity(*pair).models[0] for pair in zip(fits, (whole, spread), strict=True)]
    assert fidelities[0] == fidelities[1]
    assert fidelities[0].hidden_r2 > 0.8


def test_a_population_of_several_encodings_is_saved_opened_fitted_and_embedded(tmp_path):
    options = BaseTrainingOptions(epochs=2, batch_size=64)
    spec = "digits-rows:encodings=pixels+row-pairs"
    for encoding in ("rows", "pixels", "row-pairs"):
        made = train_population(
            tmp_path / "models", ["gru:hidden_size=6"], spec, encoding=encoding, seeds=[0, 1], options=options
        )
        assert [base.metadata["encoding"] for base in made] == [encoding] * 2
    population = Population.load(tmp_path / "models")
    assert population.names[2] == "digits-pixels-gru-100-s0"
    assert [base.reading and base.reading[0] for base in population] == [None] * 2 + ["pixels"] * 2 + ["row-pairs"] * 2
    assert population[2].state_shapes == ((6,),)
    fit = fit_population(population, preset("laptop", steps=30), tmp_path / "run")
    fidelity = measure_fidelity(fit, population)
    # What a model does by itself, on its own data, is what is recorded of it.
    base, test = population[2], population.dataset(population[2]).test
    alone = base.model.model.trajectory(test.inputs.read_as("pixels").inputs)
    right = alone.at_readout("last").argmax(-1) == test.targets
    assert fidelity.models[2].base_score == pytest.approx(float(right.float().mean()))
    with pytest.raises(DynamoError, match="holds a population already"):
        population.save(tmp_path / "models")
    population.save(tmp_path / "copy")
    again = Population.load(tmp_path / "copy")
    assert again.fingerprint == population.fingerprint
    assert dynamo("embed", tmp_path / "run", tmp_path / "copy", "--steps", 5) == 0


def test_every_way_to_read_trajectories_agrees(tmp_path):
    dataset = data()
    population = Population.of(adders(dataset), dataset)
    options = FitOptions(steps=4, models_per_step=None, batch_size=30)
    fits = []
    for kind in ("memory", "live", "disk"):
        trainer = Trainer(population, attrs.evolve(options, recording=kind))
        trainer.record(tmp_path / kind)
        trainer.run()
        fits.append([row[2] for row in trainer.history])
    np.testing.assert_allclose(fits[1], fits[0], rtol=1e-5)
    assert fits[2] == fits[0]


def test_ranks_give_what_one_process_gives(tmp_path):
    dataset = data()
    population = Population.of(adders(dataset), dataset)
    population.save(tmp_path / "models")
    options = FitOptions(steps=3, models_per_step=None, batch_size=30, scale_hidden=True)
    one = fit_population(Population.load(tmp_path / "models"), options)
    two = fit_population(Population.load(tmp_path / "models"), options, ranks=Ranks(2))
    torch.testing.assert_close(one.theta, two.theta, rtol=1e-4, atol=1e-6)


def test_data_of_several_encodings_are_stored_with_the_population(tmp_path):
    dataset = data()
    Population.of(adders(dataset), dataset).save(tmp_path / "models")  # no component builds them: kept as recordings
    again = Population.load(tmp_path / "models")
    read = again.dataset(again[0])
    assert read.encodings == dataset.encodings
    assert read.encoding == "pairs"
    assert read.fingerprint() == dataset.fingerprint()
    torch.testing.assert_close(
        again["coarse"].trajectories.probe.states[0],
        record(Population.of(adders(dataset), dataset))[2].trajectory.states[0],
    )


def test_a_change_in_another_encoding_is_a_change_of_the_data():
    dataset = data()
    encoding = dataset.train.inputs.read_as("fine")
    moved = attrs.evolve(encoding, inputs=encoding.inputs.with_values(encoding.inputs.values + 1))
    inputs = dataset.train.inputs.with_encoding("fine", moved)
    other = attrs.evolve(dataset, train=Examples(inputs, dataset.train.targets))
    assert other.fingerprint() != dataset.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: attrs.evolve(e, steps=backwards(e.steps)), "example 0 has steps that go back in time"),
        (lambda e: attrs.evolve(e, steps=e.steps * 9), "example 0 has a step beyond its end"),
        (lambda e: attrs.evolve(e, steps=torch.full_like(e.steps, -1)), "example 0 has no step that the inputs and"),
        (lambda e: attrs.evolve(e, steps=torch.zeros_like(e.steps)), "has a step on padding of the inputs"),
        (lambda e: attrs.evolve(e, inputs=e.inputs.with_values(e.inputs.values * torch.nan)), "NaN or infinite"),
    ],
)
def test_what_is_wrong_with_an_encoding_is_told(change, message):
    dataset = data()
    inputs = dataset.train.inputs
    bad = attrs.evolve(dataset, train=Examples(inputs.with_encoding("fine", change(inputs.read_as("fine")))))
    with pytest.raises(InvalidValueError, match=rf"data set 'sums' \(train\), encoding 'fine'.*{message}"):
        bad.check("sums")


def test_what_cannot_be_read_names_model_and_encoding(tmp_path):
    dataset = data()
    models = adders(dataset)
    without = attrs.evolve(
        dataset, train=Examples(dataset.train.inputs.plain), test=Examples(dataset.test.inputs.plain)
    )
    with pytest.raises(DynamoError, match=r"model 'fine'.*cannot be read as 'fine': they come in no other encoding"):
        record(Population.of(models, without))
    with pytest.raises(InvalidValueError, match=r"model 'a': these inputs cannot be read as 'fin'.*fine, coarse"):
        Population.of({"a": Adder(FINE), "b": Adder(REAL)}, dataset, encodings={"a": "fin"})
    with pytest.raises(InvalidValueError, match=r"'a' reads real input of shape \(2,\), and the encoding 'fine'"):
        Population.of({"a": Adder(REAL), "b": Adder(REAL)}, dataset, encodings={"a": "fine"})
    with pytest.raises(InvalidValueError, match="an encoding is given for 'c'"):
        Population.of({"a": Adder(FINE)}, dataset, encodings={"c": "fine"})
    other = attrs.evolve(dataset, test=Examples(dataset.test.inputs.plain, dataset.test.targets))
    with pytest.raises(InvalidValueError, match="other encodings than the training examples, or in other"):
        other.check("sums")
    with pytest.raises(DynamoError, match=r"has no encoding 'pixel'.*did you mean 'pixels'"):
        component("dataset", "digits-rows").make({"encodings": "pixel"})
    with pytest.raises(DynamoError, match="does not come in the encoding 'pixels': it comes in one alone"):
        train_population(tmp_path / "models", ["gru"], "digits-rows", encoding="pixels")
    images = BaseModel("m", models["fine"], dataset)
    with pytest.raises(DynamoError, match="model 'm' reads its inputs as 'fine', and so on another clock"):
        Population([images]).check_steps()
    with pytest.raises(InvalidValueError, match="int64"):
        Encoding(FINE, dataset.train.inputs.read_as("fine").inputs, torch.zeros(2, 3))


def test_networks_of_any_class_are_wrapped_for_the_encoding_that_they_read():
    texts = ["so very good", "no", "not so bad", "good"] * 5

    def words(text):
        found = text.split()
        return {"input_ids": [len(word) for word in found], "ends": np.cumsum([len(word) + 1 for word in found]) - 1}

    def letters(text):
        spans = [(0, 0), *((place, place + 1) for place in range(len(text))), (0, 0)]  # marks of beginning and end
        return {"input_ids": [1, *(ord(letter) % 32 for letter in text), 2], "offset_mapping": spans}

    class Net(torch.nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.embedding = torch.nn.Embedding(vocabulary, 4)
            self.rnn = torch.nn.GRU(4, 5, batch_first=True)
            self.head = torch.nn.Linear(5, 2)

        def forward(self, ids):
            return self.head(self.rnn(self.embedding(ids))[0])

    inputs = encode_texts(texts, {"words": words, "letters": letters}, {"letters": 32})
    encoding = inputs.read_as("letters")
    assert encoding.space == InputSpace("tokens", (32,))
    # "so very good": words end after 2, 7 and 12 letters, and the first id is a mark; the last is tied to the end
    assert encoding.steps[0].tolist() == [2, 7, 13]
    shared = wrap(Net(9), inputs=InputSpace("tokens", (9,)), states="rnn", outputs="classes")
    spelling = wrap(Net(32), inputs=encoding.space, states="rnn", outputs="classes")
    population = Population.of({"a": shared, "b": spelling}, inputs, encodings={"b": "letters"})
    assert population["b"].reading == ("letters", encoding.space)
    run = record(population)[1].trajectory
    rows = population.dataset(population[0]).probes()
    alone = spelling.trajectory(rows.read_as("letters").inputs)
    torch.testing.assert_close(run.at_readout("last"), alone.at_readout("last"))
    with pytest.raises(InvalidValueError, match="tokenizer 'words' must give a dictionary"):
        encode_texts(texts, {"words": str.split})
    with pytest.raises(InvalidValueError, match="drop texts without tokens"):
        encode_texts(["", "a"], {"words": words})
    with pytest.raises(DynamoError, match="tokenizer 'words' fails on the text 'a'"):
        encode_texts(["a"], {"words": lambda text: 1 / 0})


def test_analyses_that_run_models_take_them_and_those_that_go_step_by_step_say_why_not(tmp_path, capsys):
    spec = "digits-rows:encodings=pixels"
    for encoding in ("rows", "pixels"):
        train_population(
            tmp_path / "models",
            ["gru:hidden_size=4"],
            spec,
            encoding=encoding,
            seeds=[0, 1, 2],
            options=BaseTrainingOptions(epochs=1, batch_size=64),
        )
    run, pixels = tmp_path / "run", "digits-pixels-gru-100-s0"
    fit_population(Population.load(tmp_path / "models"), preset("laptop", steps=5), run)
    few = ("--starts", 5, "--sequences", 20)
    for command, *options in (
        ("distances",),
        ("clusters", "--by", "encoding"),
        ("compare", "--by", "encoding"),
        ("landscape", "--size", 3),
        ("averages", "--of", "encoding=pixels"),
        ("fixed-points", "--at", pixels, *few),
        ("fixed-points", "--at", pixels, "--base", "--out", tmp_path / "own", *few),
    ):
        assert dynamo("analyse", command, run, *options) == 0, (command, capsys.readouterr())
    assert dynamo("analyse", "conjugacy", run, "--by", "encoding") == 2
    assert f"model {pixels!r} reads its inputs as 'pixels', and so on another clock" in capsys.readouterr().err


def test_a_saved_model_is_built_for_the_encoding_that_it_reads(tmp_path):
    dataset = component("dataset", "digits-rows").make({"encodings": "pixels"})
    own = component("architecture", "gru").make({"hidden_size": 3}, dataset.encodings["pixels"], dataset.outputs)
    model = Reencoded(own, "pixels", dataset.inputs).eval()
    base = BaseModel("m", model, "digits-rows:encodings=pixels", architecture=Spec("gru", {"hidden_size": 3}))
    Population([base]).save(tmp_path / "models")
    again = Population.load(tmp_path / "models")[0]
    inputs = dataset.test.inputs[:5]
    torch.testing.assert_close(again.model.trajectory(inputs).outputs, model.trajectory(inputs).outputs)
    manifest = tmp_path / "models" / "population.toml"
    lines = [line for line in manifest.read_text().splitlines() if not line.startswith("digest")]
    manifest.write_text("\n".join(lines).replace('name = "pixels"', 'nam = "pixels"'))
    with pytest.raises(DynamoError, match=r"model 'm'.*the encoding must be a table"):
        Population.load(tmp_path / "models")
