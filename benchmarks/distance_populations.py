"""Populations for ``distances.py``, made after its protocol was written.

The networks of each differ in one known thing: groups of 8 and 8, a control, and families of 16 that differ in a
number. All are small enough to be trained in seconds.
"""

from collections.abc import Callable, Iterator

import attrs
import numpy as np
import torch
from known_populations import SmallRNN, family, identity, leaks, noise, rotations

from dynamo import Dataset, Examples, Population, Spec
from dynamo.population.base_model import BaseModel
from dynamo.population.scores import score
from dynamo.registry import make
from dynamo.training.base_models import BaseTrainingOptions, Job, train_base_model

GRU = "gru:hidden_size=16"
DIGITS = BaseTrainingOptions(epochs=30, learning_rate=1e-2)


def networks(
    group: str,
    architecture: str,
    taught: Dataset,
    common: Dataset,
    options: BaseTrainingOptions,
    seeds: range,
) -> Iterator[BaseModel]:
    """Networks that are taught one data set, and are asked about another that all networks share."""
    for seed in seeds:
        job = Job(group, Spec.parse(architecture), 1.0, seed)
        *_, (_, model) = train_base_model(job, taught, options)
        own = round(score(model, common.test), 4)
        yield BaseModel(f"{group}-{seed}", model.requires_grad_(False), common, {"group": group, "score": own})


def pair(groups: dict[str, tuple[str, Dataset, BaseTrainingOptions]], common: Dataset, each: int = 8) -> Population:
    """Groups of as many networks each, no seed twice."""
    models = []
    for number, (group, (architecture, taught, options)) in enumerate(groups.items()):
        seeds = range(each * number, each * (number + 1))
        models += networks(group, architecture, taught, common, options, seeds)
    return Population(models)


def negation() -> Population:
    """Sentiment, taught with all sentences or with those alone that have no negation; the same number of both."""
    spec = "synthetic-sentiment:train_size=6000,test_size=500,max_length=12"
    data = make("dataset", spec, Dataset)
    words = torch.tensor([word.startswith("not") for word in data.tokens])
    first, _ = data.halves()
    plain = ~words[first.inputs.values].any(1)
    count = int(plain.sum())
    options = BaseTrainingOptions(epochs=20, learning_rate=1e-2)
    architecture = "gru:hidden_size=16,embedding_size=16"
    taught = {"with": as_half(first[:count]), "without": as_half(first[plain.nonzero()[:, 0]])}
    return pair({name: (architecture, attrs.evolve(data, train=part), options) for name, part in taught.items()}, data)


def as_half(examples: Examples) -> Examples:
    """Examples of which the first half of :meth:`Dataset.halves` has them all, in some order."""
    order = torch.randperm(2 * len(examples), generator=torch.Generator().manual_seed(0))
    places = torch.zeros(2 * len(examples), dtype=torch.long)
    places[order[: len(examples)]] = torch.arange(len(examples))
    return examples[places]


def label_noise() -> Population:
    """Digits read by rows, all labels right or 30 % of them drawn anew."""
    data = make("dataset", "digits-rows", Dataset)
    generator = torch.Generator().manual_seed(0)
    targets = data.train.targets.clone()
    drawn = torch.rand(len(targets), generator=generator) < 0.3
    targets[drawn] = torch.randint(10, (int(drawn.sum()),), generator=generator)
    noisy = attrs.evolve(data, train=Examples(data.train.inputs, targets))
    return pair({"clean": (GRU, data, DIGITS), "noisy": (GRU, noisy, DIGITS)}, data)


def randomisation() -> Population:
    """Digits by rows, of whose labels 0, 25, 50, 75 or 100 % are drawn anew (ReSi's label randomisation)."""
    data = make("dataset", "digits-rows", Dataset)
    targets, generator = data.train.targets, torch.Generator().manual_seed(1)  # 0 draws the halves of the data
    order = torch.randperm(len(targets), generator=generator)
    drawn = torch.randint(10, (len(targets),), generator=generator)
    groups = {}
    for percent in (0, 25, 50, 75, 100):
        own = targets.clone()
        some = order[: percent * len(order) // 100]
        own[some] = drawn[some]
        groups[f"random-{percent}"] = (GRU, attrs.evolve(data, train=Examples(data.train.inputs, own)), DIGITS)
    return pair(groups, data, each=4)


def shortcut() -> Population:
    """Digits whose first row is a binary code of a label: in training that of the right one for none, half or all of
    the digits, else of one at random; the networks are asked about codes at random (ReSi's shortcuts).
    """
    data, generator = make("dataset", "digits-rows", Dataset), torch.Generator().manual_seed(0)

    def cued(examples: Examples, share: float) -> Examples:
        right = torch.rand(len(examples.targets), generator=generator) < share
        code = torch.where(right, examples.targets, torch.randint(10, right.shape, generator=generator))
        values = examples.inputs.values.clone()
        bits = (code[:, None] >> torch.arange(4)) % 2
        values[:, 0] = 0
        values[:, 0, :4] = bits.to(values.dtype) * values.max()
        return Examples(attrs.evolve(examples.inputs, values=values), examples.targets)

    common = attrs.evolve(data, train=cued(data.train, 0), test=cued(data.test, 0))
    shares = {"never": 0.0, "half": 0.5, "always": 1.0}
    groups = {
        name: (GRU, attrs.evolve(common, train=cued(data.train, share)), DIGITS) for name, share in shares.items()
    }
    return pair(groups, common, each=6)


def memory() -> Population:
    """The 2-bit flip-flop by tanh RNNs and by GRUs, both good at it."""
    data = make("dataset", "flip-flop:bits=2,steps=20,train_size=1600,test_size=300", Dataset)
    options = BaseTrainingOptions(epochs=20, learning_rate=1e-2, batch_size=64)
    return pair({"rnn": ("rnn:hidden_size=16", data, options), "gru": (GRU, data, options)}, data)


def rate() -> Population:
    """Digits read by rows, trained in many small steps or in few large ones."""
    data = make("dataset", "digits-rows", Dataset)
    slow = BaseTrainingOptions(epochs=60, learning_rate=1e-3, batch_size=32)
    fast = BaseTrainingOptions(epochs=30, learning_rate=3e-2, batch_size=128)
    return pair({"slow": (GRU, data, slow), "fast": (GRU, data, fast)}, data)


def decay() -> Population:
    """Digits read by rows, without weight decay or with much of it."""
    data = make("dataset", "digits-rows", Dataset)
    much = attrs.evolve(DIGITS, weight_decay=0.3)
    none = attrs.evolve(DIGITS, weight_decay=0.0)
    return pair({"none": (GRU, data, none), "much": (GRU, data, much)}, data)


def control() -> Population:
    """16 networks of one recipe, half of them called otherwise."""
    data = make("dataset", "digits-rows", Dataset)
    return pair({"one": (GRU, data, DIGITS), "other": (GRU, data, DIGITS)}, data)


def damping(count: int = 16, hidden: int = 16) -> Population:
    """A rotation of the plane by 0.5 radians a step at several dampings, each in a frame of its own."""
    data, generator = noise(1, 1, 20), torch.Generator().manual_seed(1)
    models = {}
    for radius in np.linspace(0.5, 0.98, count).round(4).tolist():
        frame = torch.linalg.qr(torch.randn(hidden, 2, generator=generator))[0]
        turn = radius * torch.tensor([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]], dtype=torch.float32)
        weights = (frame @ torch.tensor([[1.0], [0.0]]), frame @ turn @ frame.T, torch.tensor([[1.0, 0.0]]) @ frame.T)
        models[radius] = SmallRNN(data.inputs, data.outputs, weights, activation=identity)
    return family(models, data)


def gains(count: int = 16, hidden: int = 24) -> Population:
    """A tanh RNN with random weights at several gains, its units permuted and flipped in sign each time anew."""
    data, generator = noise(2, 3, 12), torch.Generator().manual_seed(2)
    sizes = ((hidden, 2, 0.7), (hidden, hidden, 1 / hidden**0.5), (3, hidden, 1 / hidden**0.5))
    first, between, last = (scale * torch.randn(rows, columns, generator=generator) for rows, columns, scale in sizes)
    models = {}
    for gain in np.linspace(0.4, 1.6, count).round(4).tolist():
        order = torch.randperm(hidden, generator=generator)
        signs = (2.0 * torch.randint(2, (hidden,), generator=generator) - 1)[:, None]
        turned = gain * signs * between[order][:, order] * signs.T
        models[gain] = SmallRNN(data.inputs, data.outputs, (signs * first[order], turned, last[:, order] * signs.T))
    return family(models, data)


def architectures() -> Population:
    """Digits read by rows, by GRUs, LSTMs and tanh RNNs that are equally good. Added after the default was chosen."""
    data = make("dataset", "digits-rows", Dataset)
    options = BaseTrainingOptions(epochs=40, batch_size=32, learning_rate=3e-3)
    kinds = {name: (f"{name}:hidden_size=24", data, options) for name in ("gru", "lstm", "rnn")}
    return pair(kinds, data, each=6)


#: Those with groups under the label ``group``, then the families under ``parameter``.
POPULATIONS: dict[str, Callable[[], Population]] = {
    "negation": negation,
    "label noise": label_noise,
    "memory": memory,
    "rate": rate,
    "decay": decay,
    "control": control,
    "architectures": architectures,
    "randomisation": randomisation,
    "shortcut": shortcut,
    "damping": damping,
    "gain": gains,
    "leak": leaks,
    "frequency": rotations,
}
