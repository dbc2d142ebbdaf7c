"""A population: trained base models with their names, labels and data, in memory and on disk.

On disk it is a folder with ``population.toml`` (the manifest) and one file of weights per model. Reading it runs no
code but that of installed plugins: a model's architecture is looked up by name, its weights are read as plain tensors.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import torch

from dynamo import __version__
from dynamo.data import Dataset
from dynamo.errors import DynamoError
from dynamo.options import Spec
from dynamo.plugins import full_spec, make
from dynamo.protocols import DynamicalModel
from dynamo.spaces import InputSpace, OutputSpace
from dynamo.storage import check_writable, read_tensors, read_toml, sha256, tensors_to_bytes, write_bytes, write_toml

MANIFEST = "population.toml"
FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Label = str | int | float | bool


@attrs.frozen(eq=False)
class BaseModel:
    """One trained network of a population.

    Attributes:
        name: unique in its population.
        model: the network, frozen and in eval mode.
        data: its data set, or the spec of it.
        labels: what is known of it (training fraction, epoch, architecture, task, seed, accuracy); colours the map.
        architecture: the spec that rebuilds it; None for a live module, which can be fitted but not saved.
    """

    name: str
    model: DynamicalModel
    data: Dataset | Spec
    labels: Mapping[str, Label] = attrs.field(factory=dict)
    architecture: Spec | None = None


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
        self.path = path
        seen: set[str] = set()
        for base in models:
            _check_model(base)
            if base.name in seen:
                raise DynamoError(f"two models are called {base.name!r}: names must be unique in a population")
            seen.add(base.name)
            if base.model.inputs != models[0].model.inputs:
                raise DynamoError(
                    f"models {models[0].name!r} and {base.name!r} take different inputs ({models[0].model.inputs}; "
                    f"{base.model.inputs}): one meta-model needs one input space; make them of data sets that share "
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
        return self._models[0].model.inputs

    def select(self, keep: Sequence[bool]) -> "Population":
        """The models for which ``keep``, one truth value a model, is true."""
        chosen = Population([base for base, kept in zip(self, keep, strict=True) if kept], path=self.path)
        chosen._datasets = self._datasets
        return chosen

    def dataset(self, base: BaseModel) -> Dataset:
        """A model's data set, built once for all models that name it alike.

        Raises:
            DynamoError: the data set does not fit the model.
        """
        data = base.data
        if isinstance(data, Dataset):
            key, where = f"live {id(data)}", f"of model {base.name}"
        else:
            key, where = str(full_spec("dataset", data)), data.name
        if key not in self._datasets:
            made = data if isinstance(data, Dataset) else make("dataset", data, Dataset)
            made.check(where)
            self._datasets[key] = made
        dataset = self._datasets[key]
        if dataset.inputs != base.model.inputs or dataset.outputs != base.model.outputs:
            raise DynamoError(
                f"model {base.name!r} ({base.model.inputs}; {base.model.outputs}) does not fit its data set "
                f"{where!r} ({dataset.inputs}; {dataset.outputs}): has the data set changed since it was trained?"
            )
        return dataset

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all names and weights: a checkpoint belongs to the population with the same one."""
        parts = [base.name + sha256(tensors_to_bytes(base.model.state_dict())) for base in self]
        return sha256("".join(parts).encode())[:16]

    def save(self, folder: Path | str) -> None:
        """Write the population to a new folder.

        Raises:
            DynamoError: the folder has a population already, a live model has no registered architecture, or the disk
            refuses.
        """
        folder = Path(folder)
        if (folder / MANIFEST).exists():
            raise DynamoError(f"{folder} holds a population already: choose another folder")
        writer = PopulationWriter(folder)
        for base in self:
            writer.check(base)
        writer.add(*self)

    @classmethod
    def load(cls, folder: Path | str) -> "Population":
        """Read a population.

        Raises:
            DynamoError: what is missing, truncated, mis-shaped, of another version, or naming a component that is not
            installed.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DynamoError(f"there is no population at {folder}: make one with `dynamo train {folder}`")
        table = read_toml(folder / MANIFEST, what="population", format_version=FORMAT)
        entries = table.get("models", [])
        if not isinstance(entries, list):
            raise DynamoError(f"{folder / MANIFEST}: 'models' must be a list of tables")
        return cls([_read_model(folder, entry) for entry in entries], path=folder)


class PopulationWriter:
    """Adds models to a population's folder; after each call of :meth:`add` the folder is a whole population.

    Attributes:
        names: the names in use.

    Raises:
        DynamoError: the folder cannot be written, or holds a population that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[dict[str, Any]] = []
        if (folder / MANIFEST).exists():
            self.entries = list(
                read_toml(folder / MANIFEST, what="population", format_version=FORMAT).get("models", [])
            )
        self.names = {str(entry.get("name")) for entry in self.entries}
        check_writable(folder)

    def check(self, base: BaseModel) -> None:
        """Raise a clear error where the model cannot be written."""
        _check_model(base)
        if base.architecture is None or not isinstance(base.data, Spec):
            raise DynamoError(
                f"model {base.name!r} is a live module: to save it, register its architecture and its data set as "
                "components and give their specs (BaseModel(..., architecture=Spec('name'), data=Spec('name')))"
            )
        if base.name in self.names:
            raise DynamoError(f"{self.folder} has a model called {base.name!r} already")

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
            "inputs": base.model.inputs.table(),
            "outputs": base.model.outputs.table(),
            "labels": dict(base.labels),
        }


def _check_model(base: BaseModel) -> None:
    if not NAME.fullmatch(base.name):
        raise DynamoError(f"{base.name!r} cannot be a model's name: use letters, digits, '.', '_' and '-'")
    if not isinstance(base.model, DynamicalModel):
        raise DynamoError(
            f"model {base.name!r} is a {type(base.model).__name__}, which is no DynamicalModel: derive from "
            "dynamo.DynamicalModel, or wrap its layers in an architecture of a plugin (for recurrent layers of torch: "
            "dynamo_rnn.models.GRU, TanhRNN or LSTM)"
        )
    for key, tensor in base.model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DynamoError(
                f"model {base.name!r} has NaN or infinite values in {key!r}: its training diverged; leave it out"
            )


def _read_model(folder: Path, entry: Mapping[str, Any]) -> BaseModel:
    name = str(entry.get("name"))
    where = f"{folder / MANIFEST}, model {name!r}"
    missing = {"name", "weights", "architecture", "dataset", "inputs", "outputs"} - entry.keys()
    if missing:
        raise DynamoError(f"{where} lacks {', '.join(sorted(missing))}")
    weights = PurePosixPath(str(entry["weights"]))
    if weights.is_absolute() or ".." in weights.parts:
        raise DynamoError(f"{where}: the weights {str(weights)!r} must lie inside the population's folder")
    architecture = Spec.of(entry["architecture"])
    inputs, outputs = InputSpace.of(entry["inputs"]), OutputSpace.of(entry["outputs"])
    tensors = read_tensors(folder / weights, entry.get("sha256"))
    try:
        model = make("architecture", architecture, DynamicalModel, inputs, outputs)
    except DynamoError as error:
        raise DynamoError(f"{where}: {error}") from None
    load_weights(model, tensors, where)
    model.eval().requires_grad_(False)
    return BaseModel(name, model, Spec.of(entry["dataset"]), dict(entry.get("labels", {})), architecture)


def load_weights(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Load a state dict strictly.

    Raises:
        DynamoError: names or shapes that differ, all of them named.
    """
    expected = module.state_dict()
    faults = [f"{key} is missing" for key in expected.keys() - tensors.keys()]
    faults += [f"{key} is not expected" for key in tensors.keys() - expected.keys()]
    faults += [
        f"{key} has shape {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & tensors.keys()
        if tensors[key].shape != expected[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise DynamoError(f"{where}: the weights do not fit the architecture: {'; '.join(sorted(faults)[:5])}{more}")
    module.load_state_dict(dict(tensors))
