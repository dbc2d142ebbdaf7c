"""Recordings: the trajectories of base models on unlabelled data, made once and then read in any order."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.devices import device_of
from dynamo.errors import DynamoError
from dynamo.population import Population
from dynamo.protocols import DynamicalModel
from dynamo.trajectory import Inputs, Trajectory


@attrs.frozen(eq=False)
class Recording:
    """One base model's trajectories on its probe inputs. Tensors may be memory-mapped files; rows are read as they
    are asked for.
    """

    inputs: Inputs
    trajectory: Trajectory

    def __len__(self) -> int:
        return len(self.inputs)


def record(
    population: Population, folder: Path | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Recording]:
    """Run every base model on the unlabelled half of its data set's training examples (section 4).

    Args:
        population: the base models; they are run in eval mode, without gradients, and left as they were.
        folder: where to keep the recordings as memory-mapped files; in memory where it is None.
        progress: called with (model, models) after each.

    Raises:
        DynamoError: a model's trajectory holds NaN or Inf, or the disk is full.
    """
    probes: dict[int, Inputs] = {}
    recordings = []
    for number, base in enumerate(population):
        dataset = population.dataset(base)
        if id(dataset) not in probes:
            probes[id(dataset)] = dataset.halves()[1]
        probe = probes[id(dataset)]
        store = None if folder is None else folder / base.name
        trajectory = run(base.model, probe, store)
        if not all(bool(state.isfinite().all()) for state in (*trajectory.states, trajectory.outputs)):
            raise DynamoError(f"model {base.name!r} gives NaN or infinite states or outputs on its data: leave it out")
        recordings.append(Recording(probe, trajectory))
        progress(number + 1, len(population))
    return recordings


@torch.no_grad()
def run(model: DynamicalModel, inputs: Inputs, store: Path | None = None, batch_size: int = 512) -> Trajectory:
    """A model's trajectory on any number of inputs, in batches, in eval mode, on the model's device.

    What comes back is on the CPU: in memory, or in memory-mapped files below ``store``.
    """
    was_training, device = model.training, device_of(model)
    model.eval()
    arrays: list[Tensor] = []
    for start in range(0, len(inputs), batch_size):
        part = model.trajectory(inputs[start : start + batch_size].to(device))
        tensors: Sequence[Tensor] = (*part.states, part.outputs, part.mask)
        if not arrays:
            arrays = [_room(tensor, len(inputs), store, site) for site, tensor in enumerate(tensors)]
        for array, tensor in zip(arrays, tensors, strict=True):
            array[start : start + len(tensor)] = tensor.cpu()
    model.train(was_training)
    return Trajectory(tuple(arrays[:-2]), arrays[-2], arrays[-1])


def _room(like: Tensor, rows: int, store: Path | None, number: int) -> Tensor:
    shape = (rows, *like.shape[1:])
    if store is None:
        return torch.empty(shape, dtype=like.dtype)
    try:
        store.mkdir(parents=True, exist_ok=True)
        dtype = torch.empty(0, dtype=like.dtype).numpy().dtype
        array = np.lib.format.open_memmap(store / f"{number}.npy", mode="w+", dtype=dtype, shape=shape)
    except OSError as error:
        raise DynamoError(
            f"cannot keep recordings in {store}: {error.strerror or error}; free some room or choose another folder"
        ) from None
    return torch.from_numpy(array)
