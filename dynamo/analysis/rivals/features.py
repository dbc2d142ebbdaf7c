"""What measures read: the states or answers of every model on the same examples, one model and one site at a time."""

from collections.abc import Callable, Sequence
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
    _check_inputs(recordings)
    rows, positions = _draw(recordings[0].inputs, examples, rival.most_positions, seed)
    if rival.reads == "answers":
        space = _shared_space(rival, recordings, spaces)
        return [lambda model: _answers(recordings[model], rows, space)]
    if rival.reads == "sequences" and not recordings[0].inputs.is_sequence:
        raise DynamoError(
            f"{rival.name} compares how states move over steps, and these models take images, in one step: take "
            "another measure"
        )

    def reader(site: int) -> Read:
        if rival.reads == "sequences":
            return lambda model: _sequences(recordings[model], rows, site)
        return lambda model: _states(recordings[model], rows, site, pooling)[positions]

    return [reader(site) for site in range(_sites(recordings))]


def _check_inputs(recordings: Sequence[Recording]) -> None:
    if len(recordings) < 2:
        raise DynamoError(
            f"distances are between models, and there are {len(recordings)}: give at least two recordings"
        )
    first = recordings[0].inputs
    for index, recording in enumerate(recordings):
        if recording.inputs is not first and not _same(recording.inputs, first):
            raise DynamoError(
                f"recordings 0 and {index} were made on different inputs, and pairwise measures compare what models "
                "do on the same examples: compare the models of one data set at a time"
            )


def _same(one: Inputs, other: Inputs) -> bool:
    return all(
        first.shape == second.shape and first.dtype == second.dtype and bool((first == second).all())
        for first, second in ((one.mask, other.mask), (one.values, other.values))
    )


def _draw(inputs: Inputs, examples: int | None, most: int | None, seed: int) -> tuple[Tensor, Integers]:
    """Rows of examples, and which of their real steps, in the order of the examples."""
    if examples is not None and examples < 1:
        raise DynamoError(f"{examples} examples leave nothing to compare: take at least 1, or None for all")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(inputs), generator=generator)[:examples].sort().values
    positions = torch.randperm(int(inputs.mask[rows].sum()), generator=generator)[:most].sort().values
    return rows, positions.numpy()


def _sites(recordings: Sequence[Recording]) -> int:
    counts = [len(recording.trajectory.states) for recording in recordings]
    for index, count in enumerate(counts):
        if count != counts[0]:
            raise DynamoError(
                f"model 0 has {counts[0]} sites, model {index} has {count}: states are compared site by site, so give "
                "models with equally many blocks, or compare their answers (output-disagreement)"
            )
    return counts[0]


def _states(recording: Recording, rows: Tensor, site: int, pooling: int | None) -> Floats:
    """The states of a site on real steps, ``[n, p]``; maps of a convolution averaged to ``pooling`` x ``pooling``."""
    states, mask = recording.trajectory.states[site], recording.trajectory.mask
    parts = []
    for some in torch.split(rows, CHUNK):
        real = states[some][mask[some]].double()
        if real.ndim == 4 and pooling is not None:
            height, width = real.shape[2:]
            real = functional.adaptive_avg_pool2d(real, (min(height, pooling), min(width, pooling)))
        parts.append(real.flatten(1))
    return torch.cat(parts).numpy()


def _sequences(recording: Recording, rows: Tensor, site: int) -> list[Floats]:
    """The states of a site on the real steps of each example, ``[steps, p]``."""
    states = _states(recording, rows, site, None)
    ends = recording.trajectory.mask[rows].sum(1).cumsum(0)[:-1]
    return np.split(states, ends.tolist())


def _answers(recording: Recording, rows: Tensor, space: OutputSpace) -> NDArray[Any]:
    """Decisions ``[n]`` or real outputs ``[n, K]``, at the last real step or at every one."""
    outputs, mask = recording.trajectory.outputs[rows], recording.trajectory.mask[rows]
    answers = at_readout(outputs, mask, space.readout)
    if space.readout == "every":
        answers = answers[mask]
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
