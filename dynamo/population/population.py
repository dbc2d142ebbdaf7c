"""A population: trained base models with their names, metadata and data, in memory and on disk.

On disk it is a folder with ``population.toml`` (the manifest) and one file of weights per model. Reading it runs no
code but that of installed plugins: a model's architecture is looked up by name, its weights are read as plain tensors,
and only when they are needed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import attrs
import numpy as np
import torch

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import (
    DynamoError,
    InvalidValueError,
    UnknownNameError,
    WrongTypeError,
    did_you_mean,
)
from dynamo.contracts.files import sha256
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import listed, table_html
from dynamo.contracts.spaces import InputSpace
from dynamo.population.base_model import BaseModel, MetadataValue
from dynamo.population.manifest import EXAMPLES, MANIFEST, PopulationWriter, open_model, read_entries
from dynamo.population.weights import Form
from dynamo.registry import full_spec, make
from dynamo.system.devices import find_device
from dynamo.system.locks import locked
from dynamo.system.tables import Table, columns_of, frame

if TYPE_CHECKING:
    from pandas import DataFrame


class Population(Sequence[BaseModel]):
    """Base models that take the same inputs, in a fixed order.

    ``population[0]`` and ``population["name"]`` are one of them; ``population[2:5]``, ``population[mask]`` with a truth
    value for each, and ``population[["one", "other"]]`` are populations of some.

    Raises:
        DynamoError: no models, names used twice or unfit for a file, weights that are not finite, or input spaces
        that differ.

    Example:
        >>> from dynamo import Population
        >>> population = Population.load("population")
        >>> population["digits-gru-100-s1"] is population[1]
        True
        >>> small = population[[base.metadata["fraction"] < 1 for base in population]]
        >>> [base.name for base in small[:2]]
        ['digits-gru-50-s0', 'digits-gru-50-s1']
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

    def __contains__(self, item: object) -> bool:
        return item in self.names if isinstance(item, str) else item in self._models

    @overload
    def __getitem__(self, which: int | str) -> BaseModel: ...

    @overload
    def __getitem__(self, which: "slice | Sequence[Any] | np.ndarray[Any, Any]") -> "Population": ...

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, str):
            return self._models[self._number(which)]
        if isinstance(which, slice):
            return self._of_some(range(len(self))[which])
        if hasattr(which, "__index__") and not getattr(which, "ndim", 0):
            return self._models[index(which)]
        return self._of_some(self._numbers(which))

    def _number(self, name: str) -> int:
        if name not in self.names:
            raise UnknownNameError(f"no model is called {name!r}: {did_you_mean(name, self.names)}")
        return self.names.index(name)

    def _numbers(self, which: Any) -> Sequence[int]:
        """The numbers of models from a mask, from numbers or from names."""
        try:
            items = list(which.tolist() if hasattr(which, "tolist") else which)
        except TypeError:
            items = [None]
        if items and all(isinstance(item, bool | np.bool_) for item in items):
            if len(items) != len(self):
                raise InvalidValueError(f"a mask of {len(items)} truth values does not fit {len(self)} models")
            return np.flatnonzero(items).tolist()
        if all(isinstance(item, str) for item in items):
            return [self._number(item) for item in items]
        if all(hasattr(item, "__index__") and not isinstance(item, bool) for item in items):
            return [range(len(self))[index(item)] for item in items]
        raise WrongTypeError(
            "a population is asked for a number, a name or a slice, or for a list of truth values, numbers or names; "
            f"not for {which!r:.100}"
        )

    def _of_some(self, numbers: Sequence[int]) -> "Population":
        if not numbers:
            raise InvalidValueError("no model is chosen: a population needs at least one")
        chosen = Population([self._models[number] for number in numbers], path=self.path)
        chosen._datasets, chosen._fingerprints = self._datasets, self._fingerprints
        return chosen

    @property
    def names(self) -> list[str]:
        """The models' names, in order."""
        return [base.name for base in self._models]

    def __repr__(self) -> str:
        kinds: dict[str, set[object]] = {}
        for base in self:
            for key, value in base.metadata.items():
                kinds.setdefault(key, set()).add(value)
        known = [f"{key} ({len(values)})" for key, values in kinds.items()]
        lines = [
            f"Population of {len(self)} {'model' if len(self) == 1 else 'models'}, {self.inputs}",
            f"  names     {listed(self.names, 3)}",
            f"  outputs   {listed(list(dict.fromkeys(str(base.outputs) for base in self)), 2)}",
            f"  metadata  {listed(known, 6) or 'none'}",
        ]
        return "\n".join([*lines, *([f"  folder    {self.path}"] if self.path else [])])

    def _repr_html_(self) -> str:
        return table_html(*self._table(), f"Population of {len(self)} models, {self.inputs}")

    def _table(self) -> Table:
        keys = list(dict.fromkeys(key for base in self for key in base.metadata))
        columns = ["name", *columns_of(keys, ["name"])]
        return columns, [[base.name, *(base.metadata.get(key) for key in keys)] for base in self]

    def table(self) -> "DataFrame":
        """The models' names and metadata as a data frame, a row for each; what a model lacks is missing.

        Raises:
            DynamoError: pandas is not installed.

        Example:
            >>> from dynamo import Population
            >>> table = Population.load("population").table()
            >>> table.groupby("fraction").size().to_dict()
            {0.5: 2, 1.0: 2}
        """
        return frame(self._table())

    @property
    def inputs(self) -> InputSpace:
        """The input space that all models share."""
        return self._models[0].inputs

    def select(self, keep: Sequence[bool]) -> "Population":
        """The models for which ``keep``, one truth value a model, is true."""
        return self[[bool(kept) for kept in keep]]

    def to(self, device: torch.device | str) -> "Population":
        """The same models on a device: copies of them, made when they are asked for.

        Raises:
            DynamoError: there is no such device here.
        """
        there = find_device(str(device))
        moved = Population([attrs.evolve(base, device=there) for base in self], path=self.path)
        moved._datasets, moved._fingerprints = self._datasets, self._fingerprints
        return moved

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
        if dataset.inputs == base.inputs and attrs.evolve(dataset.outputs, group=base.outputs.group) == base.outputs:
            if dataset.outputs.group != base.outputs.group:
                raise DynamoError(
                    f"model {base.name!r} says that its task is called {base.outputs.group!r}, its data set "
                    f"{where!r} that it is {dataset.outputs.group!r}: give both outputs the same group"
                )
        else:
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


def _data_key(base: BaseModel) -> tuple[str, str]:
    """What tells a model's data set from others, and its name for messages."""
    if isinstance(base.data, Dataset):
        return f"live {id(base.data)}", f"of model {base.name}"
    return str(full_spec("dataset", base.data)), base.data.name
