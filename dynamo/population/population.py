"""A population: trained base models with their names, metadata and data, in memory and on disk.

On disk it is a folder with ``population.toml`` (the manifest) and one file of weights per model. Reading it runs no
code but that of installed plugins: a model's architecture is looked up by name, its weights are read as plain tensors,
and only when they are needed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import attrs
from torch import nn

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import sha256
from dynamo.contracts.options import Spec
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.population.base_model import BaseModel
from dynamo.population.examples import Tokenizer
from dynamo.population.live import live_models
from dynamo.population.manifest import EXAMPLES, MANIFEST, PopulationWriter, open_model, read_entries
from dynamo.population.recorded import Trajectories, check_covers
from dynamo.population.recording import run
from dynamo.population.stored_data import StoredData
from dynamo.population.systems import from_recordings
from dynamo.population.weights import Form
from dynamo.population.wrapping.wrap import Kind
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
        models: Mapping[str, nn.Module],
        data: Any,
        metadata: Any = None,
        *,
        outputs: OutputSpace | Kind | None = None,
        tokenizer: Tokenizer | None = None,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> "Population":
        """A population of live models that share their data.

        Args:
            models: name to network. One that is no :class:`~dynamo.DynamicalModel` is wrapped (:func:`dynamo.wrap`),
                where it is clear without being told how.
            data: a data set, or the spec of a registered one (``"digits-rows"``); or inputs, with or without targets,
                on which the networks are probed, since they were trained elsewhere: a tensor or array as
                :func:`dynamo.wrap` takes it, a pair (inputs, targets) or (values, mask), a torch ``Dataset`` or
                ``DataLoader``, a data set of Hugging Face, a frame of pandas, a list of texts. Of these inputs all
                serve the meta-model but for those that are held out; see :meth:`dynamo.Dataset.of_probes`.
            metadata: what is known of the models: tables by name, or in their order; columns, also of a frame of
                pandas, with a column ``name`` or in the models' order; the path of a CSV file with a column ``name``.
            outputs: the output space of the networks, where they are probed, or its kind, ``classes`` or ``real``;
                worked out where it is None: classes where targets are whole numbers, or answers are called ``logits``.
            tokenizer: what makes token ids of texts, as a tokenizer of ``transformers`` does.
            held_out: the fraction of the inputs that is held out to measure fidelity.
            seed: of the draw of these.

        Raises:
            DynamoError: data of another form, metadata whose names are not those of the models, a network that cannot
                be wrapped without being told how, or what :class:`Population` finds.

        Example:
            >>> from torch import nn
            >>> from dynamo import Population
            >>> networks = {f"seed-{seed}": nn.GRU(3, 8, batch_first=True) for seed in range(2)}
            >>> population = Population.of(networks, torch.randn(50, 7, 3), metadata={"seed": [0, 1]})
            >>> population[1].name, population[1].metadata, population[1].state_shapes
            ('seed-1', {'seed': 1}, ((8,),))
            >>> data = population.dataset(population[0])
            >>> data.probe_size, len(data.test)
            (40, 10)
        """
        return cls(
            live_models(models, data, metadata, outputs=outputs, tokenizer=tokenizer, held_out=held_out, seed=seed)
        )

    @classmethod
    def from_recordings(
        cls,
        states: Any,
        inputs: Any = None,
        outputs: Any = None,
        mask: Any = None,
        metadata: Any = None,
        names: Sequence[str] | None = None,
        *,
        units: Literal["own", "shared"] = "own",
        context: int | None = None,
        clip: int | None = None,
        missing: Literal["refuse", "mask"] = "refuse",
        standardise: bool = True,
        held_out: float = 0.2,
        seed: int = 0,
        like: "Population | None" = None,
    ) -> "Population":
        """A population of recorded systems: neural recordings, simulations, logged hidden states. Each is a base model
        that can be imitated, mapped and compared, and not be run.

        What is given system by system may be a dict by name, or a list or array in their order. A system's part of it
        is an array ``[trial, time, ...]``, a list of arrays ``[time, ...]`` of any lengths, or the array of a single
        trial; numpy arrays, tensors or lists of numbers.

        Where inputs are not known (``context`` above 0) the meta-model is told how a trial starts: at the first
        ``context`` steps its inputs are the system's states there, and 1 in a last channel that says so; after that all
        are 0. Shared units are shown as they are; units of one's own as principal components of unit variance, with
        signs such that the systems turn alike.

        Args:
            states: N systems of states ``[trial, time, unit]``; systems may differ in trials, steps and units.
            inputs: ``[trial, time, input]``, for all systems alike or system by system; None where they are not known
                or there are none.
            outputs: what a system shows beside its states, ``[trial, time, output]``, the same outputs for all. Where
                they are None, they are the states themselves if units are shared, and nothing else.
            mask: ``[trial, time]``, true where the states were observed; it may have holes.
            metadata: what is known of each system: a table for each by name or in their order, or columns with a value
                a system (a dict of lists, a table of pandas).
            names: of the systems; ``system-0`` and so on where they are neither given nor keys of a dict.
            units: ``shared`` where a unit is the same quantity in all systems, as the x, y, z of simulations; a single
                head then predicts them at any θ. ``own`` where it is not, as with neurons.
            context: how many first states of each trial the inputs show; by default 0 with inputs and 1 without.
            clip: cut trials into clips of equal length, of this many steps at most; each starts at its own first state.
            missing: what NaN is taken for: an error (``refuse``), or steps that were not observed (``mask``).
            standardise: take off the mean and divide by the standard deviation: of each unit over all systems where
                units are shared, else of each system, over its units. ``base.trajectories.original`` undoes it.
            held_out: the part of the trials of each system, drawn at random, at least one, on which fidelity is
                measured and nothing is fitted. Of a single trial, clips are held out; if it is not cut, it serves both,
                with a warning.
            seed: of that draw.
            like: a population made with the same arguments, on whose map these systems shall be put with
                :func:`dynamo.embed`: its offsets, scales and components are taken.

        Raises:
            DynamoError: arrays that are no numbers, of other shapes or that do not fit one another, values that are
                missing, trials without an observed step, or metadata for systems that are not there.

        Example:
            >>> import numpy as np
            >>> from dynamo import Population
            >>> times = np.linspace(0, 6, 31)
            >>> waves = [np.stack([[np.sin(f * times + p), np.cos(f * times + p)] for p in range(5)]) for f in (1, 2)]
            >>> systems = [wave.transpose(0, 2, 1) for wave in waves]  # [trial, time, unit]
            >>> population = Population.from_recordings(systems, metadata={"frequency": [1, 2]}, units="shared")
            >>> len(population), str(population.inputs), population[0].state_shapes
            (2, 'real input of shape (3,)', ((2,),))
        """
        return cls(
            from_recordings(
                states,
                inputs,
                outputs,
                mask,
                metadata,
                names,
                units=units,
                context=context,
                clip=clip,
                missing=missing,
                standardise=standardise,
                held_out=held_out,
                seed=seed,
                like=like,
            )
        )

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

    def check_runs(self) -> None:
        """Check that every model can be run on new inputs, for what has to run them.

        Raises:
            DynamoError: one is a recording.
        """
        for base in self:
            base.check_runs()

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

        Of a live network that no registered architecture builds its weights are written, and what it did on all its
        data: read again, it can be mapped, compared and imitated, but not run.

        Raises:
            DynamoError: the folder has a population already, a live model has an architecture that does not rebuild it,
                or the disk refuses.
        """
        folder = Path(folder)
        with locked(folder):
            if (folder / MANIFEST).exists():
                raise DynamoError(f"{folder} holds a population already: choose another folder")
            writer = PopulationWriter(folder)
            models = [self._kept(base) for base in self]
            for base in models:
                writer.check(base, None if base.is_stored else self.dataset(base).test.inputs[:EXAMPLES])
            writer.add(*models)

    def _kept(self, base: BaseModel) -> BaseModel:
        """What is saved of a model: of a network that no component builds what it did, with its weights."""
        if base.architecture is not None or base.is_recording:
            return base
        model, data = base.model, self.dataset(base)
        return base.as_recording(Trajectories(run(model, data.probes()), run(model, data.test.inputs)))

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
