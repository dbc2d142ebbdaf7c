"""A population: trained base models with their names, metadata and data, in memory and on disk.

On disk it is a folder with ``population.toml`` (the manifest) and one file of weights per model. Reading it runs no
code but that of installed plugins: a model's architecture is looked up by name, its weights are read as plain tensors,
and only when they are needed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.files import sha256
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.spaces import InputSpace
from dynamo.population.base_model import BaseModel, MetadataValue
from dynamo.population.manifest import EXAMPLES, MANIFEST, PopulationWriter, open_model, read_entries
from dynamo.population.recorded import check_covers
from dynamo.population.stored_data import StoredData
from dynamo.population.weights import Form
from dynamo.registry import full_spec, make
from dynamo.system.locks import locked


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
        metadata: Mapping[str, Mapping[str, MetadataValue]] | None = None,
    ) -> "Population":
        """A population of live models that share one data set.

        Args:
            models: name to model. Any ``nn.Module`` that is a :class:`~dynamo.contracts.protocols.DynamicalModel`.
            data: the data set, or the spec of a registered one (``"digits-rows"``).
            metadata: model name to its metadata.

        Raises:
            DynamoError: metadata for a model that is not there, or what :class:`Population` finds.
        """
        metadata = metadata or {}
        for name in metadata:
            if name not in models:
                raise DynamoError(f"there is metadata for {name!r}, but no such model: {did_you_mean(name, models)}")
        return cls([BaseModel(name, model, data, metadata.get(name, {})) for name, model in models.items()])

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
            made = _made(base.data)
            made.check(where)
            self._datasets[key] = made
        dataset = self._datasets[key]
        task = dataset.outputs or base.outputs  # without a task it fits models of any outputs
        if dataset.inputs != base.inputs or attrs.evolve(task, group=base.outputs.group) != base.outputs:
            raise DynamoError(
                f"model {base.name!r} ({base.inputs}; {base.outputs}) does not fit its data set "
                f"{where!r} ({dataset.inputs}; {task}): has the data set changed since it was trained?"
            )
        if task.group != base.outputs.group:
            raise DynamoError(
                f"model {base.name!r} says that its task is called {base.outputs.group!r}, its data set "
                f"{where!r} that it is {task.group!r}: give both outputs the same group"
            )
        if base.recorded is not None:
            check_covers(base.recorded, dataset, f"model {base.name!r}")
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
            DynamoError: the folder has a population already, a live model has no registered architecture or one that
                does not rebuild it, or the disk refuses.
        """
        folder = Path(folder)
        with locked(folder):
            if (folder / MANIFEST).exists():
                raise DynamoError(f"{folder} holds a population already: choose another folder")
            writer = PopulationWriter(folder)
            for base in self:
                writer.check(base, None if base.is_stored else self.dataset(base).test.inputs[:EXAMPLES])
            writer.add(*self)

    @classmethod
    def load(cls, folder: Path | str, names: Collection[str] | None = None) -> "Population":
        """Open a population. Its weights stay in their files until they are needed, see :attr:`BaseModel.model`.

        Args:
            folder: where it is.
            names: the models that are wanted; None for all.

        Raises:
            DynamoError: what is missing, truncated, mis-shaped, of another version, or naming a component that is not
            installed.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DynamoError(f"there is no population at {folder}: make one with `dynamo train {folder}`")
        forms: dict[str, Form] = {}
        entries = [entry for entry in read_entries(folder) if names is None or entry["name"] in names]
        return cls([open_model(folder, entry, forms) for entry in entries], path=folder)


def _made(data: Dataset | StoredData | Spec) -> Dataset:
    if isinstance(data, StoredData):
        return data.read()
    return data if isinstance(data, Dataset) else make("dataset", data, Dataset)


def _data_key(base: BaseModel) -> tuple[str, str]:
    """What tells a model's data set from others, and its name for messages."""
    if isinstance(base.data, Dataset):
        return f"live {id(base.data)}", f"of model {base.name}"
    if isinstance(base.data, StoredData):
        return str(base.data), str(base.data.path)
    return str(full_spec("dataset", base.data)), base.data.name
