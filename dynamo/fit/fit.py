"""A fit: what training leaves. It is saved as a run folder and needs neither the population nor its data to be used
again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.shown import cut, listed, table_html
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo.fit.probes import kept_probes
from dynamo.lazy import above
from dynamo.population.base_model import MetadataValue
from dynamo.population.population import Population
from dynamo.system.devices import device_of, find_device
from dynamo.system.process_group import SingleProcess
from dynamo.system.tables import frame
from dynamo.training.emulator import Emulator, ModelAt
from dynamo.training.options import FitOptions
from dynamo.training.trainer import Trainer

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from dynamo.fit.distance_kinds import DistanceKind
    from dynamo.fit.distances import Distances
    from dynamo.fit.fidelity import Fidelity
    from dynamo.report.widget import MapWidget


@attrs.frozen(eq=False)
class Fit:
    """A trained emulator with the record of how it was made.

    Attributes:
        emulator: meta-model, heads, state maps, thetas.
        options: how it was fitted.
        metadata: the metadata of each base model, in order.
        source: the population's folder, its fingerprint and those of its data sets.
        history: a row of ``dynamo.training.trainer.HISTORY`` for each step.
        seconds: the wall time that training took, without recording.
        probes: some unlabelled inputs, on which emulators are compared; None where an older version made the run.
        folder: the run folder, where it was read from one or saved to one.
    """

    emulator: Emulator
    options: FitOptions
    metadata: Sequence[Mapping[str, MetadataValue]]
    source: Mapping[str, Any] = attrs.field(factory=dict)
    history: Sequence[tuple[float, ...]] = ()
    seconds: float = 0.0
    probes: Inputs | None = None
    folder: Path | None = None

    def __repr__(self) -> str:
        plan = self.emulator.blueprint
        loss = f", loss {self.history[-1][2]:.4g}" if self.history else ""
        lines = [
            f"Fit of {len(self.names)} models, {plan.inputs}",
            f"  models      {listed(self.names, 3)}",
            f"  meta-model  {cut(str(plan.meta_model))}, θ of {plan.theta_dim} dimensions",
            f"  heads       {listed([f'{name}: {space}' for name, space in plan.heads], 2)}",
            f"  metadata    {listed(sorted({key for table in self.metadata for key in table}), 6) or 'none'}",
            f"  trained     {len(self.history)} steps{loss}, {self.seconds:.3g} seconds",
        ]
        return "\n".join([*lines, *([f"  folder      {self.folder}"] if self.folder else [])])

    def _repr_html_(self) -> str:
        keys = sorted({key for table in self.metadata for key in table})
        rows = [[name, *(own.get(key) for key in keys)] for name, own in zip(self.names, self.metadata, strict=True)]
        plan = self.emulator.blueprint
        caption = f"Fit of {len(self.names)} models: meta-model {plan.meta_model}, θ of {plan.theta_dim} dimensions"
        return table_html(["name", *keys], rows, caption)

    @classmethod
    def of(cls, trainer: Trainer) -> "Fit":
        """What a trainer has reached."""
        population = trainer.population
        source = {
            "path": str(population.path.resolve()) if population.path else None,
            "fingerprint": population.fingerprint,
            "data": population.data_fingerprints,
        }
        return cls(
            trainer.emulator,
            trainer.options,
            [dict(base.metadata) for base in population],
            source,
            trainer.history,
            trainer.seconds,
            kept_probes(population),
        )

    @property
    def names(self) -> list[str]:
        """The base models' names, in the order of the thetas."""
        return [subject.name for subject in self.emulator.blueprint.subjects]

    @property
    def theta(self) -> Tensor:
        """The model embeddings θ_n, ``[N, d]``, on the CPU."""
        return torch.stack([theta.detach().cpu() for theta in self.emulator.thetas])

    @property
    def fidelity(self) -> "Fidelity | None":
        """How well each base model is imitated, from the run folder; None without one, or where it was not measured.

        Raises:
            DynamoError: the run folder's table is damaged.
        """
        from dynamo.fit.fidelity import is_measured, read_fidelity

        if self.folder is None or not is_measured(self.folder):
            return None
        return read_fidelity(self.folder).of(self.names)

    def to(self, device: torch.device | str) -> "Fit":
        """This fit, its emulator being moved to a device, where all that is asked of it then runs.

        Raises:
            DynamoError: there is no such device here.
        """
        there = find_device(str(device))
        if device_of(self.emulator) != there:  # the V_n that were not read yet need not be
            self.emulator.to(there)
        return self

    def values_of(self, key: str) -> list[MetadataValue]:
        """One piece of metadata of all base models, in the order of the thetas.

        Raises:
            DynamoError: some lack it.
        """
        for name, metadata in zip(self.names, self.metadata, strict=True):
            if key not in metadata:
                raise DynamoError(f"model {name!r} has no metadata {key!r}: {did_you_mean(key, metadata)}")
        return [metadata[key] for metadata in self.metadata]

    def select(self, names: Sequence[str]) -> "Fit":
        """The fit with some of its base models alone: the same meta-model, and a map of fewer points. Whether a
        population has the weights that it was fitted to is not checked by it.

        Args:
            names: of the base models, in the order that they shall have.

        Raises:
            DynamoError: no names, names used twice, or a base model that is not there.

        Example:
            >>> from dynamo import Fit
            >>> fit = Fit.load("run")
            >>> some = fit.select(fit.names[:2])
            >>> len(some.distances())
            2
        """
        numbers, known = {name: number for number, name in enumerate(self.names)}, self.names
        for name in names:
            if name not in numbers:
                raise DynamoError(f"no base model is called {name!r}: {did_you_mean(name, known)}")
        if not names or len(set(names)) < len(names):
            raise DynamoError("a fit of some base models needs at least one of them, and each once")
        chosen = [numbers[name] for name in names]
        return attrs.evolve(
            self,
            emulator=self.emulator.select(chosen),
            metadata=[self.metadata[number] for number in chosen],
            source={key: value for key, value in self.source.items() if key == "path"},
        )

    def sample(self, count: int, seed: int = 0) -> "Fit":
        """The fit with so many of its base models, drawn at random and in their order; all, where there are no more.

        Args:
            count: how many.
            seed: of the draw.

        Raises:
            DynamoError: a count below 1.
        """
        if count < 1:
            raise DynamoError(f"a sample of {count} base models was asked for: ask for at least 1")
        if count >= len(self.names):
            return self
        drawn = np.random.default_rng(seed).choice(len(self.names), size=count, replace=False)
        return self.select([self.names[number] for number in sorted(drawn)])

    def open_population(self, path: Path | str | None = None) -> Population:
        """The base models of this fit, in the order of the thetas.

        Args:
            path: the population's folder; where it is None, the one that the fit was made from.

        Raises:
            DynamoError: it is not known or not there, lacks a model of this fit, or has other weights or data.
        """
        found = path or self.source.get("path")
        if found is None:
            raise DynamoError(
                "this fit was made from live models, which are in no folder: use the population that it was fitted to, "
                "or save that (population.save) and give its folder"
            )
        loaded = {base.name: base for base in Population.load(found)}
        missing = [name for name in self.names if name not in loaded]
        if missing:
            raise DynamoError(f"the population {found} lacks {missing[0]!r}, which this run was fitted to")
        population = Population([loaded[name] for name in self.names], path=Path(found))
        self.check_population(population)
        return population

    def check_population(self, population: Population) -> None:
        """Check that these are the base models and the data that this fit was made from.

        Raises:
            DynamoError: other names or another order, other weights, or other data.
        """
        where = "the population" if population.path is None else f"the population {population.path}"
        if [base.name for base in population] != self.names:
            raise DynamoError(f"{where} has other models, or another order, than this run was fitted to")
        if population.fingerprint != self.source.get("fingerprint", population.fingerprint):
            raise DynamoError(f"the base models of {where} have other weights than those that this run was fitted to")
        data = self.source.get("data")
        if data is not None and population.data_fingerprints != data:
            raise DynamoError(
                f"a data set of {where} has changed since this run was fitted: restore it, or fit again; to use it as "
                f"it is, remove the lines 'data' and 'digest' from run.toml"
            )

    def model_at(self, theta: Tensor | Sequence[float] | str, head: str | None = None) -> ModelAt:
        """The meta-model at one θ, as an ordinary ``torch.nn.Module`` that shares nothing with this fit.

        Args:
            theta: ``[d]``, or the name of a base model (its θ_n and its head).
            head: the name of the head; needed for a bare θ where there are several.

        Raises:
            DynamoError: a θ of another size or that is not finite, an unknown name, or a head that is not there or not
                said.
        """
        heads = [name for name, _ in self.emulator.blueprint.heads]
        if isinstance(theta, str):
            if theta not in self.names:
                raise DynamoError(f"no base model is called {theta!r}: {did_you_mean(theta, self.names)}")
            number = self.names.index(theta)
            head = head or heads[self.emulator.blueprint.subjects[number].head]
            theta = self.emulator.thetas[number]
        if head is None and len(heads) > 1:
            raise DynamoError(f"this fit has several heads: say which with head=, one of {', '.join(heads)}")
        if head is not None and head not in heads:
            raise DynamoError(f"no head is called {head!r}: {did_you_mean(head, heads)}")
        like = self.emulator.thetas[0]
        try:
            theta = torch.as_tensor(theta, dtype=like.dtype, device=like.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DynamoError(f"theta must be {len(like)} numbers or a base model's name: {error}") from None
        if theta.shape != like.shape:
            raise DynamoError(f"theta has shape {tuple(theta.shape)}; this fit's have {tuple(like.shape)}")
        if not bool(theta.isfinite().all()):
            raise DynamoError(f"theta is not finite: {theta.tolist()}")
        return self.emulator.model_at(theta, heads.index(head) if head else 0)

    def emulate(
        self, theta: Tensor | Sequence[float] | str, inputs: Inputs | Tensor | Any, *, head: str | None = None
    ) -> Trajectory:
        """What the meta-model does at a θ. It runs where this fit is; what comes back is on the CPU.

        Args:
            theta: the name of a base model, or ``[d]``.
            inputs: tensors or arrays of the shapes that :func:`dynamo.contracts.as_inputs` takes, or
                :class:`dynamo.Inputs` with a mask.
            head: the name of the head; needed for a bare θ where there are several.

        Returns:
            States and outputs. For a base model's name the states are those of the base model as V_n gives them, one
            ``[B, T, *S]`` for each of its sites, in its own units; for a bare θ, which has no V, they are the
            meta-model's.

        Raises:
            DynamoError: what :meth:`model_at` finds, or inputs that do not fit the map.

        Example:
            >>> from dynamo import Fit, Population
            >>> fit, population = Fit.load("run"), Population.load("population")
            >>> images = population.dataset(population[0]).test.inputs
            >>> imitated = fit.emulate("digits-gru-100-s0", images)
            >>> imitated.states[0].shape == population["digits-gru-100-s0"].model.trajectory(images).states[0].shape
            True
        """
        from dynamo.fit.emulated import emulate

        return emulate(self, theta, inputs, head)

    def table(self, distance: str | None = None, *, fidelity: "Fidelity | None" = None) -> "DataFrame":
        """A data frame with a row for each base model: its name, metadata, fidelity, θ (``theta_1`` …), and its
        coordinates on the map (``combined_1`` …, named after the kind of distance; ``pc_1`` … for those of θ).

        Args:
            distance: the kind that the coordinates are drawn from; the default where it is None.
            fidelity: of the base models; where it is None, that of the run folder, if it was measured.

        Raises:
            DynamoError: pandas is not installed, or the distances cannot be had.

        Example:
            >>> from dynamo import Fit
            >>> table = Fit.load("run").table()
            >>> table.groupby("fraction")["agreement"].mean().index.tolist()
            [0.5, 1.0]
        """
        from dynamo.fit.exports import fit_table

        return frame(fit_table(self, distance, fidelity))

    def plot(self, by: str | None = None, ax: "Axes | None" = None, distance: str | None = None) -> "Axes":
        """Draw the map.

        Args:
            by: the metadata that colours the models; one is chosen where it is None.
            ax: where to draw; a new figure where it is None.
            distance: the kind that the map is drawn by; the default where it is None.

        Returns:
            The axes; ``ax.figure.savefig("map.png")`` keeps the picture.

        Raises:
            DynamoError: metadata that some models lack, or distances that cannot be had.

        Example:
            >>> from dynamo import Fit
            >>> Fit.load("run").plot(by="fraction").get_legend().get_title().get_text()
            'fraction'
        """
        axes: Axes = above("dynamo.report.run:draw_map")(self, by, ax, distance)
        return axes

    def map(self, colour_by: str | None = None, distance: str | None = None) -> "MapWidget":
        """The map as a widget of a notebook: hover, turn, lasso, click; what is chosen is told to Python.

        Args:
            colour_by: the metadata that colours the models; one is chosen where it is None.
            distance: the kind that the map is drawn by; the default where it is None.

        Raises:
            DynamoError: anywidget is not installed, metadata that some models lack, or distances that cannot be had.

        Example:
            >>> from dynamo import Fit
            >>> widget = Fit.load("run").map(colour_by="fraction")
            >>> widget.selected = ["digits-gru-100-s0"]
            >>> widget.selected, len(widget.theta) == Fit.load("run").theta.shape[1]
            (['digits-gru-100-s0'], True)
        """
        widget: MapWidget = above("dynamo.report.notebook:map_widget")(self, colour_by, distance)
        return widget

    def to_anndata(self, distance: str | None = None) -> "AnnData":
        """The map as an ``AnnData`` object, for scanpy and its kin: θ in ``X``, metadata and fidelity in ``obs``, the
        coordinates in ``obsm``, the distances in ``obsp``.

        Args:
            distance: the kind; the default where it is None.

        Raises:
            DynamoError: anndata is not installed, or the distances cannot be had.
        """
        from dynamo.fit.exports import to_anndata

        return to_anndata(self, distance)

    def to_safetensors(self, path: Path | str, distance: str | None = None) -> None:
        """Write the thetas ``theta`` ``[N, d]`` and the ``coordinates`` ``[N, d]`` of the models to a file of
        safetensors; its header has their ``names`` and ``metadata`` as JSON, and the ``distance``.

        Args:
            path: the file.
            distance: the kind; the default where it is None.

        Raises:
            DynamoError: the distances cannot be had, or the disk refuses.
        """
        from dynamo.fit.exports import to_safetensors

        to_safetensors(self, path, distance)

    def to_onnx(self, path: Path | str, theta: Tensor | Sequence[float] | str, head: str | None = None) -> None:
        """Write the meta-model at one θ to a file of ONNX. Its inputs are ``values`` and, for sequences, the ``mask``;
        batches have any size, sequences the length of those that the fit has kept (shorter ones under the mask).

        Args:
            path: the file.
            theta: ``[d]``, or the name of a base model.
            head: the name of the head; needed for a bare θ where there are several.

        Raises:
            DynamoError: what :meth:`model_at` finds, onnx is not installed, a fit without inputs, or the disk refuses.
        """
        from dynamo.fit.exports import to_onnx

        to_onnx(self, path, theta, head)

    def distances(self, kind: "str | DistanceKind | None" = None, **settings: Any) -> "Distances":
        """The distances between all models; see :func:`dynamo.fit.distances.distances`.

        Args:
            kind: of distance; the default where it is None.
            settings: ``probes``, ``population``, ``examples`` and so on.
        """
        from dynamo.fit.distances import DEFAULT, distances

        return distances(self, kind or DEFAULT, **settings)

    def nearest(self, name: str, k: int = 5, distance: "str | DistanceKind | None" = None) -> list[tuple[str, float]]:
        """The models that lie nearest to one, with their distances, the nearest first.

        Args:
            name: of the model.
            k: how many others.
            distance: the kind; the default where it is None. For more than one model, ask :meth:`distances` once.

        Raises:
            DynamoError: no model of that name, k below 1, or what :func:`dynamo.fit.distances.distances` finds.
        """
        if name not in self.names:
            raise DynamoError(f"no base model is called {name!r}: {did_you_mean(name, self.names)}")
        if k < 1:
            raise DynamoError(f"{k} nearest models were asked for: ask for at least 1")
        return self.distances(distance).nearest(name, k)

    def save(self, folder: Path | str) -> None:
        """Write the run folder: ``fit.safetensors``, ``history.csv``, ``probes.safetensors`` and last ``run.toml``,
        without which it is no run. Its fidelity and its map are not made here; :func:`dynamo.fit_population` makes them
        too.

        Raises:
            DynamoError: the folder holds a run already, or the disk refuses.
        """
        from dynamo.fit.run_folder import save_fit

        save_fit(self, Path(folder), SingleProcess())

    @classmethod
    def load(cls, folder: Path | str) -> "Fit":
        """Open a run folder. The V_n of a base model are read from it when they are asked for.

        Raises:
            DynamoError: it is missing, unfinished, damaged, of another version, or names a component that is not
            installed.
        """
        from dynamo.fit.run_folder import load_fit

        return load_fit(Path(folder))
