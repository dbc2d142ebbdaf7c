"""Where the trajectories of base models come from: recordings, made once on unlabelled data and then read in any
order, or the models themselves, run on every batch.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs
import torch
from torch import Tensor

from dynamo.contracts.checks import checked_trajectory
from dynamo.contracts.errors import DynamoError, InvalidValueError
from dynamo.contracts.files import refuse_links
from dynamo.contracts.protocols import Augmentation, DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs, Trajectory, at_the_end, collate, join
from dynamo.system.devices import device_of, placed, without_tf32
from dynamo.system.progress import Progress, silent

if TYPE_CHECKING:
    from dynamo.population.base_model import BaseModel
    from dynamo.population.population import Population
    from dynamo.population.recording_cache import RecordingCache

#: What varies by less than this share of its mean square does not vary: what is left is rounding.
CONSTANT = 1e-12


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

    Attributes:
        inputs: the probe inputs.
        trajectory: the model's trajectories on them.
        room: trajectories of several models, one model after the other, of which these are a part.
        start: where they start there.

    Raises:
        InvalidValueError: a trajectory of another number of examples or steps than the inputs.
    """

    inputs: Inputs
    trajectory: Trajectory
    room: Trajectory = attrs.field(default=attrs.Factory(lambda self: self.trajectory, takes_self=True))
    start: int = 0

    __repr__ = brief

    def __attrs_post_init__(self) -> None:
        mask = self.trajectory.mask
        tensors = (*self.trajectory.states, self.trajectory.outputs)
        fits = len(mask) == len(self.inputs) and mask.shape[1] in (1, self.inputs.mask.shape[1])
        if not fits or any(tensor.shape[:2] != mask.shape for tensor in tensors):
            raise InvalidValueError(
                f"a recording has {len(self.inputs)} inputs of {self.inputs.mask.shape[1]} steps; its trajectory has "
                f"{[tuple(tensor.shape[:2]) for tensor in tensors]} examples and steps, and a mask {tuple(mask.shape)}"
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: Tensor) -> tuple[Inputs, Trajectory]:
        """Inputs and trajectory of some rows, in the precision of the outputs."""
        return self.inputs[rows], widened(self.trajectory[rows])


def widened(trajectory: Trajectory) -> Trajectory:
    """A trajectory whose states are in the precision of its outputs."""
    outputs = trajectory.outputs
    return Trajectory(tuple(state.to(outputs.dtype) for state in trajectory.states), outputs, trajectory.mask)


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

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.inputs)

    @torch.no_grad()
    def batch(self, rows: Tensor) -> tuple[Inputs, Trajectory]:
        """Inputs of some rows, and the trajectory on the model's device."""
        inputs = self.inputs[rows]
        if self.augmentation is not None:
            inputs = inputs.with_values(self.augmentation(inputs.values))
        with evaluating(self.model):
            return inputs.plain, self.model.trajectory(inputs.to(device_of(self.model)))


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
    longest real sequence among them; one step that stands for a whole sequence is put at its end. Recordings that have
    their inputs and their room in common are read in one go, in the precision in which they are kept.
    """
    recordings = [source for source in sources if isinstance(source, Recording)]
    common = {(id(recording.inputs), id(recording.room)) for recording in recordings}
    if len(recordings) == len(sources) and len(common) == 1:
        every = torch.cat(list(rows))
        starts = torch.tensor([recording.start for recording in recordings])
        starts = starts.repeat_interleave(torch.tensor([len(some) for some in rows]))
        batches = [(recordings[0].inputs[every], recordings[0].room[starts + every])]
    else:
        batches = [source.batch(some) for source, some in zip(sources, rows, strict=True)]
    inputs = collate([part for part, _ in batches])
    return inputs, join([at_the_end(run, part.mask) for part, run in batches], inputs.mask.shape[1])


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode, in single precision on a GPU too; afterwards each submodule is in its own mode again."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with without_tf32():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


@torch.no_grad()
def live(population: "Population", device: torch.device, augmentation: Augmentation | None = None) -> list[Source]:
    """Every base model as a live source on the probe inputs of its data set; those that are recordings are read.

    Args:
        population: the base models; on another device than their own, copies of them are run.
        device: where to run them.
        augmentation: see :class:`Live`.

    Raises:
        DynamoError: a model fails on its inputs, or breaks its contract, or inputs of a recording shall be augmented.
    """
    sources: list[Source] = []
    for base, probe in zip(population, _probes(population), strict=True):
        if base.is_recording and augmentation is None:
            sources.append(Recording(probe.plain.to(device), base.trajectories.probe.to(device)))
            continue
        model = placed(base.model, device)
        if augmentation is not None and base.reading is not None:
            raise DynamoError(
                f"model {base.name!r} reads its inputs as {base.reading[0]!r}: they cannot be augmented, since what is "
                "changed in one encoding is not changed in the other"
            )
        with evaluating(model):
            checked_trajectory(model, probe[:8].to(device), where=f"model {base.name!r}")
        sources.append(Live(model, probe, augmentation))
    return sources


def state_variances(trajectory: Trajectory) -> list[float]:
    """The variance of a base model's states at each site: over real steps, summed over units; 0 where they do not vary
    but for rounding.
    """
    real = [state.flatten(2)[trajectory.mask] for state in trajectory.states]
    found = [float((rows - rows.mean(0)).square().sum(1).mean()) for rows in real]
    size = [float(rows.square().sum(1).mean()) for rows in real]
    return [variance if variance > CONSTANT * square else 0.0 for variance, square in zip(found, size, strict=True)]


def record(
    population: "Population",
    folder: Path | None = None,
    progress: Progress = silent,
    precision: Literal["float32", "float16"] = "float32",
    device: torch.device | None = None,
    cache: "RecordingCache | None" = None,
) -> list[Recording]:
    """Run every base model on the probe inputs of its data set (section 4; :meth:`dynamo.Dataset.probes`).

    Args:
        population: the base models; they are run in eval mode, without gradients, and left as they were.
        folder: where to keep the recordings as memory-mapped files; in memory where it is None.
        progress: called with (model, models) after each.
        precision: of the states; float16 halves the room they take.
        device: where to run them, copies of those that are elsewhere; where they are, if it is None.
        cache: recordings that other fits have made, and to which those that are missing are added.

    Raises:
        DynamoError: a model fails or breaks its contract on its first batch, its trajectory holds NaN or Inf, states
            leave the range of float16, or the disk is full.
    """
    probes = _probes(population)
    plain = {id(probe): probe.plain for probe in probes}
    kinds = [(id(probe), base.state_shapes, base.outputs) for base, probe in zip(population, probes, strict=True)]
    rooms, recordings = _Rooms(folder, Counter(kinds)), list[Recording]()
    for number, (base, probe, kind) in enumerate(zip(population, probes, kinds, strict=True)):
        place = partial(rooms.find, kind, base.name, len(probe))
        key = cache and cache.key(base, population.data_fingerprint(base), precision, device)
        made = cache.read(key) if cache and key else None
        parts = iter([made]) if made else trajectories_of(base, "probe", probe, device, checked=True)
        room, start = _keep(parts, place, precision)
        trajectory = room.trajectory[start : start + len(probe)]
        if not all(bool(state.isfinite().all()) for state in (*trajectory.states, trajectory.outputs)):
            hint = "" if precision == "float32" else " (or some beyond the range of float16: record in float32)"
            raise DynamoError(
                f"model {base.name!r} gives NaN or infinite states or outputs on its data{hint}: leave it out"
            )
        if cache and key and not made:
            cache.write(key, trajectory)
        recordings.append(Recording(plain[id(probe)], trajectory, room.trajectory, start))
        progress(number + 1, len(population))
    if cache:
        cache.trim()
    return recordings


def kept_on(recordings: Sequence[Recording], device: torch.device) -> list[Recording]:
    """The recordings in the memory of a device, rooms and all; their inputs stay where they are."""
    rooms: dict[int, Trajectory] = {}
    moved = []
    for recording in recordings:
        room = recording.room
        if id(room) not in rooms:
            states = tuple(state.to(device) for state in room.states)
            rooms[id(room)] = Trajectory(states, room.outputs.to(device), room.mask.to(device))
        room = rooms[id(room)]
        own = room[recording.start : recording.start + len(recording)]
        moved.append(Recording(recording.inputs, own, room, recording.start))
    return moved


def _probes(population: "Population") -> list[Inputs]:
    """Each base model's probe inputs; the models of one data set share theirs."""
    probes: dict[int, Inputs] = {}
    for base in population:
        dataset = population.dataset(base)
        if id(dataset) not in probes:
            probes[id(dataset)] = dataset.probes()
    return [probes[id(population.dataset(base))] for base in population]


def run(model: DynamicalModel, inputs: Inputs, batch_size: int = 512) -> Trajectory:
    """A model's trajectory on any number of inputs, in batches, in eval mode, on the model's device.

    What comes back is on the CPU, in memory, in the model's own precision.
    """
    return _keep(trajectories(model, inputs, batch_size), lambda like: _Room.of(like, len(inputs)))[0].trajectory


def trajectories_of(
    base: "BaseModel",
    part: Literal["probe", "held_out"],
    inputs: Inputs,
    device: torch.device | None = None,
    batch_size: int = 512,
    *,
    checked: bool = False,
) -> Iterator[Trajectory]:
    """A base model's trajectories on inputs of its own data set, a batch at a time: as :func:`trajectories` gives them,
    or read where it is a recording.

    Args:
        base: the base model.
        part: which inputs these are: all probe inputs, or all that are held out, in the data set's order.
        inputs: the inputs themselves.
        device: where to run the model, and where the trajectories are; where it is, if it is None.
        batch_size: examples in a batch.
        checked: whether the first batch of a model that is run is checked.
    """
    if not base.is_recording:
        where = f"model {base.name!r}" if checked else ""
        yield from trajectories(placed(base.model, device), inputs, batch_size, where)
        return
    whole = base.trajectories.probe if part == "probe" else base.trajectories.held_out
    for start in range(0, len(inputs), batch_size):
        batch = whole[start : start + batch_size]
        yield batch if device is None else batch.to(device)


@torch.no_grad()
def trajectories(model: DynamicalModel, inputs: Inputs, batch_size: int = 512, where: str = "") -> Iterator[Trajectory]:
    """A model's trajectories on any number of inputs, a batch at a time, in eval mode, on the model's device: nothing
    is kept but one batch. The first batch is checked where ``where`` names the model.
    """
    device = device_of(model)
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size].to(device)
        is_checked = where and start == 0
        with evaluating(model):  # not while others work on what was given
            found = checked_trajectory(model, batch, where=where) if is_checked else model.trajectory(batch)
        yield found


@attrs.define(eq=False)
class _Room:
    """Room for the trajectories of models of one kind, one model after the other: one model's batch is then read as
    fast as that of many.

    Attributes:
        trajectory: all of it, in memory or in memory-mapped files.
        used: how many rows are taken.
    """

    trajectory: Trajectory
    used: int = 0

    @classmethod
    def of(cls, like: Sequence[Tensor], rows: int, store: Path | None = None) -> "_Room":
        """For that many rows of states at all sites, of outputs and of a mask; in files below ``store`` if given."""
        *states, outputs, mask = (
            _array((rows, *tensor.shape[1:]), tensor.dtype, None if store is None else store / f"{number}.bin")
            for number, tensor in enumerate(like)
        )
        return cls(Trajectory(tuple(states), outputs, mask))

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        return *self.trajectory.states, self.trajectory.outputs, self.trajectory.mask

    def holds(self, like: Sequence[Tensor]) -> bool:
        """Whether such rows can stand here unchanged."""
        return [(array.dtype, array.shape[1:]) for array in self.arrays] == [
            (tensor.dtype, tensor.shape[1:]) for tensor in like
        ]

    def add(self, tensors: Sequence[Tensor]) -> None:
        for array, tensor in zip(self.arrays, tensors, strict=True):
            array[self.used : self.used + len(tensor)] = tensor.cpu()
        self.used += len(tensors[0])


@attrs.frozen(eq=False)
class _Rooms:
    """The rooms of a population, one for the models of a kind.

    Attributes:
        folder: where their files are; in memory where it is None.
        counts: how many models there are of each kind.
    """

    folder: Path | None
    counts: Counter[Any]
    _made: dict[Any, _Room] = attrs.field(factory=dict, init=False)

    def find(self, kind: Any, name: str, rows: int, like: Sequence[Tensor]) -> _Room:
        """Where a model's rows go: with those of its kind, or for themselves where they are of another precision."""
        store = None if self.folder is None else self.folder / name
        if self.folder is not None and store is not None:
            refuse_links(self.folder.parent, store)
        if kind not in self._made:
            self._made[kind] = _Room.of(like, self.counts[kind] * rows, store)
        room = self._made[kind]
        return room if room.holds(like) else _Room.of(like, rows, store)


def _keep(
    parts: Iterator[Trajectory],
    place: Callable[[Sequence[Tensor]], _Room],
    precision: Literal["float32", "float16"] = "float32",
) -> tuple[_Room, int]:
    """Keep a base model's trajectories in the room that ``place`` gives for tensors like its own. The room, and where
    the model's rows start.
    """
    room, first = None, 0
    for part in parts:
        states = [state.half() if precision == "float16" else state for state in part.states]
        tensors = (*states, part.outputs, part.mask)
        if room is None:
            room = place(tensors)
            first = room.used
        room.add(tensors)
    assert room is not None
    return room, first


def _array(shape: tuple[int, ...], dtype: torch.dtype, path: Path | None) -> Tensor:
    if path is None:
        return torch.empty(shape, dtype=dtype)
    size = prod(shape)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("xb") as file:  # never into a file that was there, or by a link
            file.truncate(size * dtype.itemsize)
            if hasattr(os, "posix_fallocate"):  # a full disk is told here, and kills no process later
                os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
    except OSError as error:
        raise DynamoError(
            f"cannot keep recordings in {path.parent}: {error.strerror or error}; free some room or choose another "
            "folder"
        ) from None
    # Unlike numpy's, this memory map keeps no file open: thousands of models need no more open files than one.
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(shape)
