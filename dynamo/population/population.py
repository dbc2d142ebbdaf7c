"""A population: trained base models with their names, metadata and data, in memory and on disk.

On disk it is a folder with ``population.toml`` (the manifest) and files of weights. Reading it runs no
code but that of installed plugins: a model's architecture is looked up by name, its weights are read as plain tensors,
and only when they are needed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import attrs
import numpy as np
import torch
from torch import nn

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import (
    DynamoError,
    InvalidValueError,
    UnknownNameError,
    WrongTypeError,
    did_you_mean,
)
from dynamo.contracts.files import sha256
from dynamo.contracts.shown import listed, table_html
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.population.base_model import BaseModel
from dynamo.population.data_sets import DataSets
from dynamo.population.entries import MANIFEST, read_entries
from dynamo.population.examples import Tokenizer
from dynamo.population.live import live_models
from dynamo.population.manifest import EXAMPLES, Opener, PopulationWriter
from dynamo.population.recorded import Trajectories
from dynamo.population.recording import run
from dynamo.population.systems import from_recordings
from dynamo.population.wrapping.wrap import Kind
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
        self._data = DataSets()
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
        encodings: Mapping[str, str] | None = None,
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
            encodings: model name to the encoding that the model reads, of those that the data come in beside the one
                that the meta-model reads; see :class:`dynamo.Encoding` and :func:`dynamo.encode_texts`.
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
            live_models(
                models,
                data,
                metadata,
                outputs=outputs,
                tokenizer=tokenizer,
                encodings=encodings,
                held_out=held_out,
                seed=seed,
            )
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
        chosen._data = self._data
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
        moved._data = self._data
        return moved

    def check_runs(self) -> None:
        """Check that every model can be run on new inputs, for what has to run them.

        Raises:
            DynamoError: one is a recording.
        """
        for base in self:
            base.check_runs()

    def check_steps(self) -> None:
        """Check that every model can be run step by step beside the meta-model.

        Raises:
            DynamoError: one is a recording, or reads an encoding of its own.
        """
        for base in self:
            base.check_steps()

    def dataset(self, base: BaseModel) -> Dataset:
        """A model's data set, built once for all models that name it alike.

        Raises:
            DynamoError: the data set does not fit the model, or is not the one that it was trained on.
        """
        return self._data.of(base)

    def data_fingerprint(self, base: BaseModel) -> str:
        """The fingerprint of a model's data set.

        Raises:
            DynamoError: what :meth:`dataset` finds.
        """
        return self._data.fingerprint(base)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all names and weights: a checkpoint belongs to the population with the same one."""
        parts = [base.name + base.fingerprint for base in self]
        return sha256("".join(parts).encode())[:16]

    @cached_property
    def data_fingerprints(self) -> list[str]:
        """The fingerprints of the data sets, each once, in the order of the models."""
        datasets = {id(self.dataset(base)): base for base in self}
        return [self.data_fingerprint(base) for base in datasets.values()]

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
        opener = Opener(folder)
        entries = [entry for entry in read_entries(folder) if names is None or entry["name"] in names]
        return cls([opener.open(entry) for entry in entries], path=folder)
