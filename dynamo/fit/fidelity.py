"""Fidelity: how well the meta-model at θ_n imitates base model n, on test data that neither of them was trained on."""

import csv
from copy import deepcopy
from pathlib import Path
from statistics import fmean

import attrs
import torch
from torch import Tensor

from dynamo.contracts.data import Examples
from dynamo.contracts.errors import DynamoError, has_control_characters
from dynamo.contracts.files import read_bytes
from dynamo.contracts.spaces import OutputSpace
from dynamo.contracts.trajectory import Trajectory
from dynamo.fit.fit import Fit, add_file, saved_digest
from dynamo.population.base_model import BaseModel
from dynamo.population.population import Population
from dynamo.population.recording import run
from dynamo.population.scores import task_score, unexplained_share
from dynamo.system.progress import Progress, silent
from dynamo.system.storage import write_csv
from dynamo.training.objective import output_loss
from dynamo.training.options import output_divergence


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


FIDELITY = "fidelity.csv"
FIDELITY_COLUMNS = tuple(field.name for field in attrs.fields(ModelFidelity))


@torch.no_grad()
def measure_fidelity(fit: Fit, population: Population, progress: Progress = silent) -> Fidelity:
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


def write_fidelity(result: Fidelity, folder: Path) -> None:
    """Write ``fidelity.csv`` into a run folder: a row per model and a row of means."""
    rows = [attrs.astuple(model) for model in result.models]
    means = ["(mean)", *(result.mean(column) for column in FIDELITY_COLUMNS[1:])]
    write_csv(folder / FIDELITY, FIDELITY_COLUMNS, [*rows, means])
    add_file(folder, FIDELITY)


def read_fidelity(folder: Path) -> Fidelity:
    """Read ``fidelity.csv`` back.

    Raises:
        DynamoError: it is missing or damaged.
    """
    path = folder / FIDELITY
    content = read_bytes(path, saved_digest(folder, FIDELITY), within=folder)
    try:
        rows = list(csv.DictReader(content.decode().splitlines()))
        models = [ModelFidelity(row["name"], *(float(row[column]) for column in FIDELITY_COLUMNS[1:])) for row in rows]
        if models.pop().name != "(mean)" or any(has_control_characters(model.name) for model in models):
            raise ValueError("its last row is not (mean), or a name has control characters")
    except (KeyError, IndexError, ValueError, TypeError, csv.Error) as error:
        raise DynamoError(f"{path} is damaged ({error!r}): make it again with `dynamo fit`") from None
    return Fidelity(tuple(models))
