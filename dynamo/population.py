"""A population: trained base models with their names, labels and data, in memory and on disk.

On disk it is a folder with ``population.toml`` (the manifest) and one file of weights per model. Reading it runs no
code but that of installed plugins: a model's architecture is looked up by name, its weights are read as plain tensors,
and only when they are needed.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from math import isfinite
from numbers import Integral, Real
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from dynamo import __version__
from dynamo.data import Dataset
from dynamo.errors import DynamoError, has_control_characters
from dynamo.locks import locked
from dynamo.options import Spec
from dynamo.plugins import full_spec, make
from dynamo.protocols import DynamicalModel
from dynamo.spaces import InputSpace, OutputSpace
from dynamo.storage import check_writable, read_toml, sha256, tensors_to_bytes, write_bytes, write_toml
from dynamo.weights import Form, StoredModel, check_finite

MANIFEST = "population.toml"
FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Label = str | int | float | bool


@attrs.frozen(eq=False)
class BaseModel:
    """One trained network of a population.

    Attributes:
        name: unique in its population.
        data: its data set, or the spec of it.
        labels: what is known of it (training fraction, epoch, architecture, task, seed, accuracy); colours the map.
        architecture: the spec that rebuilds it; None for a live module, which can be fitted but not saved.
        data_fingerprint: that of the data set it was trained on, where it is known; a changed data set is refused.
    """

    name: str
    _model: DynamicalModel | StoredModel
    data: Dataset | Spec
    labels: Mapping[str, Label] = attrs.field(factory=dict)
    architecture: Spec | None = None
    data_fingerprint: str | None = None

    @property
    def model(self) -> DynamicalModel:
        """The network, frozen and in eval mode.

        Where the population was loaded, it is read from its file when it is asked for, and forgotten when nobody holds
        it any more: hold it where it is used more than once.

        Raises:
            DynamoError: its file is missing or damaged, or values are not finite.
        """
        return self._model.read() if isinstance(self._model, StoredModel) else self._model

    @property
    def inputs(self) -> InputSpace:
        """The space of its inputs; like the next ones, known without its weights."""
        return self._model.inputs

    @property
    def outputs(self) -> OutputSpace:
        """The space of its outputs."""
        return self._model.outputs

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of its state at each site."""
        return self._model.state_shapes

    def check(self) -> None:
        """Raise a clear error where it cannot stand in a population. What is stored was checked when it was opened, and
        its values are when they are read.
        """
        if not NAME.fullmatch(self.name):
            raise DynamoError(f"{self.name!r} cannot be a model's name: use letters, digits, '.', '_' and '-'")
        check_labels(self.labels, f"model {self.name!r}")
        if isinstance(self._model, StoredModel):
            return
        if not isinstance(self._model, DynamicalModel):
            raise DynamoError(
                f"model {self.name!r} is a {type(self._model).__name__}, which is no DynamicalModel: derive from "
                "dynamo.DynamicalModel, or wrap its layers in an architecture of a plugin (for recurrent layers of "
                "torch: dynamo_rnn.models.GRU, TanhRNN or LSTM)"
            )
        check_finite(self._model, self.name)

    @property
    def fingerprint(self) -> str:
        """The sha256 of its weights in the safetensors format."""
        if isinstance(self._model, StoredModel):
            return self._model.fingerprint
        return sha256(tensors_to_bytes(self._model.state_dict()))


class Population(Sequence[BaseModel]):
    """Base models that take the same inputs, in a fixed order.

    Raises:
        DynamoError: no models, names used twice or unfit for a file, weights that are not finite, or input spaces
        that differ.
    """

    def __init__(self, models: Sequence[BaseModel], *, path: Path | None = None) -> None:
        if not models:
            raise DynamoError("the population is empty: it needs at least one model")
        self._models = tuple(models)
        self._datasets: dict[str, Dataset] = {}
        self._fingerprints: dict[str, str] = {}
        self.path = path
        seen: set[str] = set()
        for base in models:
            base.check()
            if base.name in seen:
                raise DynamoError(f"two models are called {base.name!r}: names must be unique in a population")
            seen.add(base.name)
            if base.inputs != models[0].inputs:
                raise DynamoError(
                    f"models {models[0].name!r} and {base.name!r} take different inputs ({models[0].inputs}; "
                    f"{base.inputs}): one meta-model needs one input space; make them of data sets that share "
                    "a vocabulary or an input size"
                )

    @classmethod
    def of(
        cls,
        models: Mapping[str, DynamicalModel],
        data: Dataset | Spec | str,
        labels: Mapping[str, Mapping[str, Label]] | None = None,
    ) -> "Population":
        """A population of live models that share one data set.

        Args:
            models: name to model. Any ``nn.Module`` that is a :class:`~dynamo.protocols.DynamicalModel`.
            data: the data set, or the spec of a registered one (``"digits-rows"``).
            labels: model name to labels.
        """
        data = data if isinstance(data, Dataset) else Spec.of(data)
        labels = labels or {}
        return cls([BaseModel(name, model, data, labels.get(name, {})) for name, model in models.items()])

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[BaseModel]:
        return iter(self._models)

    def __getitem__(self, index: Any) -> Any:
        return self._models[index]

    @property
    def inputs(self) -> InputSpace:
        """The input space that all models share."""
        return self._models[0].inputs

    def select(self, keep: Sequence[bool]) -> "Population":
        """The models for which ``keep``, one truth value a model, is true."""
        chosen = Population([base for base, kept in zip(self, keep, strict=True) if kept], path=self.path)
        chosen._datasets, chosen._fingerprints = self._datasets, self._fingerprints
        return chosen

    def dataset(self, base: BaseModel) -> Dataset:
        """A model's data set, built once for all models that name it alike.

        Raises:
            DynamoError: the data set does not fit the model, or is not the one that it was trained on.
        """
        key, where = _data_key(base)
        if key not in self._datasets:
            made = base.data if isinstance(base.data, Dataset) else make("dataset", base.data, Dataset)
            made.check(where)
            self._datasets[key] = made
        dataset = self._datasets[key]
        if dataset.inputs != base.inputs or dataset.outputs != base.outputs:
            raise DynamoError(
                f"model {base.name!r} ({base.inputs}; {base.outputs}) does not fit its data set "
                f"{where!r} ({dataset.inputs}; {dataset.outputs}): has the data set changed since it was trained?"
            )
        if base.data_fingerprint is not None and base.data_fingerprint != self._data_fingerprint(key):
            raise DynamoError(
                f"the data set {where!r} has changed since model {base.name!r} was trained on it: restore it; to use "
                f"it as it is, remove the lines 'data_fingerprint' and 'digest' from {MANIFEST}"
            )
        return dataset

    def _data_fingerprint(self, key: str) -> str:
        """The fingerprint of a data set that is built, by its key."""
        if key not in self._fingerprints:
            self._fingerprints[key] = self._datasets[key].fingerprint()
        return self._fingerprints[key]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all names and weights: a checkpoint belongs to the population with the same one."""
        parts = [base.name + base.fingerprint for base in self]
        return sha256("".join(parts).encode())[:16]

    @cached_property
    def data_fingerprints(self) -> list[str]:
        """The fingerprints of the data sets, each once, in the order of the models."""
        datasets = {id(self.dataset(base)): base for base in self}
        return [self._data_fingerprint(_data_key(base)[0]) for base in datasets.values()]

    def save(self, folder: Path | str) -> None:
        """Write the population to a new folder.

        Raises:
            DynamoError: the folder has a population already, a live model has no registered architecture, or the disk
            refuses.
        """
        folder = Path(folder)
        with locked(folder):
            if (folder / MANIFEST).exists():
                raise DynamoError(f"{folder} holds a population already: choose another folder")
            writer = PopulationWriter(folder)
            for base in self:
                writer.check(base)
            writer.add(*self)

    @classmethod
    def load(cls, folder: Path | str) -> "Population":
        """Open a population. Its weights stay in their files until they are needed, see :attr:`BaseModel.model`.

        Raises:
            DynamoError: what is missing, truncated, mis-shaped, of another version, or naming a component that is not
            installed.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DynamoError(f"there is no population at {folder}: make one with `dynamo train {folder}`")
        forms: dict[str, Form] = {}
        return cls([_open_model(folder, entry, forms) for entry in _read_entries(folder)], path=folder)


class PopulationWriter:
    """Adds models to a population's folder; after each call of :meth:`add` the folder is a whole population. One writer
    at a time: hold the folder with :func:`dynamo.locks.locked`.

    Attributes:
        names: the names in use.

    Raises:
        DynamoError: the folder cannot be written, or holds a population that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = _read_entries(folder) if (folder / MANIFEST).exists() else []
        self.names = {str(entry["name"]) for entry in self.entries}
        check_writable(folder / "weights")
        check_writable(folder)

    def check(self, base: BaseModel) -> None:
        """Raise a clear error where the model cannot be written."""
        base.check()
        if base.architecture is None or not isinstance(base.data, Spec):
            raise DynamoError(
                f"model {base.name!r} is a live module: to save it, register its architecture and its data set as "
                "components and give their specs (BaseModel(..., architecture=Spec('name'), data=Spec('name')))"
            )
        if base.name in self.names:
            raise DynamoError(f"{self.folder} has a model called {base.name!r} already")

    def check_data(self, data: Spec, fingerprint: str) -> None:
        """Raise a clear error where models of the folder were trained on other data under the same spec."""
        for entry in self.entries:
            if entry["dataset"] == data.table() and entry.get("data_fingerprint", fingerprint) != fingerprint:
                raise DynamoError(
                    f"the data set {data.name!r} has changed since {entry['name']!r} in {self.folder} was trained on "
                    "it: restore it, or choose another folder"
                )

    def add(self, *models: BaseModel) -> None:
        """Write the models' weights, then the manifest that names them."""
        for base in models:
            self.entries.append(self._write_weights(base))
            self.names.add(base.name)
        write_toml(self.folder / MANIFEST, {"format": FORMAT, "dynamo": __version__, "models": self.entries})

    def _write_weights(self, base: BaseModel) -> dict[str, Any]:
        self.check(base)
        assert base.architecture is not None
        assert isinstance(base.data, Spec)
        weights = f"weights/{base.name}.safetensors"
        content = tensors_to_bytes(base.model.state_dict())
        write_bytes(self.folder / weights, content)
        return {
            "name": base.name,
            "weights": weights,
            "sha256": sha256(content),
            "architecture": full_spec("architecture", base.architecture).table(),
            "dataset": full_spec("dataset", base.data).table(),
            "inputs": base.inputs.table(),
            "outputs": base.outputs.table(),
            "labels": dict(base.labels),
            "data_fingerprint": base.data_fingerprint,
        }


def _data_key(base: BaseModel) -> tuple[str, str]:
    """What tells a model's data set from others, and its name for messages."""
    if isinstance(base.data, Dataset):
        return f"live {id(base.data)}", f"of model {base.name}"
    return str(full_spec("dataset", base.data)), base.data.name


def check_labels(labels: Any, where: str) -> None:
    """Labels are a table of texts, truth values and finite numbers.

    Raises:
        DynamoError: they are not.
    """
    if not isinstance(labels, Mapping):
        raise DynamoError(f"{where}: the labels are {labels!r}; they must be a table")
    for key, value in labels.items():
        text = f"{key}{value}" if isinstance(value, str) else str(key)
        number = abs(int(value)) < 2**63 if isinstance(value, Integral) else isinstance(value, Real) and isfinite(value)
        if not (number or isinstance(value, str)) or has_control_characters(text):
            raise DynamoError(
                f"{where}: the label {key!r} is {value!r}; labels are texts without control characters, finite numbers "
                "of up to 64 bits, or truth values"
            )


def _read_entries(folder: Path) -> list[dict[str, Any]]:
    """The tables of the models in a population's manifest."""
    path = folder / MANIFEST
    entries = read_toml(path, what="population", format_version=FORMAT, known=("models",)).get("models", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DynamoError(f"{path}: 'models' must be a list of tables")
    for entry in entries:
        missing = {"name", "weights", "architecture", "dataset", "inputs", "outputs"} - entry.keys()
        if missing:
            raise DynamoError(f"{path}, model {entry.get('name')!r} lacks {', '.join(sorted(missing))}")
    return entries


def _open_model(folder: Path, entry: Mapping[str, Any], forms: dict[str, Form]) -> BaseModel:
    """The base model of an entry of the manifest; ``forms`` holds those of the entries before, and then its own."""
    name = str(entry["name"])
    where = f"{folder / MANIFEST}, model {name!r}"
    try:
        architecture, dataset = Spec.of(entry["architecture"]), Spec.of(entry["dataset"])
        inputs, outputs = InputSpace.of(entry["inputs"]), OutputSpace.of(entry["outputs"])
    except DynamoError as error:
        raise DynamoError(f"{where}: {error}") from None
    path, digest = _find_weights(folder, str(entry["weights"]), where), entry.get("sha256")
    kind = repr((architecture, inputs, outputs))
    if kind not in forms:
        forms[kind] = Form.of(partial(make, "architecture", architecture, DynamicalModel, inputs, outputs), where)
    stored = StoredModel(name, forms[kind], path, None if digest is None else str(digest), where)
    return BaseModel(name, stored, dataset, entry.get("labels", {}), architecture, entry.get("data_fingerprint"))


def _find_weights(folder: Path, name: str, where: str) -> Path:
    """The file of that name; it must lie inside the folder, also where it is a link."""
    weights = PurePosixPath(name)
    inside = Path(os.path.realpath(folder / weights)).is_relative_to(os.path.realpath(folder))
    if weights.is_absolute() or ".." in weights.parts or not inside:
        raise DynamoError(f"{where}: the weights {name!r} must lie inside the population's folder")
    return folder / weights
