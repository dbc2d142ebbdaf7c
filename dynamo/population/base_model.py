"""A base model: one trained network with its name, metadata and data."""

import re
from collections.abc import Mapping
from math import isfinite
from numbers import Integral, Real
from typing import Any

import attrs
import torch

from dynamo.contracts.checks import check_declaration
from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError, has_control_characters
from dynamo.contracts.files import sha256
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.population.recorded import Recorded, RecordedModel, StoredRecording, Trajectories, check_observed
from dynamo.population.stored_data import StoredData
from dynamo.population.weights import StoredModel, check_finite, reading_of
from dynamo.population.wrapping.model import WrappedModel
from dynamo.system.devices import placed
from dynamo.system.storage import tensors_to_bytes

#: What can be a model's name, and so the name of a file on every system.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

MetadataValue = str | int | float | bool


def _as_data(data: Any) -> Dataset | StoredData | Spec:
    return data if isinstance(data, Dataset | StoredData) else Spec.of(data)


def _as_architecture(spec: Any) -> Spec | None:
    return None if spec is None else Spec.of(spec)


def _as_metadata(metadata: Any) -> Any:
    """Metadata with numpy's and torch's numbers, truth values and texts as Python's."""
    if not isinstance(metadata, Mapping):
        return metadata  # for check_metadata to refuse
    return {key: value.item() if getattr(value, "ndim", None) == 0 else value for key, value in metadata.items()}


@attrs.frozen(eq=False)
class BaseModel:
    """One trained network of a population, or the recording of a system: see :meth:`dynamo.Population.from_recordings`.

    Attributes:
        name: unique in its population.
        data: its data set, in memory or in a file of its population, or the spec of it, also as text
            (``"arrays:path=data.npz"``).
        metadata: what is known of it (training fraction, epoch, architecture, task, seed, accuracy); colours the map.
        architecture: the spec that rebuilds it, or its text; None for a live module that no component builds: what it
            did on its data is saved of it, with its weights.
        data_fingerprint: that of the data set it was trained on, where it is known; a changed data set is refused.
        device: where it is to be; where it is, if it is None.
    """

    name: str
    _model: DynamicalModel | StoredModel | Recorded
    data: Dataset | StoredData | Spec = attrs.field(converter=_as_data)
    metadata: Mapping[str, MetadataValue] = attrs.field(factory=dict, converter=_as_metadata)
    architecture: Spec | None = attrs.field(default=None, converter=_as_architecture)
    data_fingerprint: str | None = None
    device: torch.device | None = None

    __repr__ = brief

    @property
    def model(self) -> DynamicalModel:
        """The network, frozen and in eval mode, on :attr:`device`.

        Where the population was loaded, it is read from its file when it is asked for, and forgotten when nobody holds
        it any more: hold it where it is used more than once.

        Raises:
            DynamoError: it is a recording, its file is missing or damaged, or values are not finite.
        """
        if isinstance(self._model, Recorded):
            raise self._does_not_run()
        return placed(self._model.read() if isinstance(self._model, StoredModel) else self._model, self.device)

    @property
    def is_stored(self) -> bool:
        """Whether it was opened from a file, and not given as a live module or recording."""
        return isinstance(self._model, StoredModel | StoredRecording)

    @property
    def recorded(self) -> Recorded | None:
        """The recording that it is; None where it is a network."""
        return self._model if isinstance(self._model, Recorded) else None

    @property
    def is_recording(self) -> bool:
        """Whether it is a recording, which cannot be run on new inputs."""
        return self.recorded is not None

    @property
    def trajectories(self) -> Trajectories:
        """What a recording holds; read from its file and forgotten as :attr:`model` is.

        Raises:
            DynamoError: it is no recording, or its file is missing or damaged.
        """
        if self.recorded is None:
            raise DynamoError(f"model {self.name!r} is a network, and no recording: see dynamo.record")
        return self.recorded.read()

    @property
    def inputs(self) -> InputSpace:
        """The space of its inputs; like the next ones, known without its weights."""
        return self._model.inputs

    @property
    def reading(self) -> tuple[str, InputSpace] | None:
        """The encoding of the inputs that it reads, by name, and its space; None where it reads them as they are."""
        if isinstance(self._model, Recorded):
            return None
        return self._model.reading if isinstance(self._model, StoredModel) else reading_of(self._model)

    @property
    def outputs(self) -> OutputSpace:
        """The space of its outputs."""
        return self._model.outputs

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of its state at each site."""
        return self._model.state_shapes

    def as_recording(self, trajectories: Trajectories) -> "BaseModel":
        """The network as a recording of what it did, with its weights."""
        recorded = RecordedModel(self.inputs, self.outputs, trajectories, weights_of(self.model))
        return BaseModel(self.name, recorded, self.data, self.metadata, data_fingerprint=self.data_fingerprint)

    def check_runs(self) -> None:
        """Raise a clear error where it cannot be run on new inputs."""
        if self.is_recording:
            raise self._does_not_run()

    def check_steps(self) -> None:
        """Raise a clear error where it cannot be run step by step beside the meta-model: it is a recording, or reads
        another encoding.
        """
        self.check_runs()
        if self.reading is not None:
            raise DynamoError(
                f"model {self.name!r} reads its inputs as {self.reading[0]!r}, and so on another clock than the "
                "meta-model: what is asked compares them step by step; leave it out"
            )

    def _does_not_run(self) -> DynamoError:
        fault = f"model {self.name!r} is a recording: it cannot be run on new inputs"
        if isinstance(self._model, StoredRecording) and self._model.weights is not None:
            fault += (
                f"; it was a network whose code is not here: build the network, load its weights, which are in "
                f"{self._model.weights[0]}, and put it in a population with dynamo.wrap"
            )
        return DynamoError(fault)

    def check(self) -> None:
        """Raise a clear error where it cannot stand in a population. What is stored was checked when it was opened, and
        its values are when they are read.
        """
        check_name(self.name)
        check_metadata(self.metadata, f"model {self.name!r}")
        if self.is_stored:
            return
        if isinstance(self._model, Recorded):
            check_observed(self.trajectories, f"model {self.name!r}")
            return
        if not isinstance(self._model, DynamicalModel):
            raise DynamoError(
                f"model {self.name!r} is a {type(self._model).__name__}, which is no DynamicalModel: derive from "
                "dynamo.DynamicalModel, or wrap its layers in an architecture of a plugin (for recurrent layers of "
                "torch: dynamo_rnn.models.GRU, TanhRNN or LSTM)"
            )
        check_declaration(self._model, where=f"model {self.name!r}")
        check_finite(self._model, self.name)

    @property
    def fingerprint(self) -> str:
        """The sha256 of its weights, or of its recording, in the safetensors format."""
        if isinstance(self._model, StoredModel | Recorded):
            return self._model.fingerprint
        return sha256(tensors_to_bytes(weights_of(self._model)))


def weights_of(model: DynamicalModel) -> dict[str, torch.Tensor]:
    """A network's state dict; of a wrapped module that of the module itself."""
    return (model.module if isinstance(model, WrappedModel) else model).state_dict()


def check_name(name: str) -> None:
    """Check that a text can be a model's name.

    Raises:
        DynamoError: it has characters that names of files lack on some system, or more than 200.
    """
    if len(name) > 200:
        raise DynamoError(f"the name {name[:40]!r}… has {len(name)} characters: a model's name has 200 at most")
    if not NAME.fullmatch(name):
        raise DynamoError(
            f"{name!r} cannot be a model's name: it starts with a letter or digit, and consists of letters, digits, "
            "'.', '_' and '-'"
        )


def check_metadata(metadata: Any, where: str) -> None:
    """Check that metadata is a table of texts, truth values and finite numbers.

    Raises:
        DynamoError: it is not.
    """
    if not isinstance(metadata, Mapping):
        raise DynamoError(f"{where}: the metadata is {metadata!r}; it must be a table")
    for key, value in metadata.items():
        text = f"{key}{value}" if isinstance(value, str) else str(key)
        number = abs(int(value)) < 2**63 if isinstance(value, Integral) else isinstance(value, Real) and isfinite(value)
        if not (number or isinstance(value, str)) or has_control_characters(text):
            raise DynamoError(
                f"{where}: the metadata {key!r} is {value!r}; give a text without control characters, a finite number "
                "of up to 64 bits, or a truth value"
            )


def is_written(value: MetadataValue | None, text: str) -> bool:
    """Whether a piece of metadata is what a user wrote: a text as it is, a number in any way (``1`` is 1.0), a truth
    value with a capital or without.
    """
    if value is None or isinstance(value, str) or str(value) == text:
        return value is not None and str(value) == text
    if isinstance(value, bool):
        return str(value).lower() == text.lower()
    try:
        return "_" not in text and value == float(text)
    except ValueError:
        return False
