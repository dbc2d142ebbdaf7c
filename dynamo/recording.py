"""Where the trajectories of base models come from: recordings, made once on unlabelled data and then read in any
order, or the models themselves, run on every batch.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from math import prod
from pathlib import Path
from typing import Literal, Protocol

import attrs
import torch
from torch import Tensor

from dynamo.devices import device_of
from dynamo.errors import DynamoError
from dynamo.population import Population
from dynamo.protocols import Augmentation, DynamicalModel
from dynamo.trajectory import Inputs, Trajectory, collate, join


class Source(Protocol):
    """What the trainer asks of one base model: batches of its probe inputs with its trajectories on them."""

    def __len__(self) -> int:
        """How many probe inputs there are."""

    def batch(self, rows: Tensor) -> tuple[Inputs, Trajectory]:
        """Inputs and trajectory of some rows."""


@attrs.frozen(eq=False)
class Recording:
    """One base model's trajectories on its probe inputs. Tensors may be memory-mapped files and may hold states in half
    precision; rows are read as they are asked for.
    """

    inputs: Inputs
    trajectory: Trajectory

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: Tensor) -> tuple[Inputs, Trajectory]:
        """Inputs and trajectory of some rows, in the precision of the outputs."""
        return self.inputs[rows], self.read(rows)

    def read(self, rows: Tensor) -> Trajectory:
        """The trajectory alone."""
        found = self.trajectory[rows]
        states = tuple(state.to(found.outputs.dtype) for state in found.states)
        return Trajectory(states, found.outputs, found.mask)


@attrs.frozen(eq=False)
class Live:
    """One base model that is run on every batch: needs no room, and can see inputs that are augmented anew each time.

    Attributes:
        model: the base model, on the device where it runs.
        inputs: its probe inputs.
        augmentation: changes the inputs of a batch at random, before model and meta-model see them; None changes
            nothing.
    """

    model: DynamicalModel
    inputs: Inputs
    augmentation: Augmentation | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @torch.no_grad()
    def batch(self, rows: Tensor) -> tuple[Inputs, Trajectory]:
        """Inputs and trajectory of some rows, on the model's device."""
        inputs = self.inputs[rows]
        if self.augmentation is not None:
            inputs = inputs.with_values(self.augmentation(inputs.values))
        inputs = inputs.to(device_of(self.model))
        with evaluating(self.model):
            return inputs, self.model.trajectory(inputs)


@attrs.frozen
class Elsewhere:
    """The source of a base model that belongs to another process: known by its size alone."""

    size: int

    def __len__(self) -> int:
        return self.size

    def batch(self, rows: Tensor) -> tuple[Inputs, Trajectory]:
        """Nothing to give."""
        raise AssertionError("the base model belongs to another process")


def read_together(sources: Sequence[Source], rows: Sequence[Tensor]) -> tuple[Inputs, Trajectory]:
    """Some rows of several base models whose states have one shape, one model after the other, no longer than the
    longest real sequence among them. Recordings of one data set have its inputs in common, which are read in one go.
    """
    recordings = [source for source in sources if isinstance(source, Recording)]
    if len(recordings) == len(sources) and len({id(recording.inputs) for recording in recordings}) == 1:
        inputs = collate([recordings[0].inputs[torch.cat(list(rows))]])
        trajectories = [recording.read(some) for recording, some in zip(recordings, rows, strict=True)]
    else:
        batches = [source.batch(some) for source, some in zip(sources, rows, strict=True)]
        inputs, trajectories = collate([part for part, _ in batches]), [part for _, part in batches]
    return inputs, join(trajectories, inputs.mask.shape[1])


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode; afterwards each submodule is in its own mode again."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def live(population: Population, device: torch.device, augmentation: Augmentation | None = None) -> list[Live]:
    """Every base model as a live source on the unlabelled half of its data set's training examples.

    Args:
        population: the base models; on another device than their own, copies of them are run.
        device: where to run them.
        augmentation: see :class:`Live`.
    """
    models = (base.model for base in population)
    placed = (model if device_of(model) == device else deepcopy(model).to(device) for model in models)
    return [Live(model, probe, augmentation) for model, probe in zip(placed, _probes(population), strict=True)]


def state_variances(trajectory: Trajectory) -> list[float]:
    """The variance of a base model's states at each site: over real steps, summed over units."""
    real = [state.flatten(2)[trajectory.mask] for state in trajectory.states]
    return [max(float((rows - rows.mean(0)).square().sum(1).mean()), 1e-12) for rows in real]


def record(
    population: Population,
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    precision: Literal["float32", "float16"] = "float32",
) -> list[Recording]:
    """Run every base model on the unlabelled half of its data set's training examples (section 4).

    Args:
        population: the base models; they are run in eval mode, without gradients, and left as they were.
        folder: where to keep the recordings as memory-mapped files; in memory where it is None.
        progress: called with (model, models) after each.
        precision: of the states; float16 halves the room they take.

    Raises:
        DynamoError: a model's trajectory holds NaN or Inf, states leave the range of float16, or the disk is full.
    """
    recordings = []
    for number, (base, probe) in enumerate(zip(population, _probes(population), strict=True)):
        trajectory = run(base.model, probe, None if folder is None else folder / base.name, precision=precision)
        if not all(bool(state.isfinite().all()) for state in (*trajectory.states, trajectory.outputs)):
            hint = "" if precision == "float32" else " (or some beyond the range of float16: record in float32)"
            raise DynamoError(
                f"model {base.name!r} gives NaN or infinite states or outputs on its data{hint}: leave it out"
            )
        recordings.append(Recording(probe, trajectory))
        progress(number + 1, len(population))
    return recordings


def _probes(population: Population) -> list[Inputs]:
    """Each base model's probe inputs; the models of one data set share theirs."""
    probes: dict[int, Inputs] = {}
    for base in population:
        dataset = population.dataset(base)
        if id(dataset) not in probes:
            probes[id(dataset)] = dataset.halves()[1]
    return [probes[id(population.dataset(base))] for base in population]


@torch.no_grad()
def run(
    model: DynamicalModel,
    inputs: Inputs,
    store: Path | None = None,
    batch_size: int = 512,
    precision: Literal["float32", "float16"] = "float32",
) -> Trajectory:
    """A model's trajectory on any number of inputs, in batches, in eval mode, on the model's device.

    What comes back is on the CPU: in memory, or in memory-mapped files below ``store``; states are kept in the model's
    own precision, or in float16.
    """
    device = device_of(model)
    arrays: list[Tensor] = []
    with evaluating(model):
        for start in range(0, len(inputs), batch_size):
            part = model.trajectory(inputs[start : start + batch_size].to(device))
            states = [state.half() if precision == "float16" else state for state in part.states]
            tensors: Sequence[Tensor] = (*states, part.outputs, part.mask)
            if not arrays:
                arrays = [_room(tensor, len(inputs), store, site) for site, tensor in enumerate(tensors)]
            for array, tensor in zip(arrays, tensors, strict=True):
                array[start : start + len(tensor)] = tensor.cpu()
    return Trajectory(tuple(arrays[:-2]), arrays[-2], arrays[-1])


def _room(like: Tensor, rows: int, store: Path | None, number: int) -> Tensor:
    shape = (rows, *like.shape[1:])
    if store is None:
        return torch.empty(shape, dtype=like.dtype)
    path = store / f"{number}.bin"
    try:
        store.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(prod(shape) * like.element_size())
            if hasattr(os, "posix_fallocate"):  # a full disk is told here, and kills no process later
                os.posix_fallocate(file.fileno(), 0, prod(shape) * like.element_size())
    except OSError as error:
        raise DynamoError(
            f"cannot keep recordings in {store}: {error.strerror or error}; free some room or choose another folder"
        ) from None
    # Unlike numpy's, this memory map keeps no file open: thousands of models need no more open files than one.
    return torch.from_file(str(path), shared=True, size=prod(shape), dtype=like.dtype).view(shape)
