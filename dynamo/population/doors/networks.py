"""Networks from a folder of files: what ``dynamo import FOLDER`` does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import sha256
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.population.base_model import BaseModel, MetadataValue
from dynamo.population.doors.building import OwnModule, Recognised, Registered
from dynamo.population.doors.probing import Answers, Probes
from dynamo.population.doors.sources import Source, sources_in
from dynamo.population.manifest import EXAMPLES, PopulationWriter
from dynamo.population.metadata import tables_of
from dynamo.population.population import Population
from dynamo.population.recorded import Trajectories
from dynamo.population.recording import run
from dynamo.population.stored_data import StoredData, data_to_bytes
from dynamo.population.weights import check_finite
from dynamo.population.wrapping.model import Time
from dynamo.population.wrapping.wrap import wrap
from dynamo.system.bars import stages_of
from dynamo.system.locks import locked
from dynamo.system.progress import Setting, Stages

#: On so many inputs a network is tried.
_TRIED = 8


@attrs.frozen
class Imported:
    """What came of an import.

    Attributes:
        population: the networks that are in the folder now.
        left_out: those that could not be imported, with the reason.
        already: how many were there before.
    """

    population: Population
    left_out: Mapping[str, str]
    already: int

    __repr__ = brief


def import_networks(
    source: Path | str,
    out: Path | str,
    data: str,
    *,
    architecture: Spec | str | None = None,
    module: str | None = None,
    module_options: Mapping[str, str] | None = None,
    metadata: Any = None,
    outputs: str | None = None,
    readout: str | None = None,
    states: Sequence[str] | None = None,
    time: Time | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    progress: Stages | Setting = False,
) -> Imported:
    """Make a population of the networks in a folder: state dicts (``.pt``, ``.pth``, ``.safetensors``), checkpoints of
    training tools and of Lightning (``.ckpt``), models and checkpoints of ``transformers``.

    Files are read without running code in them. Each network is on the disk as soon as it is imported, so that an
    import that was cut off goes on when it is called again; what cannot be imported is left out, and the reason told.
    Networks of a registered architecture are saved as such; of others, what they did on the data is saved with their
    weights, as :meth:`dynamo.Population.save` does.

    Args:
        source: the folder, with the folders in it; or a single file.
        out: the folder of the population.
        data: what the networks are probed with: a registered data set, or a file ``.npz`` with ``inputs`` (sequences
            ``[B, T, D]``, images ``[B, C, H, W]``) or ``input_ids`` ``[B, T]``, and if need be ``mask`` ``[B, T]`` and
            ``targets``.
        architecture: a registered architecture that all of them have.
        module: ``path/to/file.py:Class``, a class of torch modules, or a function that makes one. The file is run.
        module_options: its arguments, as texts; ``@key`` is the network's own metadata, also hyper-parameters of its
            Lightning checkpoint. Without an architecture or a module a network is what its files say: a model of
            ``transformers``, or a GRU, LSTM or RNN (tanh) of torch with an embedding or without and a linear readout.
        metadata: what is known of the networks, see :meth:`dynamo.Population.of`.
        outputs: ``classes``, ``real``, or with their number, ``classes:10``; where the data do not tell. The metadata
            ``outputs`` and ``readout`` say it for one network.
        readout: ``last`` or ``every``: when a network answers.
        states: names of modules, see :func:`dynamo.wrap`.
        time: see :func:`dynamo.wrap`.
        held_out: the fraction of the inputs of a file that is held out.
        seed: of the draw of these.
        progress: see :func:`dynamo.train_population`.

    Raises:
        DynamoError: no networks, metadata whose names are not theirs, data that cannot be read, a population in ``out``
            that was made otherwise, or not one network that can be imported. Nothing new is left then.

    Example:
        >>> from dynamo import import_networks, Population
        >>> from torch import nn
        >>> from pathlib import Path
        >>> Path("nets").mkdir()
        >>> for seed in range(2):
        ...     torch.save(nn.ModuleDict({"rnn": nn.GRU(3, 8), "fc": nn.Linear(8, 2)}).state_dict(), f"nets/{seed}.pt")
        >>> import numpy as np
        >>> np.savez("probes.npz", inputs=np.random.randn(40, 7, 3).astype("f"))
        >>> import_networks("nets", "imported", "probes.npz", outputs="classes").population[1].state_shapes
        ((8,),)
    """
    if architecture is not None and module is not None:
        raise DynamoError("give an architecture or a module, not both")
    if module_options and module is None:
        raise DynamoError("module_options are those of a module: give module='path/to/file.py:Class'")
    out = Path(out)
    general, probes = Answers.read(outputs, readout), Probes.of(data, held_out, seed)
    builder: Registered | OwnModule | Recognised = Recognised()
    if architecture is not None:
        builder = Registered.of(architecture)
    elif module is not None:
        builder = OwnModule.of(module, module_options or {})
    if states is not None and isinstance(builder, Registered):
        raise DynamoError("a registered architecture says itself what its states are: leave states and time out")
    sources = sources_in(Path(source), folders=builder.folders)
    tables = tables_of(metadata, [one.name for one in sources])
    work = _Import(builder, probes, general, None if states is None else tuple(states), time)
    left_out: dict[str, str] = {}
    with locked(out), stages_of(progress) as stages:
        writer = PopulationWriter(out)
        there = {str(entry["name"]): entry for entry in writer.entries}
        already = sum(one.name in there for one in sources)
        tick, is_alike = stages("networks", len(sources)), False
        for number, one in enumerate(sources):
            try:
                table = work.source_table(one)
                if one.name not in there:
                    base = work.base_model(one, tables.get(one.name, {}))
                    writer.check(base, None if base.is_recording else work.held_out()[:EXAMPLES])
                elif there[one.name].get("source") != table:
                    raise _Elsewhere(
                        f"{out} has another model called {one.name!r}, or one that was imported otherwise: choose "
                        "another folder"
                    )
            except _Elsewhere:
                raise
            except DynamoError as error:
                left_out[one.name] = str(error)
            else:
                if one.name not in there:
                    if not is_alike:
                        _check_alike(base, writer)
                        is_alike = True  # all that come after it share its inputs and data
                    writer.add(base, source=table)
            tick(number + 1, len(sources), one.name)
        if not writer.names:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
            raise DynamoError(f"none of the {len(sources)} networks in {source} could be imported: {reasons}")
    return Imported(Population.load(out), left_out, already)


class _Elsewhere(DynamoError):
    """What ends the whole import, and not that of one network."""


@attrs.frozen
class _Import:
    """How each network of an import becomes a base model."""

    builder: Registered | OwnModule | Recognised
    probes: Probes
    answers: Answers
    states: tuple[str, ...] | None
    time: Time | None

    def source_table(self, source: Source) -> dict[str, Any]:
        """What the manifest keeps of where a network came from."""
        asked = {
            "outputs": self.answers.kind,
            "readout": self.answers.readout,
            "states": list(self.states) if self.states else None,
            "time": self.time,
        }
        table = {"file": source.place, "sha256": source.digest(), **self.builder.told, **asked}
        return {key: value for key, value in table.items() if value is not None}

    def base_model(self, source: Source, told: Mapping[str, MetadataValue]) -> BaseModel:
        """The base model of a network.

        Raises:
            DynamoError: it cannot be read, built or wrapped, or does not fit its data.
        """
        tensors, known = source.read()
        known = {**known, **told}
        answers = self.answers.for_one(known)
        space, kind = self.probes.outputs(answers)
        if isinstance(self.builder, Registered):
            inputs = self.probes.input_space
            if inputs is None or space is None:
                what = "how many tokens there are" if inputs is None else "what its outputs are"
                raise DynamoError(
                    f"it is not clear {what}: give a registered data set that says it"
                    + ("" if inputs is None else ", or --outputs classes:NUMBER or real:NUMBER")
                )
            model = self.builder.model(tensors, inputs, space, source.place)
            dataset = self.probes.dataset(inputs, space)
            return self._named(source, model, known, dataset, self.builder.spec)
        built = self.builder(source, tensors, known, answers.readout if space is None else space.readout)
        built.eval().requires_grad_(False)
        check_finite(built, source.name)
        try:
            model = self._wrapped(built, kind)
        except DynamoError as error:
            raise DynamoError(f"it cannot be wrapped: {error}") from None
        model.outputs = self.probes.fit_to(model, answers)
        dataset = self.probes.dataset(model.inputs, model.outputs)
        base = self._named(source, model, known, dataset, None)
        base.check()
        return base.as_recording(Trajectories(run(model, dataset.probes()), run(model, dataset.test.inputs)))

    def _wrapped(self, module: torch.nn.Module, kind: Any) -> DynamicalModel:
        tried = self.probes.inputs[:_TRIED]
        inputs = tried if self.probes.spec is None else self.probes.input_space
        return wrap(module, inputs=inputs, outputs=kind, example=tried, states=self.states, time=self.time)

    def _named(
        self, source: Source, model: DynamicalModel, known: Mapping[str, MetadataValue], dataset: Any, spec: Spec | None
    ) -> BaseModel:
        fingerprint = dataset.fingerprint() if self.probes.spec is not None else None
        return BaseModel(source.name, model, self.probes.data, known, spec, fingerprint)

    def held_out(self) -> Any:
        """Inputs on which a registered architecture is compared with itself when it is read again."""
        return self.probes.inputs


def _check_alike(base: BaseModel, writer: PopulationWriter) -> None:
    """Check that a folder's population has the same inputs and data.

    Raises:
        DynamoError: it was made otherwise.
    """
    if not writer.entries:
        return
    entry = writer.entries[0]
    same = entry["inputs"] == base.inputs.table()
    kept = entry["dataset"].get("file") and entry["dataset"].get("sha256")
    if same and kept and not isinstance(base.data, Spec):
        content = base.data.content() if isinstance(base.data, StoredData) else data_to_bytes(base.data)
        same = sha256(content) == kept
    elif same:
        same = not kept and isinstance(base.data, Spec) and entry.get("data_fingerprint") == base.data_fingerprint
    if not same:
        raise DynamoError(
            f"{writer.folder} holds a population with other inputs or data: choose another folder, or give the same "
            "--data, --held-out and --seed"
        )
