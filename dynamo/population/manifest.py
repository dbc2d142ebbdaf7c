"""A population's folder: the manifest (:mod:`dynamo.population.entries`), one file of weights per network, or one of
those of many that are saved together, and one file of trajectories per recorded system.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dynamo.contracts.data import Dataset
from dynamo.contracts.encoding import Reencoded
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import refuse_links, sha256, write_bytes
from dynamo.contracts.options import Spec, plain_table
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo.population.base_model import BaseModel
from dynamo.population.data_paths import absolute, relative_paths, resolved
from dynamo.population.entries import FILE, MANIFEST, MOST, PARTS, Entries, find_inside
from dynamo.population.recorded import StoredRecording
from dynamo.population.recording import trajectories
from dynamo.population.stored_data import StoredData, data_to_bytes
from dynamo.population.weights import Form, StoredModel, load_module
from dynamo.registry import full_spec, make
from dynamo.system.storage import check_writable, tensors_to_bytes
from dynamo.system.tensor_files import TensorFile

#: The folders of the models' files.
WEIGHTS, RECORDINGS, PACKS = "weights", "recordings", "packs"
#: Of more networks than :data:`~dynamo.population.entries.MOST` that are saved together the weights of several lie in
#: one file, up to so many bytes.
PACK = 2**25
#: On so many inputs a model is compared with what is rebuilt of it, and so much may they differ, relative to the
#: largest value: by rounding, also where weights of half precision become single ones.
EXAMPLES, SAME = 8, 1e-2


class PopulationWriter:
    """Adds models to a population's folder; after each call of :meth:`add` the folder is a whole population. One writer
    at a time: hold the folder with :func:`dynamo.system.locks.locked`.

    Attributes:
        names: the names in use.

    Raises:
        DynamoError: the folder cannot be written, or holds a population that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries = Entries.read(folder) if (folder / MANIFEST).exists() else Entries(folder)
        self.names = {str(entry["name"]) for entry in self._entries.models}
        self._data: dict[int, tuple[Any, dict[str, str]]] = {}  # the data sets are held, so that ids stay theirs
        for part in (WEIGHTS, RECORDINGS, PACKS, PARTS):
            refuse_links(folder, folder / part)
            check_writable(folder / part)
        check_writable(folder)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The tables of the models that are there."""
        return self._entries.models

    def check(self, base: BaseModel, inputs: Inputs | None = None) -> None:
        """Raise a clear error where the model cannot be written, or would not be read again as it is.

        Args:
            base: the model.
            inputs: a few of its inputs, on which it is compared with what is rebuilt from its spec and its weights; not
                compared where they are None.
        """
        base.check()
        if base.architecture is None and not base.is_recording:
            raise DynamoError(
                f"model {base.name!r} is a live module that no component builds: save what it did with its data, "
                "as Population.save does, or register its architecture and give its spec (BaseModel(..., "
                "architecture=Spec('name')))"
            )
        if base.name in self.names:
            raise DynamoError(f"{self.folder} has a model called {base.name!r} already")
        if inputs is not None and not base.is_recording:
            check_rebuilt(base, inputs)

    def check_data(self, data: Spec, fingerprint: str) -> None:
        """Raise a clear error where models of the folder were trained on other data under the same spec."""
        for entry in self.entries:
            if _kept(entry):
                continue
            there = resolved(Spec.of(entry["dataset"]), entry.get("data_paths"), self.folder)
            same = (there.name, there.options) == (data.name, plain_table(data.options))
            if same and entry.get("data_fingerprint", fingerprint) != fingerprint:
                raise DynamoError(
                    f"the data set {data.name!r} has changed since {entry['name']!r} in {self.folder} was trained on "
                    "it: restore it, or choose another folder"
                )

    def add(self, *models: BaseModel, source: Mapping[str, Any] | None = None) -> None:
        """Write the models' weights or recordings, then the manifest that names them.

        Args:
            models: the models.
            source: what they were made of, for whoever reads the manifest.
        """
        files = self._write_packs(models) if len(models) > MOST else {}
        for base in models:
            self._entries.models.append(
                {**self._entry(base, files), "source": None if source is None else dict(source)}
            )
            self.names.add(base.name)
        self._entries.write()

    def _entry(self, base: BaseModel, files: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """The table of a model whose weights or recording are written, if they are not yet."""
        self.check(base)
        write = self._write_recording if base.is_recording else self._write_weights
        return {
            "name": base.name,
            **(files.get(base.name) or write(base)),
            **self._write_data(base.data),
            "inputs": base.inputs.table(),
            "outputs": base.outputs.table(),
            "metadata": dict(base.metadata),
            "data_fingerprint": base.data_fingerprint,
        }

    def _write_packs(self, models: Sequence[BaseModel]) -> dict[str, dict[str, Any]]:
        """Write the weights of many networks, those of several to a file; what the manifest keeps of each, by name."""
        tables: dict[str, dict[str, Any]] = {}
        waiting: list[tuple[BaseModel, bytes]] = []
        for base in (base for base in models if not base.is_recording):
            self.check(base)
            content = tensors_to_bytes(base.model.state_dict())
            if sum(len(other) for _, other in waiting) + len(content) > PACK:
                tables |= self._write_pack(waiting)
                waiting = []
            waiting.append((base, content))
        return tables | self._write_pack(waiting)

    def _write_pack(self, weights: Sequence[tuple[BaseModel, bytes]]) -> dict[str, dict[str, Any]]:
        if not weights:
            return {}
        content, start, tables = b"".join(own for _, own in weights), 0, {}
        name = f"{PACKS}/{sha256(content)[:16]}.safetensors-pack"
        write_bytes(self.folder / name, content)
        for base, own in weights:
            tables[base.name] = {**_weights_table(base, name, own), "part": [start, len(own)]}
            start += len(own)
        return tables

    def _write_weights(self, base: BaseModel) -> dict[str, Any]:
        weights = f"{WEIGHTS}/{base.name}.safetensors"
        content = tensors_to_bytes(base.model.state_dict())
        write_bytes(self.folder / weights, content)
        return _weights_table(base, weights, content)

    def _write_recording(self, base: BaseModel) -> dict[str, Any]:
        name, found = f"{RECORDINGS}/{base.name}.safetensors", base.recorded
        assert found is not None
        content, weights = tensors_to_bytes(base.trajectories.tensors()), found.weights_content()
        write_bytes(self.folder / name, content)
        entry: dict[str, Any] = {"recording": {FILE: name, "sha256": sha256(content)}}
        if weights is not None:
            entry |= {"weights": f"{WEIGHTS}/{base.name}.safetensors", "sha256": sha256(weights)}
            write_bytes(self.folder / entry["weights"], weights)
        return entry

    def _write_data(self, data: Dataset | StoredData | Spec) -> dict[str, Any]:
        """What the manifest keeps of a data set; one that no component makes is kept in a file of the folder."""
        if isinstance(data, Spec):
            spec = absolute(full_spec("dataset", data))
            return {"dataset": spec.table(), "data_paths": relative_paths(spec, self.folder) or None}
        if id(data) not in self._data:
            content = data.content() if isinstance(data, StoredData) else data_to_bytes(data)
            files = dict(filter(None, map(_kept, self.entries)))
            name = next((name for name, digest in files.items() if digest == sha256(content)), None)
            if name is None:
                name = f"data{f'-{len(files) + 1}' if files else ''}.safetensors"
                write_bytes(self.folder / name, content)
            self._data[id(data)] = data, {FILE: name, "sha256": sha256(content)}
        return {"dataset": self._data[id(data)][1]}


def _weights_table(base: BaseModel, weights: str, content: bytes) -> dict[str, Any]:
    assert base.architecture is not None
    architecture = full_spec("architecture", base.architecture).table()
    entry = {"weights": weights, "sha256": sha256(content), "architecture": architecture}
    if base.reading is not None:
        entry["encoding"] = {"name": base.reading[0], "inputs": base.reading[1].table()}
    return entry


def check_rebuilt(base: BaseModel, inputs: Inputs) -> None:
    """Compare a model on some inputs with what its architecture makes of its weights.

    Raises:
        DynamoError: it cannot be rebuilt, or is another model then.
    """
    assert base.architecture is not None
    model, where = base.model, f"model {base.name!r}"
    build = partial(build_model, base.architecture, base.inputs, base.outputs, base.reading)
    with torch.random.fork_rng(devices=[]):
        again = load_module(build, {name: value.cpu() for name, value in model.state_dict().items()}, where)
    found, wanted = next(trajectories(again, inputs)), next(trajectories(model, inputs))
    parts = [("its outputs", found.outputs, wanted.outputs)]
    parts += [("its states", *states) for states in zip(found.states, wanted.states, strict=False)]
    for what, one, other in parts:
        one, other = one.cpu().double(), other.cpu().double()
        if one.shape == other.shape and torch.allclose(one, other, SAME, SAME * float(other.abs().max()), True):
            continue
        raise DynamoError(
            f"{where} would be another one when it is read again: rebuilt from its architecture {base.architecture} "
            f"with its own weights, {what} differ; correct the architecture's options, or write a component that "
            "builds it"
        )


class Opener:
    """Opens the base models of a folder; what several have in common is made once.

    Args:
        folder: the population's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._forms: dict[str, Form] = {}
        self._paths: dict[str, Path] = {}
        self._data: dict[str, Spec | StoredData] = {}

    def open(self, entry: Mapping[str, Any]) -> BaseModel:
        """The base model of an entry of the manifest.

        Raises:
            DynamoError: what is missing, truncated, mis-shaped, or names a component that is not installed.
        """
        name = str(entry["name"])
        where = f"{self._folder / MANIFEST}, model {name!r}"
        try:
            architecture = None if "recording" in entry else Spec.of(entry["architecture"])
            dataset = self._find_data(entry, where)
            inputs, outputs = InputSpace.of(entry["inputs"]), OutputSpace.of(entry["outputs"])
            reading = _reading(entry.get("encoding"))
        except DynamoError as error:
            raise DynamoError(f"{where}: {error}") from None
        metadata, fingerprint = entry.get("metadata", entry.get("labels", {})), entry.get("data_fingerprint")
        if architecture is None:
            weights = None
            if "weights" in entry:
                weights = self._file(str(entry["weights"]), f"{where}: the weights"), str(entry.get("sha256"))
                TensorFile.open(weights[0])  # a file that is missing or cut is told now
            file = self._recording(entry["recording"], where)
            recording = StoredRecording(name, inputs, outputs, *file, where, weights)
            return BaseModel(name, recording, dataset, metadata, data_fingerprint=fingerprint)
        path, digest = self._file(str(entry["weights"]), f"{where}: the weights"), entry.get("sha256")
        kind = repr((architecture, inputs, outputs, reading))
        if kind not in self._forms:
            self._forms[kind] = Form.of(partial(build_model, architecture, inputs, outputs, reading), where)
        digest, part = None if digest is None else str(digest), _part(entry, where)
        stored = StoredModel(name, self._forms[kind], path, digest, where, part)
        return BaseModel(name, stored, dataset, metadata, architecture, fingerprint)

    def _file(self, name: str, where: str) -> Path:
        if name not in self._paths:
            self._paths[name] = find_inside(self._folder, name, where)
        return self._paths[name]

    def _recording(self, table: Any, where: str) -> tuple[Path, str]:
        """The file of a recording, and its sha256."""
        if not isinstance(table, Mapping) or {FILE, "sha256"} - table.keys():
            raise DynamoError(f"{where}: the recording must be a table with {FILE!r} and 'sha256'")
        return self._file(str(table[FILE]), f"{where}: the recording"), str(table["sha256"])

    def _find_data(self, entry: Mapping[str, Any], where: str) -> Spec | StoredData:
        """The data set of an entry: the spec of a component, or a file of the folder."""
        key = repr((entry["dataset"], entry.get("data_paths")))
        if key not in self._data:
            kept = _kept(entry)
            self._data[key] = (
                resolved(Spec.of(entry["dataset"]), entry.get("data_paths"), self._folder)
                if kept is None
                else StoredData(self._file(kept[0], f"{where}: the data"), kept[1])
            )
        return self._data[key]


def build_model(
    architecture: Spec, inputs: InputSpace, outputs: OutputSpace, reading: tuple[str, InputSpace] | None = None
) -> DynamicalModel:
    """A new network of an architecture.

    Args:
        architecture: its spec.
        inputs: the input space of its data set.
        outputs: its output space.
        reading: the encoding of the inputs that it reads, by name, and its space; None where it reads them as they are.

    Raises:
        DynamoError: it cannot be built for these spaces.
    """
    if reading is None:
        return make("architecture", architecture, DynamicalModel, inputs, outputs)
    encoding, own = reading
    return Reencoded(make("architecture", architecture, DynamicalModel, own, outputs), encoding, inputs)


def _reading(table: Any) -> tuple[str, InputSpace] | None:
    """The encoding that an entry's model reads, and its space."""
    if table is None:
        return None
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str) or "inputs" not in table:
        raise DynamoError("the encoding must be a table with 'name' and 'inputs'")
    return table["name"], InputSpace.of(table["inputs"])


def _part(entry: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Where the weights begin in their file and how many bytes they have; None where it has no others."""
    if "part" not in entry:
        return None
    part = entry["part"]
    if not isinstance(part, list) or len(part) != 2 or not all(type(size) is int and size >= 0 for size in part):
        raise DynamoError(f"{where}: 'part' must be where the weights begin in the file, and their bytes")
    return part[0], part[1]


def _kept(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """The file of the folder that an entry's data set is kept in, and its sha256; None where a component makes it."""
    table = entry["dataset"]
    if not isinstance(table, Mapping) or FILE not in table:
        return None
    return str(table[FILE]), str(table.get("sha256"))
