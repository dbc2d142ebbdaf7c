"""Shared problems: small data sets and populations whose answers are known exactly."""

import torch
from torch import nn

from dynamo import Dataset, Examples, Fit, FitOptions, Inputs, InputSpace, OutputSpace, Population, Spec, Trainer
from dynamo.contracts.protocols import DynamicalModel, Head, MetaModel
from dynamo.population.base_model import BaseModel
from dynamo.registry import make


def sequences(count: int, steps: int, features: int, seed: int = 0) -> Inputs:
    """Real sequences of different lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, steps + 1, (count,), generator=generator)
    lengths[0] = steps
    return Inputs(torch.randn(count, steps, features, generator=generator), torch.arange(steps) < lengths[:, None])


def dataset(
    classes: int = 3, features: int = 2, examples: int = 24, steps: int = 5, group: str = "toy", kind: str = "classes"
) -> Dataset:
    """A small task over real sequences."""

    def part(seed: int) -> Examples:
        inputs = sequences(examples, steps, features, seed)
        generator = torch.Generator().manual_seed(seed + 100)
        targets = torch.randint(classes, (examples,), generator=generator)
        return Examples(inputs, targets if kind == "classes" else torch.randn(examples, classes, generator=generator))

    space = OutputSpace("classes" if kind == "classes" else "real", classes, "last", group)
    return Dataset(InputSpace("real", (features,)), space, part(1), part(2))


def base_model(
    name: str, data: Dataset, architecture: str = "gru", hidden: int = 4, seed: int = 0, **labels
) -> BaseModel:
    """An untrained network with fixed weights."""
    spec = Spec(architecture, {"hidden_size": hidden, "embedding_size": 3})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make("architecture", spec, DynamicalModel, data.inputs, data.outputs)
    return BaseModel(name, model.eval().requires_grad_(False), data, labels, spec)


def population(count: int = 3, **kwargs) -> Population:
    """GRUs of different widths on one task."""
    data = dataset(**kwargs)
    return Population([base_model(f"m{n}", data, hidden=3 + n, seed=n, number=n) for n in range(count)])


def fitted(count: int = 3, steps: int = 3, theta_dim: int = 4, **kwargs) -> tuple[Fit, Population]:
    """A small fit to a small population, with thetas drawn at random so that places of the map differ."""
    models = population(count, **kwargs)
    options = FitOptions(
        meta_model="gru:hidden_size=6,embedding_size=3",
        theta_dim=theta_dim,
        models_per_step=None,
        batch_size=4 * count,
        steps=steps,
    )
    trainer = Trainer(models, options)
    trainer.run()
    generator = torch.Generator().manual_seed(0)
    for theta in trainer.emulator.thetas:
        theta.data = torch.randn(theta_dim, generator=generator)
    return Fit.of(trainer), models


class Plane(MetaModel):
    """States that are θ itself at every step."""

    def __init__(self, like: MetaModel) -> None:
        super().__init__()
        self.inputs, self.theta_dim = like.inputs, like.theta_dim
        self.state_shapes, self.feature_size = ((like.theta_dim,),), like.theta_dim

    def states(self, inputs, theta):
        return (theta[:, None].expand(-1, inputs.mask.shape[1], -1),)

    def features(self, states):
        return states[0]


class Same(Head):
    """The features as they are."""

    def __init__(self, outputs) -> None:
        super().__init__()
        self.outputs, self.feature_size = outputs, outputs.size

    def forward(self, features):
        return features


def plane(dimensions: int, **kwargs) -> tuple[Fit, Population]:
    """A map on which the outputs are θ itself."""
    fit, models = fitted(classes=dimensions, theta_dim=dimensions, **kwargs)
    fit.emulator.meta_model = Plane(fit.emulator.meta_model)
    fit.emulator.heads = nn.ModuleList([Same(models[0].model.outputs)])
    return fit, models
