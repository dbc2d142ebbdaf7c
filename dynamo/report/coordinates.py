"""What a map is drawn from: the principal coordinates of distances between models."""

from copy import deepcopy
from math import prod

import attrs
import numpy as np
import torch

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.geometry.spectrum import Spectrum, placed, spectrum_of_distances
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.fit.distances import DEFAULT, Distances, distances
from dynamo.fit.embedding import Embedding
from dynamo.fit.fit import Fit
from dynamo.fit.probes import KEPT, draw_probes

#: Numbers of states that all emulators may give for a picture or a summary, which then take seconds: many models, or
#: large states, are compared on fewer of the inputs that a fit has kept.
STATES = 2**24

#: The fewest inputs, whatever that costs.
FEWEST = 16


@attrs.frozen(eq=False)
class MapCoordinates:
    """Where the models lie on the picture of a map.

    Attributes:
        distances: between the models.
        places: their principal coordinates.
        instead: why they are those of the thetas and not the default; empty where nothing was amiss.
    """

    distances: Distances
    places: Spectrum
    instead: str = ""

    __repr__ = brief

    @property
    def kind(self) -> str:
        """Of the distances."""
        return self.distances.kind

    def describe(self) -> str:
        """What the distances are, in a line."""
        return self.distances.describe() + (f": {self.instead}" if self.instead else "")


def map_coordinates(fit: Fit, distance: str | None = None) -> MapCoordinates:
    """The coordinates that the map of a fit is drawn from.

    The emulators are run on the inputs that the fit has kept, or on some of them, see :data:`STATES`. Where the default
    distance cannot be had, it is that of the thetas, and the result says why.

    Args:
        fit: the fit.
        distance: the kind; the default where it is None.

    Raises:
        DynamoError: a kind that was asked for by name cannot be had.
    """
    own, instead = _distances(fit, distance)
    return MapCoordinates(own, spectrum_of_distances(own.matrix), instead)


def with_new_models(fit: Fit, embedding: Embedding, distance: str | None = None) -> tuple[MapCoordinates, Floats]:
    """The coordinates of a map, and where new models lie along them, ``[M, components]``; see
    :func:`~dynamo.analysis.geometry.spectrum.placed`.

    Args:
        fit: the map.
        embedding: the new models on it.
        distance: the kind; the default where it is None.

    Raises:
        DynamoError: a kind that was asked for by name cannot be had.
    """
    old, together, count = map_coordinates(fit, distance), embedding.with_old(fit), len(fit.names)
    examples = old.distances.examples
    if examples and together.probes is None:
        together = attrs.evolve(together, probes=draw_probes(fit.open_population(), KEPT))
    apart = distances(together, old.kind, examples=max(examples, 1), reference=count)
    return old, placed(old.places, apart.matrix[count:, :count])


def places_of(fit: Fit, thetas: AnyFloats, like: int, distance: str | None = None) -> Floats:
    """Where any thetas lie along the coordinates of a map, ``[M, components]``; see
    :func:`~dynamo.analysis.geometry.spectrum.placed`. It takes as long as the map itself.

    A bare θ has no state maps, which the default distance reads states through: it gets those of a base model.

    Args:
        fit: the map.
        thetas: ``[M, d]``.
        like: the number of that base model. At its θ, the place is its own.
        distance: the kind; the default where it is None.

    Raises:
        DynamoError: a kind that was asked for by name cannot be had.
    """
    old, emulator, count = map_coordinates(fit, distance), deepcopy(fit.emulator), len(fit.names)
    plan = emulator.blueprint
    further = [attrs.evolve(plan.subjects[like], name=f"θ {number}") for number in range(len(thetas))]
    emulator.blueprint = attrs.evolve(plan, subjects=(*plan.subjects, *further))
    for theta in torch.as_tensor(np.asarray(thetas), dtype=emulator.thetas[0].dtype):
        emulator.readings.append(emulator.readings[like])
        emulator.state_maps.append(emulator.state_maps[like])
        emulator.thetas.append(torch.nn.Parameter(theta.to(emulator.thetas[0].device)))
    together = attrs.evolve(fit, emulator=emulator, metadata=[*fit.metadata, *({} for _ in further)])
    apart = distances(together, old.kind, examples=max(old.distances.examples, 1), reference=count)
    return placed(old.places, apart.matrix[count:, :count])


def _distances(fit: Fit, distance: str | None) -> tuple[Distances, str]:
    if fit.probes is None and distance is None:
        return fit.distances("theta"), f"this run, of an older version, has kept no inputs for the {DEFAULT} distance"
    examples = _affordable(fit)
    if distance is not None:
        return fit.distances(distance, examples=examples), ""
    try:
        return fit.distances(examples=examples), ""
    except DynamoError as error:
        return fit.distances("theta"), f"the {DEFAULT} distance could not be had ({error})"


def _affordable(fit: Fit) -> int:
    """On how many inputs the emulators are run."""
    if fit.probes is None:
        return KEPT
    sizes = sum(prod(shape) for shape in fit.emulator.meta_model.state_shapes)
    return max(FEWEST, min(KEPT, STATES // (len(fit.names) * sizes * fit.probes.mask.shape[1])))
