"""A fit on paper: what an emulator for a population consists of, checked before any of it is made."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import attrs
import torch

from dynamo.contracts.checks import check_divergence_values
from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import Divergence, MetaModel
from dynamo.contracts.shown import brief
from dynamo.population.population import Population
from dynamo.registry import full_spec
from dynamo.training.blueprint import Blueprint, Subject, group_heads
from dynamo.training.emulator import Emulator
from dynamo.training.options import FitOptions, divergence_texts, head_group, hidden_divergence, output_divergence


@attrs.frozen(eq=False)
class FitPlan:
    """What a fit of a population with some options consists of.

    Attributes:
        population: the base models.
        options: how to fit.
        blueprint: of the emulator.
        kinds: a value for each base model; those with equal ones have the same head, shapes of states and divergences,
            and are compared together.
        hidden, output: the divergences of each base model.
    """

    population: Population
    options: FitOptions
    blueprint: Blueprint
    kinds: Sequence[tuple[Any, ...]]
    hidden: Sequence[Divergence]
    output: Sequence[Divergence]

    __repr__ = brief

    @classmethod
    def of(cls, population: Population, options: FitOptions | None = None) -> "FitPlan":
        """Plan a fit.

        Raises:
            DynamoError: components, options, population and data do not fit one another.
        """
        options = options or FitOptions()
        groups = [head_group(base, options.head_by) for base in population]
        heads, numbers = group_heads([base.outputs for base in population], groups)
        names = [(base, heads[number][0]) for base, number in zip(population, numbers, strict=True)]
        blueprint = Blueprint(
            full_spec("meta-model", options.meta_model),
            full_spec("head", options.head),
            full_spec("state-map", options.state_map),
            population.inputs,
            options.theta_dim,
            heads,
            tuple(Subject(base.name, n, base.state_shapes) for base, n in zip(population, numbers, strict=True)),
            options.sites,
        )
        kinds = [
            (number, base.state_shapes, divergence_texts(options, base.name, group))
            for number, (base, group) in zip(numbers, names, strict=True)
        ]
        hidden = [hidden_divergence(options, base.name, group) for base, group in names]
        output = [output_divergence(options, base.name, group, base.outputs) for base, group in names]
        plan = cls(population, options, blueprint, kinds, hidden, output)
        plan._check()
        return plan

    def _check(self) -> None:
        self._check_divergences()
        if self.options.batch_size < self.models_per_step:
            raise DynamoError(
                f"a batch of {self.options.batch_size} examples cannot serve {self.models_per_step} models: "
                "raise batch_size or lower models_per_step"
            )
        one_of_each = {kind[:2]: subject for kind, subject in zip(self.kinds, self.blueprint.subjects, strict=True)}
        with torch.random.fork_rng(devices=[]):
            trial = Emulator(attrs.evolve(self.blueprint, subjects=tuple(one_of_each.values())))
        if self.options.block_outputs:
            _check_equal_shapes(self.population, trial.meta_model.state_shapes)
        # What is missing, has changed, or is too long for the meta-model is told now.
        seen: set[int] = set()
        for base in self.population:
            data = self.population.dataset(base)
            if id(data) not in seen:
                _check_longest(trial.meta_model, base.name, data)
            seen.add(id(data))

    def _check_divergences(self) -> None:
        """Check each distinct divergence once, on a few random vectors."""
        distinct = {
            (text, base.outputs.kind): divergence
            for base, kind, *both in zip(self.population, self.kinds, self.hidden, self.output, strict=True)
            for text, divergence in zip(kind[2], both, strict=True)
        }
        vectors = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0))
        for (text, _), divergence in distinct.items():
            check_divergence_values(divergence, *vectors, where=f"the divergence {text or 'auto'!r}")

    @cached_property
    def models_per_step(self) -> int:
        """K: how many base models a step draws."""
        return min(self.options.models_per_step or len(self.population), len(self.population))

    @property
    def examples_per_model(self) -> int:
        """How many examples of each drawn model a step sees."""
        return self.options.batch_size // self.models_per_step

    @cached_property
    def steps(self) -> int:
        """The steps of the whole fit: as given, or enough for each model's data to be seen ``epochs`` times."""
        if self.options.steps is not None:
            return self.options.steps
        examples = sum(self.population.dataset(base).probe_size for base in self.population)
        return max(1, round(self.options.epochs * examples / (self.models_per_step * self.examples_per_model)))


def _check_equal_shapes(population: Population, sites: tuple[tuple[int, ...], ...]) -> None:
    for base in population:
        if base.state_shapes != sites:
            raise DynamoError(
                f"block_outputs compares states as they are, and those of model {base.name!r} have the shapes "
                f"{base.state_shapes}, the meta-model's {sites}: give the meta-model the same block structure, "
                "or leave block_outputs out"
            )


@torch.no_grad()
def _check_longest(meta_model: MetaModel, name: str, data: Dataset) -> None:
    """Run a meta-model on the longest sequence of some data; it may refuse."""
    for part in (data.train.inputs, data.test.inputs):
        if part.is_sequence:
            row = int(part.mask.sum(1).argmax())
            longest = part[row : row + 1]
            try:
                meta_model.eval().states(longest, torch.zeros(1, meta_model.theta_dim))
            except DynamoError as error:
                raise error.at(f"the data of model {name!r}") from None
