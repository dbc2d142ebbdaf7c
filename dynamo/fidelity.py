"""Fidelity: how well the meta-model at θ_n imitates base model n, on test data that neither of them was trained on."""

from collections.abc import Callable
from copy import deepcopy
from statistics import fmean

import attrs
import torch
from torch import Tensor

from dynamo.base_training import task_score, unexplained_share
from dynamo.data import Examples
from dynamo.fit import Fit
from dynamo.fit_options import output_divergence
from dynamo.objective import output_loss
from dynamo.population import BaseModel, Population
from dynamo.recording import run
from dynamo.spaces import OutputSpace
from dynamo.trajectory import Trajectory


@attrs.frozen
class ModelFidelity:
    """How well one base model is imitated.

    Attributes:
        name: the base model.
        hidden_r2: share of the variance of its states that V_n explains from the meta-model's, over real steps and
            units; the mean over sites.
        output_divergence: the output loss of equation 1, in the divergence that was trained.
        agreement: share of decisions that are the same (classes); R² of the outputs (real outputs).
        base_score: the base model's accuracy (classes) or R² (real outputs) on the task.
        emulator_score: the meta-model's at θ_n.
    """

    name: str
    hidden_r2: float
    output_divergence: float
    agreement: float
    base_score: float
    emulator_score: float


@attrs.frozen
class Fidelity:
    """The fidelity of every base model of a fit."""

    models: tuple[ModelFidelity, ...]

    def mean(self, figure: str) -> float:
        """The mean of one figure over models."""
        return fmean(getattr(model, figure) for model in self.models)


@torch.no_grad()
def measure_fidelity(
    fit: Fit, population: Population, progress: Callable[[int, int], None] = lambda done, total: None
) -> Fidelity:
    """Measure every base model's imitation on the test examples of its own data set.

    Args:
        fit: the emulator.
        population: the population that it was fitted to, in the same order.
        progress: called with (model, models) after each.
    """
    models = []
    for number, base in enumerate(population):
        models.append(_measure(fit, number, base, population.dataset(base).test))
        progress(number + 1, len(population))
    return Fidelity(tuple(models))


def _measure(fit: Fit, number: int, base: BaseModel, test: Examples) -> ModelFidelity:
    emulator, space = fit.emulator, base.outputs
    target = run(base.model, test.inputs)
    guess = run(fit.model_at(base.name), test.inputs)
    maps = [deepcopy(state_map).cpu() for state_map in emulator.maps_of(number)]
    divergence = output_divergence(fit.options, base.name, emulator.group_of(number), space)
    errors = [
        float(unexplained(state_map(meta), true, target.mask))
        for state_map, meta, true in zip(maps, guess.states, target.states, strict=True)
    ]
    return ModelFidelity(
        base.name,
        1 - fmean(errors),
        float(output_loss(divergence, guess.outputs, target.outputs, target.mask)),
        agreement(guess, target, space),
        task_score(target.at_readout(space.readout), test.targets, target.mask, space),
        task_score(guess.at_readout(space.readout), test.targets, target.mask, space),
    )


def unexplained(guess: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The share of the variance of states ``[B, T, *S]`` that is not explained, over real steps."""
    return unexplained_share(guess.flatten(2)[mask], target.flatten(2)[mask])


def agreement(guess: Trajectory, target: Trajectory, space: OutputSpace) -> float:
    """Share of equal decisions (classes), or R² of the guess against the target's outputs (real outputs)."""
    found, wanted = guess.at_readout(space.readout), target.at_readout(space.readout)
    wanted = wanted.argmax(-1) if space.kind == "classes" else wanted
    return task_score(found, wanted, target.mask, space)
