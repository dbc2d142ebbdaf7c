"""What measures read: the states or answers of every model on the same examples, one model and one site at a time."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dynamo.analysis.arrays import Floats, Integers
from dynamo.analysis.rivals.rival import Rival
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.spaces import OutputSpace
from dynamo.contracts.trajectory import Inputs, at_readout
from dynamo.population.recording import Recording

#: How many examples are read from a recording at a time.
CHUNK = 256

#: Gives one model's features by its index.
Read = Callable[[int], Any]


def readers(
    rival: Rival,
    recordings: Sequence[Recording],
    spaces: Sequence[OutputSpace] | None,
    *,
    examples: int | None,
    seed: int,
    pooling: int | None,
) -> list[Read]:
    """What the measure reads of each model: one reader a site (states), or one in all (sequences, answers)."""
    if len(recordings) < 2:
        raise DynamoError(
            f"distances are between models, and there are {len(recordings)}: give at least two recordings"
        )
    if rival.reads == "sequences":
        _check_sequences(rival, recordings)
        return [partial(_sequences, recordings, examples, seed, site) for site in range(_sites(recordings))]
    _check_inputs(recordings)
    observed = _observed(recordings)
    rows, positions = _draw(observed, examples, rival.most_positions, seed)
    if rival.reads == "answers":
        space = _shared_space(rival, recordings, spaces)
        return [lambda model: _answers(recordings[model], rows, observed[rows], space)]

    def reader(site: int) -> Read:
        return lambda model: _states(recordings[model], rows, observed, site, pooling)[positions]

    return [reader(site) for site in range(_sites(recordings))]


def _check_sequences(rival: Rival, recordings: Sequence[Recording]) -> None:
    if not all(recording.inputs.is_sequence for recording in recordings):
        raise DynamoError(
            f"{rival.name} compares how states move over steps, and these models take images, in one step: take "
            "another measure"
        )


def _check_inputs(recordings: Sequence[Recording]) -> None:
    first = recordings[0].inputs
    for index, recording in enumerate(recordings):
        if recording.inputs is not first and not _same(recording.inputs, first):
            raise DynamoError(
                f"recordings 0 and {index} were made on different inputs, and pairwise measures compare what models "
                "do on the same examples: compare the models of one data set at a time, or take dsa, which compares "
                "how states move"
            )


def _same(one: Inputs, other: Inputs) -> bool:
    return all(
        first.shape == second.shape and first.dtype == second.dtype and bool((first == second).all())
        for first, second in ((one.mask, other.mask), (one.values, other.values))
    )


def _observed(recordings: Sequence[Recording]) -> Tensor:
    """The real steps that were observed in all models, ``[B, T]``."""
    masks = [recording.trajectory.mask for recording in recordings]
    found = masks[0]
    for mask in masks[1:]:
        found = found & mask if mask is not found else found
    return found


def _draw(observed: Tensor, examples: int | None, most: int | None, seed: int) -> tuple[Tensor, Integers]:
    """Rows of examples, and which of their observed steps, in the order of the examples."""
    rows, generator = _rows(len(observed), examples, seed)
    count = int(observed[rows].sum())
    if count == 0:
        raise DynamoError("no step of these examples was observed in all models: there is nothing to compare")
    positions = torch.randperm(count, generator=generator)[:most].sort().values
    return rows, positions.numpy()


def _rows(count: int, examples: int | None, seed: int) -> tuple[Tensor, torch.Generator]:
    """Rows of examples, and the generator that drew them."""
    if examples is not None and examples < 1:
        raise DynamoError(f"{examples} examples leave nothing to compare: take at least 1, or None for all")
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:examples].sort().values, generator


def _sites(recordings: Sequence[Recording]) -> int:
    counts = [len(recording.trajectory.states) for recording in recordings]
    for index, count in enumerate(counts):
        if count != counts[0]:
            raise DynamoError(
                f"model 0 has {counts[0]} sites, model {index} has {count}: states are compared site by site, so give "
                "models with equally many blocks, or compare their answers (output-disagreement)"
            )
    return counts[0]


def _states(recording: Recording, rows: Tensor, observed: Tensor, site: int, pooling: int | None) -> Floats:
    """The states of a site on observed steps, ``[n, p]``; maps of a convolution averaged to ``pooling`` x
    ``pooling``.
    """
    states, parts = recording.trajectory.states[site], []
    for some in torch.split(rows, CHUNK):
        real = states[some][observed[some]].double()
        if real.ndim == 4 and pooling is not None:
            height, width = real.shape[2:]
            real = functional.adaptive_avg_pool2d(real, (min(height, pooling), min(width, pooling)))
        parts.append(real.flatten(1))
    return torch.cat(parts).numpy()


def _sequences(recordings: Sequence[Recording], examples: int | None, seed: int, site: int, model: int) -> list[Floats]:
    """The states of a site ``[steps, p]`` on each unbroken run of observed steps of a model's own examples."""
    recording = recordings[model]
    rows, _ = _rows(len(recording), examples, seed)
    observed = recording.trajectory.mask
    states = _states(recording, rows, observed, site, None)
    example, step = observed[rows].nonzero(as_tuple=True)
    breaks = (example.diff() != 0) | (step.diff() != 1)
    return np.split(states, (breaks.nonzero()[:, 0] + 1).tolist())


def _answers(recording: Recording, rows: Tensor, observed: Tensor, space: OutputSpace) -> NDArray[Any]:
    """Decisions ``[n]`` or real outputs ``[n, K]``, at the last observed step or at every one."""
    if space.kind == "none":
        raise DynamoError("these models have no outputs to compare: take a measure of states")
    answers = at_readout(recording.trajectory.outputs[rows], observed, space.readout)
    if space.readout == "every":
        answers = answers[observed]
    decided: NDArray[Any] = (answers.argmax(-1) if space.kind == "classes" else answers.double()).numpy()
    return decided


def _shared_space(rival: Rival, recordings: Sequence[Recording], spaces: Sequence[OutputSpace] | None) -> OutputSpace:
    if spaces is None or len(spaces) != len(recordings):
        raise DynamoError(
            f"{rival.name} needs the output space of each of the {len(recordings)} models: give spaces="
            "[base.outputs for base in population]"
        )
    for index, space in enumerate(spaces):
        if space != spaces[0]:
            raise DynamoError(
                f"model 0 answers with {spaces[0]}, model {index} with {space}: answers to different questions cannot "
                "be compared"
            )
    return spaces[0]
