"""The data sets of a population's models: each is built once, and checked against every model that names it."""

import attrs

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.population.base_model import BaseModel
from dynamo.population.entries import MANIFEST
from dynamo.population.recorded import check_covers
from dynamo.population.stored_data import StoredData
from dynamo.registry import full_spec, make


@attrs.frozen(eq=False)
class DataSets:
    """Data sets that were built, and their fingerprints, by what the models name them."""

    _built: dict[str, Dataset] = attrs.field(factory=dict, init=False)
    _fingerprints: dict[str, str] = attrs.field(factory=dict, init=False)

    __repr__ = brief

    def of(self, base: BaseModel) -> Dataset:
        """A model's data set.

        Raises:
            DynamoError: the data set does not fit the model, or is not the one that it was trained on.
        """
        key, where = _key(base)
        if key not in self._built:
            made = _made(base)
            made.check(where)
            self._built[key] = made
        dataset = self._built[key]
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
        if base.data_fingerprint is not None and base.data_fingerprint != self._fingerprint(key):
            raise DynamoError(
                f"the data set {where!r} has changed since model {base.name!r} was trained on it: restore it; to use "
                f"it as it is, remove the lines 'data_fingerprint' and 'digest' from {MANIFEST}"
            )
        return dataset

    def fingerprint(self, base: BaseModel) -> str:
        """The fingerprint of a model's data set.

        Raises:
            DynamoError: what :meth:`of` finds.
        """
        self.of(base)
        return self._fingerprint(_key(base)[0])

    def _fingerprint(self, key: str) -> str:
        if key not in self._fingerprints:
            self._fingerprints[key] = self._built[key].fingerprint()
        return self._fingerprints[key]


def _made(base: BaseModel) -> Dataset:
    if isinstance(base.data, StoredData):
        return base.data.read()
    return base.data if isinstance(base.data, Dataset) else make("dataset", base.data, Dataset)


def _key(base: BaseModel) -> tuple[str, str]:
    """What tells a model's data set from others, and its name for messages."""
    if isinstance(base.data, Dataset):
        return f"live {id(base.data)}", f"of model {base.name}"
    if isinstance(base.data, StoredData):
        return str(base.data), str(base.data.path)
    return str(full_spec("dataset", base.data)), base.data.name
