"""Recorded base models: systems of which nothing is known but what they did, on the inputs of their own data set."""

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import read_bytes, sha256
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Trajectory
from dynamo.system.storage import read_tensors, tensors_to_bytes
from dynamo.system.tensor_files import TensorFile

#: The two parts of a data set that a recording covers, and how they are called in a file.
PARTS = ("probe", "held_out")


@attrs.frozen(eq=False)
class Trajectories:
    """What a system did, in the order of its data set's inputs.

    A mask may have holes: a step that was not observed is False, whatever stands there.

    Attributes:
        probe: on the probe inputs, :meth:`dynamo.Dataset.probes`.
        held_out: on the inputs of :attr:`dynamo.Dataset.test`.
        offset, scale: ``state * scale + offset`` are the states at the first site in the units in which they were
            given, ``[H]``; None where they are as they were given.
    """

    probe: Trajectory
    held_out: Trajectory
    offset: Tensor | None = None
    scale: Tensor | None = None

    __repr__ = brief

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as it is written to a file."""
        found: dict[str, Tensor] = {}
        for part in PARTS:
            run: Trajectory = getattr(self, part)
            found |= {f"{part}.states.{site}": state for site, state in enumerate(run.states)}
            found |= {f"{part}.outputs": run.outputs, f"{part}.mask": run.mask}
        given = {"offset": self.offset, "scale": self.scale}
        return found | {name: tensor for name, tensor in given.items() if tensor is not None}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Trajectories":
        """Read :meth:`tensors` back."""

        def run(part: str) -> Trajectory:
            sites = sum(name.startswith(f"{part}.states.") for name in tensors)
            states = tuple(tensors[f"{part}.states.{site}"] for site in range(sites))
            return Trajectory(states, tensors[f"{part}.outputs"], tensors[f"{part}.mask"])

        return cls(run("probe"), run("held_out"), tensors.get("offset"), tensors.get("scale"))

    def original(self, states: Tensor) -> Tensor:
        """States ``[..., H]`` of the first site in the units in which they were given."""
        if self.offset is None or self.scale is None:
            return states
        return states * self.scale.to(states) + self.offset.to(states)


@attrs.frozen(eq=False)
class RecordedModel:
    """A base model that is a recording: it can be imitated, mapped and compared, and not be run on new inputs.

    Attributes:
        inputs, outputs: the spaces of its inputs and outputs.
        trajectories: what it did on the probe inputs and on the held-out inputs of its data set.
        weights: the state dict of the network that was recorded; None where it was none.

    Raises:
        DynamoError: trajectories that do not fit one another or the spaces.

    Example:
        >>> from dynamo import BaseModel, Dataset, Inputs, InputSpace, OutputSpace, Trajectory
        >>> from dynamo.population.recorded import RecordedModel, Trajectories
        >>> inputs = Inputs(torch.randn(20, 7, 3), torch.ones(20, 7, dtype=torch.bool))
        >>> data = Dataset.of_probes(InputSpace("real", (3,)), inputs)
        >>> def did(inputs):  # a system that adds up its inputs
        ...     sums = inputs.values.cumsum(1)
        ...     return Trajectory((sums,), sums, inputs.mask)
        >>> both = Trajectories(did(data.probes()), did(data.test.inputs))
        >>> base = BaseModel("sums", RecordedModel(data.inputs, OutputSpace("real", 3, "every"), both), data)
        >>> base.is_recording, base.state_shapes
        (True, ((3,),))
    """

    inputs: InputSpace
    outputs: OutputSpace
    trajectories: Trajectories
    weights: Mapping[str, Tensor] | None = None

    __repr__ = brief

    def __attrs_post_init__(self) -> None:
        check_form(self.trajectories.tensors(), self.outputs, "the recording")

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of its state at each site."""
        return tuple(tuple(state.shape[2:]) for state in self.trajectories.probe.states)

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Examples and steps, of the probe and of the held-out part."""
        probe, held_out = (tuple(run.mask.shape) for run in (self.trajectories.probe, self.trajectories.held_out))
        return probe, held_out  # type: ignore[return-value]

    @property
    def fingerprint(self) -> str:
        """The sha256 of the network's weights, or else of all of it, in the safetensors format."""
        weights = self.weights_content()
        return sha256(tensors_to_bytes(self.trajectories.tensors()) if weights is None else weights)

    def weights_content(self) -> bytes | None:
        """The weights in the safetensors format; None where there are none."""
        return None if self.weights is None else tensors_to_bytes(self.weights)

    def read(self) -> Trajectories:
        """What it did."""
        return self.trajectories


class StoredRecording:
    """A recording in a file. Its header is read when it is opened, the rest when it is asked for, and forgotten when
    nobody holds it.

    Args:
        name: of the base model, for messages.
        inputs, outputs: its spaces.
        path: the file, within its population's folder.
        digest: the file's sha256.
        where: what it belongs to, for messages.
        weights: the file with the weights of the network that was recorded, and its sha256; None where there is none.

    Attributes:
        fingerprint: the sha256 of the weights, or else of the recording.

    Raises:
        DynamoError: the file is missing or damaged, or its tensors are no trajectories of these spaces.
    """

    def __init__(
        self,
        name: str,
        inputs: InputSpace,
        outputs: OutputSpace,
        path: Path,
        digest: str,
        where: str,
        weights: tuple[Path, str] | None = None,
    ) -> None:
        self.inputs, self.outputs, self.weights = inputs, outputs, weights
        self.fingerprint = digest if weights is None else weights[1]
        self._name, self._path, self._digest, self._where = name, path.absolute(), digest, where
        self._held: Callable[[], Trajectories | None] = _nothing
        header = TensorFile.open(path).forms
        check_form(header, outputs, f"{where}: {path}")
        form = Trajectories.of(header)
        self.state_shapes = tuple(tuple(state.shape[2:]) for state in form.probe.states)
        self.sizes: Any = tuple(tuple(run.mask.shape) for run in (form.probe, form.held_out))

    def read(self) -> Trajectories:
        """What the system did; the same object for as long as somebody holds it.

        Raises:
            DynamoError: the file is missing, damaged or another than it was.
        """
        found = self._held()
        if found is None:
            tensors = read_tensors(self._path, self._digest)
            check_form(tensors, self.outputs, f"{self._where}: {self._path}")
            found = Trajectories.of(tensors)
            check_observed(found, f"model {self._name!r}")
            self._held = weakref.ref(found)
        return found

    def weights_content(self) -> bytes | None:
        """The content of the file of weights; None where there is none.

        Raises:
            DynamoError: it is missing or another than it was.
        """
        return None if self.weights is None else read_bytes(*self.weights)

    def __getstate__(self) -> dict[str, Any]:
        """Another process reads its own."""
        return {**vars(self), "_held": _nothing}


#: What a base model may be that is a recording.
Recorded = RecordedModel | StoredRecording


def _nothing() -> None:
    return None


def check_form(tensors: Mapping[str, Tensor], outputs: OutputSpace, where: str) -> None:
    """Check names, types and shapes of a recording's tensors; their values are not looked at.

    Raises:
        DynamoError: some are missing or unknown, or do not fit one another.
    """
    fault = _fault(tensors, outputs)
    if fault:
        raise DynamoError(f"{where} is no recording: {fault}")


def _fault(tensors: Mapping[str, Tensor], outputs: OutputSpace) -> str:
    sites = sum(name.startswith(f"{PARTS[0]}.states.") for name in tensors)
    named = [f"{part}.{name}" for part in PARTS for name in ("outputs", "mask")]
    named += [f"{part}.states.{site}" for part in PARTS for site in range(max(sites, 1))]
    known = {*named, "offset", "scale"}
    missing, unknown = set(named) - tensors.keys(), tensors.keys() - known
    if missing or unknown:
        what, which = ("lacks", missing) if missing else ("has the unknown tensor", unknown)
        return f"it {what} {', '.join(sorted(which)[:5])!r}"
    for part in PARTS:
        mask = tensors[f"{part}.mask"]
        if mask.dtype != torch.bool or mask.ndim != 2 or 0 in mask.shape:
            return f"{part}.mask is {_form(mask)}; it must be bool [examples, steps], at least one of each"
        shapes: dict[str, tuple[int, ...]] = {f"{part}.outputs": (outputs.size,)}
        shapes |= {f"{part}.states.{n}": tuple(tensors[f"{PARTS[0]}.states.{n}"].shape[2:]) for n in range(sites)}
        for name, shape in shapes.items():
            tensor, wanted = tensors[name], (*mask.shape, *shape)
            if tuple(tensor.shape) != wanted or not tensor.is_floating_point() or tensor.ndim < 3:
                return f"{name} is {_form(tensor)}; it must be real numbers {list(wanted)}"
            if name != f"{part}.outputs" and 0 in tensor.shape:
                return f"{name} is {_form(tensor)}; a state has at least one unit"
    for name in ("offset", "scale"):
        if name in tensors and tensors[name].shape != tensors["probe.states.0"].shape[2:]:
            return f"{name} is {_form(tensors[name])}; it must be {list(tensors['probe.states.0'].shape[2:])}"
    return ""


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def check_observed(trajectories: Trajectories, where: str) -> None:
    """Check that every example has an observed step, and that all is finite: what stands on other steps too, since a
    gradient would not pass over it.

    Raises:
        DynamoError: it is not so.
    """
    for part in PARTS:
        run: Trajectory = getattr(trajectories, part)
        empty = (~run.mask.any(1)).nonzero()
        if len(empty):
            raise DynamoError(f"{where}: example {int(empty[0])} ({part}) has no observed step: leave it out")
        for tensor in (*run.states, run.outputs):
            if not bool(tensor.isfinite().all()):
                raise DynamoError(
                    f"{where} has NaN or infinite values in its recording ({part}): put zeros there, and False into "
                    "the mask, or leave the model out"
                )


def check_covers(recorded: Recorded, data: Dataset, where: str) -> None:
    """Check that a recording has as many examples as its data set, and as many steps, or one for the whole input.

    Raises:
        DynamoError: it does not.
    """
    wanted = ((data.probe_size, data.train.inputs.mask.shape[1]), tuple(data.test.inputs.mask.shape))
    for part, found, (count, length) in zip(("probe", "held-out"), recorded.sizes, wanted, strict=True):
        if found[0] != count or found[1] not in (1, length):
            raise DynamoError(
                f"{where} was recorded on {found[0]} {part} inputs of {found[1]} steps; its data set has {count} of "
                f"{length} steps: give it the data that it was recorded on"
            )
