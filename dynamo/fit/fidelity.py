"""Fidelity: how well the meta-model at θ_n imitates base model n, on test data that neither of them was trained on."""

import csv
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import fmean

import attrs
import torch
from torch import Tensor

from dynamo.contracts.data import Examples
from dynamo.contracts.errors import DynamoError, has_control_characters
from dynamo.contracts.files import read_bytes
from dynamo.contracts.shown import folded, short, table_html
from dynamo.contracts.spaces import OutputSpace
from dynamo.contracts.trajectory import Trajectory, at_readout, at_the_end
from dynamo.fit.fit import Fit
from dynamo.fit.run_folder import FIDELITY, RUN, add_file, saved_files
from dynamo.population.base_model import BaseModel
from dynamo.population.population import Population
from dynamo.population.recording import trajectories, trajectories_of
from dynamo.population.scores import Score, Unexplained, task_score, unexplained_share
from dynamo.system.bars import progress_of
from dynamo.system.devices import device_of, placed
from dynamo.system.process_group import ProcessGroup, SingleProcess
from dynamo.system.progress import Progress, Setting, silent
from dynamo.system.storage import write_csv
from dynamo.system.tables import Table
from dynamo.training.objective import output_loss
from dynamo.training.options import output_divergence

#: Test examples in a batch.
_BATCH = 256


@attrs.frozen
class ModelFidelity:
    """How well one base model is imitated. A figure that is undefined is NaN: R² of what does not vary, scores on
    examples without labels, and all that is measured on states or outputs that are NaN or infinite.

    Attributes:
        name: the base model.
        hidden_r2: share of the variance of its states that V_n explains from the meta-model's, over real steps and
            units; the mean over the sites where its states vary.
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

    @property
    def is_poor(self) -> bool:
        """Whether the imitation is too poor for the model's place on the map to mean much: hidden R² below
        :data:`LEAST_HIDDEN_R2`, agreement below :data:`LEAST_AGREEMENT`, or a score that is more than
        :data:`MOST_LOST` below the base model's.
        """
        lost = self.base_score - self.emulator_score
        poor = self.hidden_r2 < LEAST_HIDDEN_R2 or self.agreement < LEAST_AGREEMENT or lost > MOST_LOST
        return poor or self.is_broken

    @property
    def is_broken(self) -> bool:
        """Whether states or outputs were NaN or infinite on the test data."""
        return isnan(self.output_divergence)


#: Where an imitation begins to be poor.
LEAST_HIDDEN_R2, LEAST_AGREEMENT, MOST_LOST = 0.6, 0.7, 0.1


@attrs.frozen
class Fidelity:
    """The fidelity of every base model of a fit."""

    models: tuple[ModelFidelity, ...]

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {short(self.mean(name))}" for name in FIDELITY_COLUMNS[1:])
        return folded(f"Fidelity of {len(self.models)} models, {len(self.poor)} of them poor; means: {means}")

    def _repr_html_(self) -> str:
        return table_html(*self.table(), f"Fidelity of {len(self.models)} models")

    def table(self) -> Table:
        """Columns and rows: each model's name and figures; an undefined figure is NaN."""
        return list(FIDELITY_COLUMNS), [list(attrs.astuple(model)) for model in self.models]

    def mean(self, figure: str) -> float:
        """The mean of one figure over those models for which it is defined; NaN where there are none."""
        values = [getattr(model, figure) for model in self.models]
        known = [value for value in values if not isnan(value)]
        return fmean(known) if known else nan

    def of(self, names: Sequence[str]) -> "Fidelity":
        """That of some models, by their names; those that are not there are left out."""
        known = {model.name: model for model in self.models}
        return Fidelity(tuple(known[name] for name in names if name in known))

    @property
    def poor(self) -> tuple[ModelFidelity, ...]:
        """The models that are imitated poorly; see :attr:`ModelFidelity.is_poor`."""
        return tuple(model for model in self.models if model.is_poor)


FIDELITY_COLUMNS = tuple(field.name for field in attrs.fields(ModelFidelity))


def measure_fidelity(
    fit: Fit,
    population: Population,
    progress: Progress | Setting = silent,
    device: torch.device | None = None,
    processes: ProcessGroup | None = None,
) -> Fidelity:
    """Measure every base model's imitation on the test examples of its own data set, a batch at a time.

    Args:
        fit: the emulator.
        population: the population that it was fitted to, in the same order.
        progress: True, "notebook" or False, see :meth:`dynamo.Trainer.run`; or a function that is called with (model,
            models) after each.
        device: where to run base models and meta-model; where the emulator is, if it is None.
        processes: those that share the work, each measuring its own base models; this one alone where it is None.

    Returns:
        That of all base models; at processes other than the first, that of their own.
    """
    device, processes = device or device_of(fit.emulator), processes or SingleProcess()
    found: dict[int, ModelFidelity] = {}
    with progress_of(progress, "measuring fidelity") as tick:
        for number, base in enumerate(population):
            if processes.owns(number):
                found[number] = _measure(fit, number, base, population.dataset(base).test, device)
                tick(min(len(found) * processes.size, len(population)), len(population))
        for part in processes.gather(found):
            found |= part
    return Fidelity(tuple(found[number] for number in sorted(found)))


@torch.no_grad()
def _measure(fit: Fit, number: int, base: BaseModel, test: Examples, device: torch.device) -> ModelFidelity:
    emulator, space = fit.emulator, base.outputs
    imitation = fit.model_at(base.name).to(device)
    maps = [placed(state_map, device) for state_map in emulator.maps_of(number)]
    read = emulator.reading_of(number)
    divergence = output_divergence(fit.options, base.name, emulator.group_of(number), space)
    sites, alike = [Unexplained() for _ in maps], Score(space)
    scores, loss, done, is_finite = (Score(space), Score(space)), 0.0, 0, True
    targets = trajectories_of(base, "held_out", test.inputs, device, _BATCH)
    for target, guess in zip(targets, trajectories(imitation, test.inputs, _BATCH), strict=True):
        target = at_the_end(target, guess.mask)
        for site, state_map, meta, true in zip(sites, maps, read(guess.states), target.states, strict=True):
            site.add(state_map(meta).flatten(2)[target.mask], true.flatten(2)[target.mask])
        rows = slice(done, done + len(target.mask))
        observed = target.mask if target.mask.shape == guess.mask.shape else guess.mask
        own, imitated = target.at_readout(space.readout), at_readout(guess.outputs, observed, space.readout)
        alike.add(imitated, own.argmax(-1) if space.kind == "classes" else own, target.mask)
        if test.targets is not None:
            for score, outputs in zip(scores, (own, imitated), strict=True):
                score.add(outputs, test.targets[rows], target.mask)
        loss += float(output_loss(divergence, guess.outputs, target.outputs, target.mask)) * len(target.mask)
        is_finite = is_finite and all(map(_is_finite, (target, guess)))
        done = rows.stop
    if not is_finite:
        return ModelFidelity(base.name, nan, nan, nan, nan, nan)
    shares = [site.share for site in sites if not isnan(site.share)]
    hidden = 1 - fmean(shares) if shares else nan
    scored = (nan, nan) if test.targets is None else (scores[0].value, scores[1].value)
    return ModelFidelity(base.name, hidden, loss / done, alike.value, *scored)


def _is_finite(trajectory: Trajectory) -> bool:
    """Whether a trajectory holds no NaN and nothing infinite on real steps."""
    mask = trajectory.mask
    return all(bool(values[mask].isfinite().all()) for values in (*trajectory.states, trajectory.outputs))


def unexplained(guess: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The share of the variance of states ``[B, T, *S]`` that is not explained, over real steps; NaN where they do not
    vary.
    """
    return unexplained_share(guess.flatten(2)[mask], target.flatten(2)[mask])


def agreement(guess: Trajectory, target: Trajectory, space: OutputSpace) -> float:
    """Share of equal decisions (classes), or R² of the guess against the target's outputs (real outputs)."""
    found, wanted = guess.at_readout(space.readout), target.at_readout(space.readout)
    wanted = wanted.argmax(-1) if space.kind == "classes" else wanted
    return task_score(found, wanted, target.mask, space)


def write_fidelity(result: Fidelity, folder: Path) -> None:
    """Write ``fidelity.csv`` into a run folder: a row per model and a row of means; undefined figures stay empty."""
    rows = [attrs.astuple(model) for model in result.models]
    rows.append(("(mean)", *(result.mean(column) for column in FIDELITY_COLUMNS[1:])))
    cells = [["" if isinstance(cell, float) and isnan(cell) else cell for cell in row] for row in rows]
    write_csv(folder / FIDELITY, FIDELITY_COLUMNS, cells)
    if (folder / RUN).exists():
        add_file(folder, FIDELITY)


def is_measured(folder: Path) -> bool:
    """Whether the fidelity of a run folder's fit has been measured. A file that the run does not know is of another."""
    known = saved_files(folder)
    return (folder / FIDELITY).exists() and (known is None or FIDELITY in known)


def read_fidelity(folder: Path) -> Fidelity:
    """Read ``fidelity.csv`` back.

    Raises:
        DynamoError: it was not measured, or is damaged.
    """
    path, known = folder / FIDELITY, saved_files(folder) or {}
    if folder.is_dir() and not is_measured(folder) and FIDELITY not in known:
        raise DynamoError(
            f"the fidelity of the fit in {folder} has not been measured: `dynamo fit POPULATION --out {folder} "
            "--resume` does it, or measure_fidelity and write_fidelity of dynamo.fit.fidelity"
        )
    content = read_bytes(path, known.get(FIDELITY), within=folder)
    try:
        rows = list(csv.DictReader(content.decode().splitlines()))
        models = [
            ModelFidelity(row["name"], *(_figure(row[column]) for column in FIDELITY_COLUMNS[1:])) for row in rows
        ]
        if models.pop().name != "(mean)" or any(has_control_characters(model.name) for model in models):
            raise ValueError("its last row is not (mean), or a name has control characters")
    except (KeyError, IndexError, ValueError, TypeError, csv.Error) as error:
        raise DynamoError(f"{path} is damaged ({error!r}): make it again with `dynamo fit`") from None
    return Fidelity(tuple(models))


def _figure(cell: str) -> float:
    return nan if cell == "" else float(cell)
