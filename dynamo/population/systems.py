"""Populations of recorded systems: from arrays of what they did to base models that can be mapped."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.contracts.data import Dataset, Examples
from dynamo.contracts.errors import DynamoError, DynamoWarning, did_you_mean
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo.population.base_model import BaseModel
from dynamo.population.first_states import Floats, Frame, component_count, frames
from dynamo.population.metadata import tables_of
from dynamo.population.recorded import RecordedModel, Trajectories
from dynamo.population.trials import Array, Missing, Trial, is_shared, read_systems

if TYPE_CHECKING:
    from dynamo.population.population import Population

Units = Literal["own", "shared"]
#: The name of the outputs of recorded systems, and so of the head that gives them.
GROUP = "recording"


@attrs.frozen(eq=False)
class Measure:
    """``state = given · scale⁻¹`` after the offset is taken off.

    Attributes:
        offset, scale: ``[H]``.
    """

    offset: Floats
    scale: Floats

    @classmethod
    def of(cls, trials: Sequence[Trial], *, each: bool) -> "Measure":
        """That in which what was observed has mean 0 and variance 1: ``each`` unit for itself, or in the mean over
        units; what does not vary is not scaled.
        """
        rows = np.concatenate([trial.states[trial.observed] for trial in trials]).astype(np.float64)
        mean, variance = rows.mean(0), rows.var(0)
        own = variance if each else np.full_like(variance, variance.mean())
        rounding = 1e-12 * np.square(rows).mean()
        return cls(mean, np.sqrt(np.where(own > rounding, own, 1.0)))

    def __call__(self, trial: Trial) -> Trial:
        """The trial in this measure."""
        states = ((trial.states - self.offset) / self.scale).astype(np.float32)
        return attrs.evolve(trial, states=np.where(trial.observed[:, None], states, np.float32(0)))


@attrs.frozen(eq=False)
class System:
    """The trials of one system, in two parts."""

    probe: list[Trial]
    held_out: list[Trial]

    def measured(self, measure: Measure) -> "System":
        """The same in another measure."""
        return System([measure(trial) for trial in self.probe], [measure(trial) for trial in self.held_out])


def from_recordings(
    states: Any,
    inputs: Any = None,
    outputs: Any = None,
    mask: Any = None,
    metadata: Any = None,
    names: Sequence[str] | None = None,
    *,
    units: Units = "own",
    context: int | None = None,
    clip: int | None = None,
    missing: Missing = "refuse",
    standardise: bool = True,
    held_out: float = 0.2,
    seed: int = 0,
    like: "Population | None" = None,
) -> list[BaseModel]:
    """The base models of recorded systems; see :meth:`dynamo.Population.from_recordings`."""
    context = _checked(inputs, units, held_out, context, clip)
    trials = read_systems(states, inputs, outputs, mask, names, missing)
    tables = tables_of(metadata, list(trials), "system")
    _check_sizes(trials, units)
    if context:
        trials = {name: [_from_first(trial) for trial in own] for name, own in trials.items()}
    parts = {name: _split(name, own, held_out, seed, clip) for name, own in trials.items()}
    measures = _measures(parts, units, standardise, like)
    systems = {name: part.measured(measures[name]) for name, part in parts.items()}
    shown = _shown(list(systems.values()), units, context, like)
    space = _output_space(list(systems.values()), units)
    data: Dataset | None = None
    models = []
    for (name, system), told in zip(systems.items(), shown, strict=True):
        if data is None or context or not is_shared(inputs):
            data = _dataset(system, told, context)
        found = [_trajectory(part, space, data_part) for part, data_part in
                 ((system.probe, data.train), (system.held_out, data.test))]  # fmt: skip
        measure = measures[name] if standardise else None
        given = (None, None) if measure is None else (_single(measure.offset), _single(measure.scale))
        model = RecordedModel(data.inputs, space, Trajectories(found[0], found[1], *given))
        models.append(BaseModel(name, model, data, tables.get(name, {})))
    if like is not None and models[0].inputs != like.inputs:
        raise DynamoError(
            f"these recordings give {models[0].inputs}, those that they shall be like {like.inputs}: give them the "
            "same arguments, and states of the same units"
        )
    return models


def _checked(inputs: Any, units: Units, held_out: float, context: int | None, clip: int | None) -> int:
    """The number of first states that are shown, where the options fit one another."""
    if units not in ("own", "shared"):
        raise DynamoError(f"units is {units!r}: {did_you_mean(str(units), ('own', 'shared'))}")
    if not 0 < held_out < 1:
        raise DynamoError(f"held_out, a part of the trials, is {held_out}: give a number between 0 and 1")
    context = (1 if inputs is None else 0) if context is None else context
    if context < 0 or (clip is not None and clip < 1):
        raise DynamoError(f"context is {context} and clip {clip}: give whole numbers of steps")
    if inputs is None and context == 0:
        raise DynamoError(
            "without inputs nothing tells a trial from another: leave context out, or give it at least 1 step"
        )
    if clip is not None and inputs is not None and context == 0:
        raise DynamoError(
            "clips of trials with inputs start anywhere: give context=1, so that their first state is told"
        )
    return context


def _check_sizes(trials: Mapping[str, list[Trial]], units: Units) -> None:
    """Check that what systems have in common has one size."""
    first = {name: own[0] for name, own in trials.items()}
    if units == "shared":
        _check_alike({name: trial.states.shape[1] for name, trial in first.items()}, "units", "units='own'")
    outputs = {name: trial.outputs.shape[1] for name, trial in first.items() if trial.outputs is not None}
    inputs = {name: trial.inputs.shape[1] for name, trial in first.items() if trial.inputs is not None}
    for sizes, what, remedy in (
        (outputs, "outputs", "outputs of one kind, or none"),
        (inputs, "inputs", "inputs of one kind"),
    ):
        if sizes:
            _check_alike(sizes, what, remedy)


def _check_alike(sizes: Mapping[str, int], what: str, remedy: str) -> None:
    first = next(iter(sizes))
    for name, size in sizes.items():
        if size != sizes[first]:
            raise DynamoError(f"system {first!r} has {sizes[first]} {what}, system {name!r} has {size}: give {remedy}")


def _from_first(trial: Trial) -> Trial:
    """A trial from its first observed step on, which tells how it starts."""
    return trial.cut(int(trial.observed.argmax()), trial.end)


def _clips(trial: Trial, steps: int | None) -> list[Trial]:
    """A trial in clips of one length but for a step, none longer than ``steps``; those without an observed step are
    left out.
    """
    if steps is None or steps >= len(trial):
        return [trial]
    ends = np.linspace(0, len(trial), -(-len(trial) // steps) + 1).round().astype(int)
    clips = [trial.cut(start, stop) for start, stop in pairwise(ends.tolist())]
    return [_from_first(clip) for clip in clips if clip.observed.any()]


def _split(name: str, trials: list[Trial], fraction: float, seed: int, clip: int | None) -> System:
    """Whole trials that are held out, and the rest; clips of a single trial where there is but one."""
    pieces = [[trial] for trial in trials]
    if len(trials) == 1:
        pieces = [[piece] for piece in _clips(trials[0], clip)]
    if len(pieces) == 1:
        warnings.warn(
            f"system {name!r} has a single trial: its fidelity will be measured on the trial that it is fitted to; "
            "give more trials, or clip=STEPS to cut it",
            DynamoWarning,
            stacklevel=5,
        )
        return System(_all_clips(pieces, clip), _all_clips(pieces, clip))
    count = min(len(pieces) - 1, max(1, round(fraction * len(pieces))))
    drawn = set(np.random.default_rng(seed).permutation(len(pieces))[:count].tolist())
    kept = [piece for number, piece in enumerate(pieces) if number not in drawn]
    rest = [piece for number, piece in enumerate(pieces) if number in drawn]
    return System(_all_clips(kept, clip), _all_clips(rest, clip))


def _all_clips(pieces: list[list[Trial]], clip: int | None) -> list[Trial]:
    return [part for piece in pieces for trial in piece for part in _clips(trial, clip)]


def _measures(
    parts: Mapping[str, System], units: Units, standardise: bool, like: "Population | None"
) -> dict[str, Measure]:
    """The measure of each system: its own, or one for all where units are shared."""
    width = next(iter(parts.values())).probe[0].states.shape[1]
    if not standardise:
        return {name: Measure(np.zeros(1), np.ones(1)) for name in parts}
    if units == "own":
        return {name: Measure.of(part.probe, each=False) for name, part in parts.items()}
    if like is None:
        common = Measure.of([trial for part in parts.values() for trial in part.probe], each=True)
    else:
        known = like[0].trajectories
        if known.offset is None or known.scale is None or len(known.offset) != width:
            raise DynamoError(
                f"the population that these recordings shall be like has {like[0].state_shapes[0][0]} units, or was "
                f"made with standardise=False; these have {width} units: give them the same arguments"
            )
        common = Measure(known.offset.double().numpy(), known.scale.double().numpy())
    return dict.fromkeys(parts, common)


def _shown(systems: Sequence[System], units: Units, context: int, like: "Population | None") -> list[Frame | None]:
    """What of its first states each system shows: components in a frame; None for the states themselves."""
    if context == 0 or units == "shared":
        return [None] * len(systems)
    mine = [system.probe for system in systems]
    if like is None:
        return list(frames(mine, component_count(mine)))
    theirs = [_trials_of(base) for base in like]
    return list(frames(mine, component_count(theirs), theirs))


def _trials_of(base: BaseModel) -> list[Trial]:
    """The probe trials that a recorded base model was made of."""
    run = base.trajectories.probe
    lengths = [int(mask.nonzero().max()) + 1 for mask in run.mask]
    return [
        Trial(state[:length].numpy(), mask[:length].numpy(), None, None, number)
        for number, (state, mask, length) in enumerate(zip(run.states[0], run.mask, lengths, strict=True))
    ]


def _output_space(systems: Sequence[System], units: Units) -> OutputSpace:
    first = systems[0].probe[0]
    if first.outputs is not None:
        return OutputSpace("real", first.outputs.shape[1], "every", GROUP)
    if units == "shared":
        return OutputSpace("real", first.states.shape[1], "every", GROUP)
    return OutputSpace("none", 0, "every", GROUP)


def _dataset(system: System, frame: Frame | None, context: int) -> Dataset:
    """What goes in: the inputs, the first states as far as they are shown, and a channel that says where they are."""
    parts = []
    for trials in (system.probe, system.held_out):
        values = [_values(trial, frame, context) for trial in trials]
        lengths = torch.tensor([len(trial) for trial in trials])
        parts.append(Inputs(_padded(values), torch.arange(int(lengths.max())) < lengths[:, None]))
    space = InputSpace("real", (parts[0].values.shape[2],))
    return Dataset(space, None, Examples(parts[0]), Examples(parts[1]), only_probes=True)


def _values(trial: Trial, frame: Frame | None, context: int) -> Array:
    channels = [] if trial.inputs is None else [trial.inputs]
    if context:
        is_shown = (np.arange(len(trial)) < context) & trial.observed
        states = trial.states if frame is None else frame(trial.states)
        channels += [states * is_shown[:, None], is_shown[:, None].astype(np.float32)]
    return np.concatenate(channels, axis=1)


def _trajectory(trials: Sequence[Trial], space: OutputSpace, examples: Examples) -> Trajectory:
    steps = examples.inputs.mask.shape[1]
    states = _padded([trial.states for trial in trials], steps)
    mask = _padded([trial.observed for trial in trials], steps)
    outputs = states
    if trials[0].outputs is not None:
        outputs = _padded([trial.outputs for trial in trials if trial.outputs is not None], steps)
    elif space.kind == "none":
        outputs = states.new_zeros((*mask.shape, 0))
    return Trajectory((states,), outputs, mask)


def _padded(arrays: Sequence[np.ndarray[Any, Any]], steps: int | None = None) -> Tensor:
    """Arrays of trials ``[T, ...]`` as one tensor ``[B, T, ...]``, padded with zeros."""
    longest = max(map(len, arrays)) if steps is None else steps
    whole = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(whole)


def _single(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
