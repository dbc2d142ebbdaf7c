"""How far apart are models on a map? Distances between what their emulators do, on the same inputs.

Euclidean distance between thetas depends on how the meta-model happens to read θ. What it *does* at two thetas does
not, and can be compared as it is: all emulators share one state space.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
import torch

from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.files import read_bytes
from dynamo.contracts.shown import brief, folded, listed, table_html
from dynamo.contracts.trajectory import Inputs
from dynamo.fit.distance_kinds import DistanceKind, kind_named
from dynamo.fit.emulated import Emulated, Matrix
from dynamo.fit.probes import KEPT, check_probes, draw_probes
from dynamo.system.bars import progress_of
from dynamo.system.progress import Progress, Setting, silent
from dynamo.system.storage import write_csv

if TYPE_CHECKING:
    from dynamo.fit.fit import Fit
    from dynamo.population.population import Population

#: The kind that is meant where none is said.
DEFAULT = "combined"

#: The most models whose distances are computed, all pairs at once: a matrix of 128 MiB, of which several are held.
MOST = 4096

#: How the name of a model ends that is there for the second time.
TWIN = ".twin"


@attrs.frozen(eq=False)
class Distances:
    """Distances between the models of a fit.

    Attributes:
        names: of the models.
        matrix: ``[N, N]``, symmetric, zero on the diagonal.
        kind: what was compared, a key of :data:`~dynamo.fit.distance_kinds.KINDS` or a kind of your own.
        is_metric: whether the triangle inequality holds.
        examples: on how many inputs; 0 where none were needed.
        error: relative standard error of a distance, from a random projection; 0 where there was none.
        floor: the distance to be expected of equal models, see :func:`noise_floor`; None where it was not measured.
    """

    names: Sequence[str]
    matrix: Matrix
    kind: str
    is_metric: bool
    examples: int = 0
    error: float = 0.0
    floor: float | None = None

    def __repr__(self) -> str:
        return folded(f"Distances of {len(self)} models ({listed(self.names, 3)}): {self.describe()}")

    def _repr_html_(self) -> str:
        return table_html(*self.neighbours_table(), self.describe())

    def __len__(self) -> int:
        return len(self.names)

    def between(self, one: str, other: str) -> float:
        """The distance of two models by their names."""
        return float(self.matrix[self._number(one), self._number(other)])

    def nearest(self, name: str, count: int = 1) -> list[tuple[str, float]]:
        """The nearest other models and their distances, the nearest first.

        Raises:
            DynamoError: there is no model of that name.
        """
        number = self._number(name)
        order = [other for other in np.argsort(self.matrix[number], kind="stable") if other != number]
        return [(self.names[other], float(self.matrix[number, other])) for other in order[:count]]

    def table(self) -> tuple[list[str], list[list[object]]]:
        """Columns and rows: each model's name, and its distance to each."""
        rows = zip(self.names, self.matrix.tolist(), strict=True)
        return ["model", *self.names], [[name, *row] for name, row in rows]

    def neighbours_table(self) -> tuple[list[str], list[list[object]]]:
        """Columns and rows: each model with its nearest and its farthest other, and whether the nearest is no farther
        than equal models may be; that column is empty without a noise floor.
        """
        rows: list[list[object]] = []
        for name in self.names if len(self) > 1 else []:
            others = self.nearest(name, len(self))
            within = None if self.floor is None else others[0][1] <= self.floor
            rows.append([name, *others[0], *others[-1], within])
        return ["model", "nearest", "distance", "farthest", "its distance", "within noise"], rows

    @property
    def points(self) -> Matrix:
        """All principal coordinates, ``[N, D]``. Where the distances are those of points in some Euclidean space, as
        with theta, states, outputs and pullback, the Euclidean distances of these are the very same.
        """
        return principal_coordinates(self.matrix)[0]

    def coordinates(self, components: int = 2) -> Matrix:
        """Principal coordinates ``[N, components]`` (Torgerson 1952): the widest first, each with its largest entry
        positive. Where the distances have fewer dimensions, the rest is 0.
        """
        points, _ = principal_coordinates(self.matrix)
        points = points[:, :components]
        largest = points[np.abs(points).argmax(0), np.arange(points.shape[1])]
        points = points * np.where(largest < 0, -1.0, 1.0)
        return cast(Matrix, np.pad(points, ((0, 0), (0, components - points.shape[1]))))

    @property
    def typical(self) -> float:
        """The median distance of two different models."""
        return float(np.median(self.matrix[np.triu_indices(len(self), 1)])) if len(self) > 1 else 0.0

    def describe(self) -> str:
        """What they are, in a line."""
        parts = [f"distances by {self.kind}", f"median {self.typical:.3g}"]
        if self.floor is not None:
            parts.append(f"equal models {self.floor:.3g}")
        if self.examples:
            parts.append(f"on {self.examples} inputs")
        if self.error:
            parts.append(f"within {self.error:.1%} (random projection)")
        return ", ".join(parts)

    def without(self, key: str, values: Sequence[object]) -> "Distances":
        """The same after what tells the values of some metadata apart on average has been taken off, such as the
        encoding that models read; see :func:`without_groups`. They are Euclidean, and their noise floor is not known.

        Args:
            key: of the metadata, which the name of the kind then tells.
            values: one for each model.

        Raises:
            DynamoError: not one value a model, or no two models that share one.

        Example:
            >>> apart = fit.distances().without("fraction", fit.values_of("fraction"))
            >>> apart.kind
            'combined without fraction'
        """
        matrix = without_groups(self.matrix, values)
        return attrs.evolve(self, matrix=matrix, kind=f"{self.kind} without {key}", is_metric=True, floor=None)

    def with_floor(self, noise: "NoiseFloor") -> "Distances":
        """The same with the noise floor, in the units of these distances.

        Raises:
            DynamoError: it was measured for another kind.
        """
        if noise.kind != self.kind:
            raise DynamoError(f"a noise floor of {noise.kind!r} says nothing of distances by {self.kind!r}")
        return attrs.evolve(self, floor=noise.ratio * self.typical)

    def _number(self, name: str) -> int:
        if name not in self.names:
            raise DynamoError(f"no base model is called {name!r}: {did_you_mean(name, self.names)}")
        return list(self.names).index(name)


def principal_coordinates(distances: Matrix) -> tuple[Matrix, Matrix]:
    """Classical scaling of a matrix of distances in all its dimensions (W. Torgerson, 1952, Psychometrika 17(4)).

    Returns:
        The coordinates ``[N, positive eigenvalues]``, the widest first, and the eigenvalues ``[N]`` of −½ J D² J in
        descending order, rounding errors being set to zero.
    """
    squared = distances**2
    centred = -0.5 * (squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean())
    eigenvalues, vectors = np.linalg.eigh(centred)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    eigenvalues = np.where(np.abs(eigenvalues) > 1e-10 * np.abs(eigenvalues).max(), eigenvalues, 0.0)
    positive = eigenvalues > 0
    return vectors[:, positive] * np.sqrt(eigenvalues[positive]), eigenvalues


def without_groups(distances: Matrix, groups: Sequence[object]) -> Matrix:
    """Distances after the mean of each group has been taken off its members, in their principal coordinates: what is
    left is how members differ from their own group's mean, and so across groups. Of distances that are not Euclidean
    the part in negative dimensions is treated alike, and squares that come out negative count as 0.

    Args:
        distances: ``[N, N]``.
        groups: N names.

    Raises:
        DynamoError: not one group a model, or no two models that share one.

    Example:
        >>> import numpy as np
        >>> from dynamo.fit.distances import without_groups
        >>> places = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 7.0], [5.0, 8.0]])  # two groups, five and seven apart
        >>> apart = np.linalg.norm(places[:, None] - places, axis=-1)
        >>> without_groups(apart, ["a", "a", "b", "b"]).round(6).tolist()[0]
        [0.0, 1.0, 0.0, 1.0]
    """
    names = [str(group) for group in groups]
    if len(names) != len(distances):
        raise DynamoError(f"there are {len(distances)} models, and groups of {len(names)}")
    if len(set(names)) == len(names):
        raise DynamoError(
            "each model has a value of its own, and nothing would be left: choose metadata that some share"
        )
    _, numbers = np.unique(names, return_inverse=True)
    members = np.eye(int(numbers.max()) + 1)[numbers]
    projection = np.eye(len(names)) - members @ (members / members.sum(0)).T
    gram = -0.5 * projection @ distances**2 @ projection
    sizes = np.diag(gram)
    found = np.sqrt(np.maximum(sizes[:, None] + sizes - 2 * gram, 0.0))
    np.fill_diagonal(found, 0.0)
    return cast(Matrix, (found + found.T) / 2)


def distances(
    fit: "Fit",
    kind: str | DistanceKind = DEFAULT,
    *,
    probes: Inputs | None = None,
    population: "Population | None" = None,
    examples: int = KEPT,
    seed: int = 0,
    projection: int | None = None,
    reference: int | None = None,
    progress: Progress | Setting = silent,
) -> Distances:
    """The distances between all models of a fit.

    The emulators are run on ``probes``; else on inputs of the given population's unlabelled halves; else on those that
    the fit has kept; else the population that the fit was made from is opened.

    Args:
        fit: the map.
        kind: a key of :data:`~dynamo.fit.distance_kinds.KINDS`, or a kind of your own.
        probes: the inputs.
        population: where to draw them from.
        examples: how many of them at most, spread evenly over what is there.
        seed: of the draw and of the projection.
        projection: dimensions of the random projection that stands for the states of many models; 0 does without; None
            takes :data:`~dynamo.fit.emulated.PROJECTED` from :data:`~dynamo.fit.emulated.EXACT` models on.
        reference: so many models, from the first on, set the units, so that further ones change no distance between
            these; None for all.
        progress: True, "notebook" or False, see :meth:`dynamo.Trainer.run`; or a function that is called with (inputs
            done, inputs).

    Raises:
        DynamoError: an unknown kind, more than :data:`MOST` models, no inputs to be had or of another space, or
            emulators that give no finite states.
    """
    chosen, count = kind if isinstance(kind, DistanceKind) else kind_named(kind), len(fit.names)
    if count > MOST:
        raise DynamoError(
            f"{count:,} models have {count * (count - 1) // 2:,} pairs, and the distances of all pairs are computed of "
            f"up to {MOST:,} models: ask for those of some (Fit.select), or of a sample (Fit.sample, --sample 1000)"
        )
    if examples < 1 or (projection is not None and projection < 0):
        raise DynamoError("distances need at least 1 example and a projection of 0 or more dimensions")
    theta = fit.theta
    if not bool(theta.isfinite().all()):
        raise DynamoError(
            "the map has NaN or infinite places: the fit diverged; make it again with a lower learning rate"
        )
    if chosen.needs_probes:
        probes = _probes(fit, probes, population, examples, seed)
    else:
        probes = Inputs(torch.zeros(0, 1), torch.zeros(0, 1, dtype=torch.bool))
    with progress_of(progress, "running emulators") as tick:
        emulated = Emulated(fit.emulator, theta, probes, fit.names, projection, seed, tick, reference)
        matrix = chosen.measure(emulated, fit.options)
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 0.0)
    dimensions = emulated.dimensions if chosen.projects else 0
    error = float(np.sqrt(0.5 / dimensions)) if dimensions else 0.0
    return Distances(fit.names, matrix, chosen.name, chosen.is_metric, len(probes), error)


def _probes(fit: "Fit", given: Inputs | None, population: "Population | None", examples: int, seed: int) -> Inputs:
    if given is None and population is not None:
        given = draw_probes(population, examples, seed)
    if given is None:
        given = fit.probes
    if given is None:
        try:
            given = draw_probes(fit.open_population(), examples, seed)
        except DynamoError as error:
            raise DynamoError(
                f"this fit has kept no probe inputs, and its population cannot be used ({error}): give probes= or "
                "population=, or take the distance 'theta', which needs none"
            ) from None
    check_probes(given, fit.emulator.blueprint.inputs)
    if len(given) > examples:
        given = given[torch.linspace(0, len(given) - 1, examples).round().long()]
    return given


@attrs.frozen
class NoiseFloor:
    """How far apart equal models come out.

    Attributes:
        kind: of the distances.
        names: of the models that were there twice.
        twins: the distance of each from its twin, ``[k]``.
        typical: the median distance of two different models of the same fit.
    """

    kind: str
    names: Sequence[str]
    twins: Sequence[float]
    typical: float

    __repr__ = brief

    @property
    def ratio(self) -> float:
        """The median of the twins' distances, as a share of the typical one."""
        return float(np.median(self.twins)) / self.typical if self.typical else 0.0

    def write(self, folder: Path) -> None:
        """Keep it as ``noise-KIND.csv``."""
        rows = [[name, twin, self.typical] for name, twin in zip(self.names, self.twins, strict=True)]
        write_csv(folder / f"noise-{self.kind}.csv", ["model", "distance from its twin", "median of all"], rows)

    @classmethod
    def read(cls, folder: Path, kind: str) -> "NoiseFloor | None":
        """What :meth:`write` has kept; None where it has not.

        Raises:
            DynamoError: the file is damaged.
        """
        path = folder / f"noise-{kind}.csv"
        if not path.exists():
            return None
        try:
            _, *rows = csv.reader(read_bytes(path, None, within=folder).decode().splitlines())
            names, twins, typical = zip(*((name, float(twin), float(all_)) for name, twin, all_ in rows), strict=True)
            if not np.isfinite([*twins, *typical]).all():
                raise ValueError("it has values that are not finite")
        except (ValueError, csv.Error) as error:
            raise DynamoError(
                f"{path} is damaged ({error}): remove it, or measure it again by `dynamo analyse distances --twins 4`"
            ) from None
        return cls(kind, names, twins, typical[0])


def add_twins(population: "Population", twins: int = 8, seed: int = 0) -> "Population":
    """The population with some of its models there twice, the second time as ``NAME.twin``.

    Args:
        population: the base models.
        twins: how many of them, drawn at random; all where there are no more.
        seed: of the draw.

    Raises:
        DynamoError: no twins are asked for.
    """
    if twins < 1:
        raise DynamoError("a noise floor needs at least one model that is there twice")
    from dynamo.population.population import Population

    drawn = np.sort(np.random.default_rng(seed).permutation(len(population))[:twins])
    copies = [attrs.evolve(base, name=base.name + TWIN) for base in (population[int(number)] for number in drawn)]
    return Population([*population, *copies])


def twin_floor(fit: "Fit", kind: str | DistanceKind = DEFAULT, **settings: Any) -> NoiseFloor:
    """The noise floor, from a fit of a population that :func:`add_twins` has made.

    Args:
        fit: the fit.
        kind: of distance.
        settings: of :func:`distances`.

    Raises:
        DynamoError: the fit has no twins, or what :func:`distances` finds.
    """
    found = distances(fit, kind, **settings)
    pairs = [(name, name + TWIN) for name in fit.names if name + TWIN in fit.names]
    if not pairs:
        raise DynamoError("no model of this fit is there twice: fit the population that add_twins gives")
    twins = {twin for _, twin in pairs}
    single = [number for number, name in enumerate(fit.names) if name not in twins]
    own = attrs.evolve(found, names=[fit.names[n] for n in single], matrix=found.matrix[np.ix_(single, single)])
    return NoiseFloor(found.kind, [one for one, _ in pairs], [found.between(*pair) for pair in pairs], own.typical)


def noise_floor(
    fit: "Fit",
    population: "Population",
    kind: str | DistanceKind = DEFAULT,
    *,
    twins: int = 8,
    seed: int = 0,
    progress: Progress | Setting = silent,
) -> NoiseFloor:
    """The distance to be expected of equal models: duplicate emulation.

    The population is fitted again by the fit's own options, with some of its models there twice. A model and its twin
    have the same weights, and a θ, a V and draws of examples of their own; all that parts them is what training leaves
    to chance. It costs a fit of N + k models. For several kinds, or several seeds, take :func:`add_twins` and
    :func:`twin_floor`.

    Args:
        fit: the fit.
        population: its base models.
        kind: of distance.
        twins: k, how many models are there twice, drawn at random.
        seed: of the draw.
        progress: of the fit, see :meth:`dynamo.Trainer.run`.

    Raises:
        DynamoError: no twins are asked for, or what the fit or :func:`distances` finds.
    """
    from dynamo.fit.fit import Fit
    from dynamo.training.trainer import Trainer

    options = fit.options
    if options.recording == "disk":  # there is no run folder to keep them in
        options = attrs.evolve(options, recording="memory")
    trainer = Trainer(add_twins(population, twins, seed), options)
    trainer.run(progress=progress)
    return twin_floor(Fit.of(trainer), kind, probes=fit.probes)
