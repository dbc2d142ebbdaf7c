"""One population of networks that share neither what they read nor how they are built nor how deep they are."""

from random import Random

import attrs
import numpy as np
import pytest
import torch
from torch import nn

from dynamo import (
    BaseModel,
    Component,
    DynamicalModel,
    DynamoError,
    Fit,
    OutputSpace,
    Population,
    Ranks,
    Reencoded,
    Spec,
    Trainer,
    Trajectory,
    analysis,
    embed,
    fit_population,
    measure_fidelity,
    preset,
)
from dynamo.analysis.rivals.compare import compare
from dynamo.contracts import NoOptions
from dynamo.registry import registry
from dynamo_datasets.encodings import choose_readers
from dynamo_datasets.labelled_texts import text_dataset
from dynamo_datasets.text import LabelledTexts, count_words, most_frequent

UNITS = 8
WORDS = ["good", "better", "bad", "worse", "not", "very", "the", "film", "it's", "so"]
VALENCE = {"good": 1, "better": 2, "bad": -1, "worse": -2}


class Encoder(DynamicalModel):
    """An encoder of two layers, as in BERT: every step sees all others."""

    def __init__(self, options, inputs, outputs):
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = inputs, outputs, ((UNITS,),) * 2
        self.tokens = nn.Embedding(inputs.size, UNITS)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(UNITS, 2, UNITS, 0.0, batch_first=True) for _ in range(2)
        )
        self.read = nn.Linear(UNITS, outputs.size)

    def trajectory(self, inputs):
        x, states = self.tokens(inputs.values), []
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~inputs.mask)
            states.append(x)
        return Trajectory(tuple(states), self.read(x), inputs.mask)


class Convolutions(DynamicalModel):
    """One convolution over the steps, and the greatest of each unit so far."""

    def __init__(self, options, inputs, outputs):
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = inputs, outputs, ((UNITS,),)
        self.tokens, self.layer = nn.Embedding(inputs.size, UNITS), nn.Conv1d(UNITS, UNITS, 3)
        self.read = nn.Linear(UNITS, outputs.size)

    def trajectory(self, inputs):
        x = nn.functional.pad(self.tokens(inputs.values).transpose(1, 2), (2, 0))
        states = torch.tanh(self.layer(x)).cummax(2).values.transpose(1, 2)
        return Trajectory((states,), self.read(states), inputs.mask)


@pytest.fixture(scope="module")
def architectures():
    for name, kind in (("test-encoder", Encoder), ("test-convolutions", Convolutions)):
        registry().register(Component("architecture", name, kind, "of a test", NoOptions))
    yield
    registry.cache_clear()


@pytest.fixture(scope="module")
def data():
    random = Random(0)

    def part(count):
        texts = [" ".join(random.choices(WORDS, k=random.randint(2, 6))) for _ in range(count)]
        return LabelledTexts(texts, [int(sum(VALENCE.get(word, 0) for word in text.split()) > 0) for text in texts])

    train, test = part(160), part(60)
    vocabulary = most_frequent(count_words(train.texts), 100)
    readers = choose_readers("words", "characters+subwords", train.texts, vocabulary, 25)
    return text_dataset(train, test, readers=readers, max_length=6, outputs=OutputSpace("classes", 2, group="toy"))


@pytest.fixture(scope="module")
def population(architectures, data):
    models = []
    for kind, encoding in (("gru", ""), ("test-encoder", "subwords"), ("test-convolutions", "characters")):
        spec = Spec(kind, {"hidden_size": UNITS, "embedding_size": 4} if kind == "gru" else {})
        for seed in range(2):
            torch.manual_seed(seed)
            component = registry().find("architecture", kind)
            model = component.make(spec.options, data.encodings.get(encoding, data.inputs), data.outputs)
            model = Reencoded(model, encoding, data.inputs) if encoding else model
            metadata = {"kind": kind, "seed": seed, "layers": len(model.state_shapes)}
            models.append(BaseModel(f"{kind}-{seed}", model.eval().requires_grad_(False), data, metadata, spec))
    return Population(models)


OPTIONS = preset(
    "laptop",
    meta_model="transformer:layers=2,hidden_size=16,heads=2",
    sites="pool",
    theta_dim=4,
    steps=12,
    batch_size=60,
)


@pytest.fixture(scope="module")
def fit(population):
    return fit_population(population, OPTIONS)


def test_it_is_saved_and_opened(population, tmp_path):
    population.save(tmp_path / "models")
    again = Population.load(tmp_path / "models")
    for base, other in zip(population, again, strict=True):
        inputs = population.dataset(base).test.inputs[:5]
        assert torch.equal(base.model.trajectory(inputs).outputs, other.model.trajectory(inputs).outputs)


def test_ranks_and_a_resumed_fit_give_the_same(population, fit, tmp_path):
    population.save(tmp_path / "models")
    opened = Population.load(tmp_path / "models")
    trainer = Trainer(opened, attrs.evolve(OPTIONS, checkpoint_every=5))
    stopped = []

    def stop(step, steps, loss):
        stopped.append(step)
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(tmp_path / "checkpoint.pt", progress=stop)
    again = Trainer(opened, attrs.evolve(OPTIONS, checkpoint_every=5))
    again.resume(tmp_path / "checkpoint.pt")
    assert again.step == 5
    again.run()
    torch.testing.assert_close(Fit.of(again).theta, fit.theta, rtol=1e-4, atol=1e-5)


def test_every_question_that_needs_runs_alone_is_answered(population, fit, data):
    fidelity = measure_fidelity(fit, population)
    assert all(np.isfinite(row.hidden_r2) for row in fidelity.models)
    apart = fit.distances(population=population)
    assert apart.matrix.shape == (6, 6)
    assert bool((apart.without("kind", fit.values_of("kind")).matrix >= 0).all())
    compared = compare(fit, population, "kind", methods=["cka", "rsa", "output-disagreement"], examples=40)
    reasons = {method.name: method.reason for method in compared.methods}
    assert reasons["dynamo"] == reasons["output-disagreement"] == ""
    assert "has 2 sites" in reasons["cka"]  # rivals compare sites one by one
    mean = analysis.average(fit, population, "kind=test-encoder")
    assert 0 <= mean.emulator_score <= 1
    learnt = analysis.few_labels(fit, population, 20, draws=2, balanced=True, steps=3)
    assert learnt.methods
    plane = analysis.landscape(fit, population, size=2)
    assert np.isfinite(plane.scores).all()
    new = embed(fit, population[[1, 3, 5]], fidelity=fidelity)
    assert new.theta.shape == (3, 4)


def test_any_theta_is_a_network_that_leaves(fit, data, tmp_path):
    model = fit.model_at(fit.theta.mean(0))
    inputs = data.test.inputs.plain
    exported = torch.export.export(model, (inputs.values, inputs.mask))
    torch.testing.assert_close(exported.module()(inputs.values, inputs.mask), model(inputs.values, inputs.mask))


def test_what_cannot_be_defined_says_why(population, fit):
    with pytest.raises(DynamoError, match=r"a MetaTransformer has no step"):
        analysis.state_space(fit.model_at(fit.theta[0]), population.dataset(population[0]).test.inputs)
    with pytest.raises(DynamoError, match=r"'test-encoder-0' reads its inputs as 'subwords'"):
        analysis.conjugacy(fit, population, fit.values_of("kind"))
    with pytest.raises(DynamoError, match=r"'test-\w+-\d' has states at 1 sites, the meta-model 'transformer' at 2"):
        fit_population(population, attrs.evolve(OPTIONS, sites="match"))


def test_two_ranks_agree_with_one(population, fit):
    two = fit_population(population, OPTIONS, ranks=Ranks(2))
    torch.testing.assert_close(two.theta, fit.theta, rtol=1e-3, atol=1e-4)
