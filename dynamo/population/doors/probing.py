"""What imported networks are probed with: a registered data set, or a file of inputs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import attrs
import torch

from dynamo.contracts.data import Dataset, Examples
from dynamo.contracts.errors import DynamoError, InvalidValueError, did_you_mean
from dynamo.contracts.files import read_arrays
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.spaces import InputSpace, OutputSpace, Readout
from dynamo.contracts.trajectory import Inputs
from dynamo.population.data_paths import absolute
from dynamo.population.examples import examples_of, fitting
from dynamo.population.wrapping.batches import MASKS, TARGETS, VALUES
from dynamo.population.wrapping.wrap import Kind
from dynamo.registry import full_spec, make

#: How the spec of a data set with options begins; a letter and a colon alone are a drive.
_SPEC = re.compile(r"[a-z0-9][a-z0-9-]+:")


@attrs.define
class Answers:
    """What is known of the outputs of networks, as far as it is.

    Attributes:
        kind: ``classes`` or ``real``.
        size: how many.
        readout: when a network answers.
    """

    kind: Kind | None = None
    size: int | None = None
    readout: Readout | None = None

    @classmethod
    def read(cls, outputs: str | None, readout: str | None) -> "Answers":
        """From ``KIND`` or ``KIND:SIZE``, and the name of a readout.

        Raises:
            DynamoError: another text.
        """
        found = cls()
        if outputs is not None:
            kind, _, size = str(outputs).partition(":")
            if kind not in get_args(Kind) or (size and not (size.isdigit() and 0 < int(size) < 2**31)):
                raise DynamoError(f"cannot read the outputs {outputs!r}: write classes, real, classes:10 or real:3")
            found.kind, found.size = kind, int(size) if size else None  # type: ignore[assignment]
        if readout is not None:
            if readout not in get_args(Readout):
                raise DynamoError(f"the readout is {readout!r}: {did_you_mean(str(readout), get_args(Readout))}")
            found.readout = readout  # type: ignore[assignment]
        return found

    def for_one(self, known: Mapping[str, Any]) -> "Answers":
        """The same with what the metadata ``outputs`` and ``readout`` of a network say, where nothing else does.

        Raises:
            DynamoError: it cannot be read.
        """
        own = Answers.read(known.get("outputs"), known.get("readout"))
        return Answers(self.kind or own.kind, self.size or own.size, self.readout or own.readout)


@attrs.define
class Probes:
    """The data of the networks that are imported, all of which share it.

    Attributes:
        spec: a registered data set; None for a file of inputs.
        held_out, seed: what share of inputs is held out, and the seed of the draw.
    """

    spec: Spec | None
    held_out: float
    seed: int
    _examples: Examples | None
    _dataset: Dataset | None

    @classmethod
    def of(cls, data: str, held_out: float, seed: int) -> "Probes":
        """What ``data`` names: a file ``.npz``, or the spec of a registered data set.

        Raises:
            DynamoError: there is no such file or data set, or the file holds other arrays.
        """
        if not 0 < held_out < 1:
            raise InvalidValueError(f"held_out, a part of the inputs, is {held_out}: give a number between 0 and 1")
        if data.endswith(".npz") and not _SPEC.match(data):
            return cls(None, held_out, seed, _read(Path(data)), None)
        spec = absolute(full_spec("dataset", data))
        made = make("dataset", spec, Dataset)
        made.check(spec.name)
        return cls(spec, held_out, seed, None, made)

    @property
    def inputs(self) -> Inputs:
        """The inputs that networks are tried on."""
        if self._dataset is not None:
            return self._dataset.probes()
        assert self._examples is not None
        return self._examples.inputs

    @property
    def data(self) -> Dataset | Spec:
        """What base models are given for their data; call :meth:`dataset` first."""
        assert self._dataset is not None
        return self._dataset if self.spec is None else self.spec

    @property
    def input_space(self) -> InputSpace | None:
        """The input space, where it is known before a network is."""
        if self._dataset is not None:
            return self._dataset.inputs
        values = self.inputs.values
        if values.ndim == 4:
            return InputSpace("image", tuple(values.shape[1:]))
        return InputSpace("real", (values.shape[2],)) if values.is_floating_point() else None

    def outputs(self, answers: Answers) -> tuple[OutputSpace | None, Kind | None]:
        """The output space of networks, and its kind, as far as they are known before a network is."""
        if self._dataset is not None and self._dataset.outputs is not None:
            return self._dataset.outputs, self._dataset.outputs.kind  # type: ignore[return-value]
        kind, size, readout = answers.kind, answers.size, answers.readout
        targets = None if self._examples is None else self._examples.targets
        if targets is not None:
            kind = kind or ("real" if targets.is_floating_point() else "classes")
            if kind == "classes" and size is None:
                size = int(targets.max()) + 1
        if kind is None or size is None:
            return None, kind
        return OutputSpace(kind, size, readout or "last", group_of(kind, size, readout or "last")), kind

    def dataset(self, inputs: InputSpace, outputs: OutputSpace) -> Dataset:
        """The data set for networks of these spaces; made for the first, and the same for all.

        Raises:
            DynamoError: it does not fit them.
        """
        if self._dataset is None:
            assert self._examples is not None
            targets = self._examples.targets
            given = (None, None) if targets is None else (outputs, fitting(targets, outputs))
            made = Dataset.of_probes(inputs, self._examples.inputs, *given, held_out=self.held_out, seed=self.seed)
            made.check("the inputs")
            self._dataset = made
        task = self._dataset.outputs
        if self._dataset.inputs != inputs or (task is not None and task != outputs):
            wanted = self._dataset.inputs if self._dataset.inputs != inputs else task
            found = inputs if self._dataset.inputs != inputs else outputs
            raise DynamoError(f"it has {found}, and its data, like the networks before it, {wanted}")
        return self._dataset

    def fit_to(self, model: DynamicalModel, answers: Answers) -> OutputSpace:
        """The output space that a wrapped network has among these data.

        Raises:
            DynamoError: it is asked to answer at every step, and answers once.
        """
        space = model.outputs
        if self._dataset is not None and self._dataset.outputs is not None:
            return attrs.evolve(space, group=self._dataset.outputs.group)
        readout = answers.readout or space.readout
        if readout == "every" and space.readout == "last":
            raise DynamoError("it answers once for a sequence, and its readout shall be at every step")
        if answers.size not in (None, space.size):
            raise DynamoError(f"it has {space.size} outputs, not {answers.size}")
        return OutputSpace(space.kind, space.size, readout, group_of(space.kind, space.size, readout))


def group_of(kind: str, size: int, readout: str) -> str:
    """What outputs are called that nobody has named: networks with equal ones share a head."""
    return f"{kind}-{size}-{readout}"


def _read(path: Path) -> Examples:
    arrays = read_arrays(path)
    if "x_train" in arrays:
        raise DynamoError(f"{path} is a data set with training and test data: write --data arrays:path={path}")
    for parts in (VALUES, MASKS, TARGETS):
        found = [name for name in parts if name in arrays]
        if len(found) > 1:
            raise DynamoError(f"{path} has {found[0]!r} and also {found[1]!r}: give one or the other")
    unknown = [name for name in arrays if name not in (*VALUES, *MASKS, *TARGETS)]
    if unknown:
        known = did_you_mean(unknown[0], ("inputs", "input_ids", "mask", "attention_mask", "targets", "labels"))
        raise DynamoError(f"{path} has the array {unknown[0]!r}, which nothing would read: {known}")
    try:
        examples = examples_of(arrays)
    except DynamoError as error:
        raise error.at(str(path)) from None
    values = examples.inputs.values
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise DynamoError(f"{path} has NaN or infinite inputs: take them out, or mask them")
    return examples
