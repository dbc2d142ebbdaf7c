"""What a map is drawn from: the principal coordinates of distances between models."""

from copy import deepcopy
from math import prod

import attrs
import numpy as np
import torch

from dynamo.analysis.arrays import AnyFloats, Floats
from dynamo.analysis.geometry.spectrum import Spectrum, placed, spectrum, spectrum_of_distances
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.fit.distances import DEFAULT, MOST, Distances, distances
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
        distances: between the models; None where they are too many for all pairs, and lie by their thetas.
        places: their principal coordinates.
        instead: why they are those of the thetas and not the default; empty where nothing was amiss.
    """

    distances: Distances | None
    places: Spectrum
    instead: str = ""

    __repr__ = brief

    @property
    def kind(self) -> str:
        """Of the distances."""
        return "theta" if self.distances is None else self.distances.kind

    @property
    def floor(self) -> float | None:
        """The noise floor of the distances, where it is known."""
        return None if self.distances is None else self.distances.floor

    def describe(self) -> str:
        """What the distances are, in a line."""
        told = f"distances by {self.kind}" if self.distances is None else self.distances.describe()
        return told + (f": {self.instead}" if self.instead else "")


def map_coordinates(fit: Fit, distance: str | None = None) -> MapCoordinates:
    """The coordinates that the map of a fit is drawn from.

    The emulators are run on the inputs that the fit has kept, or on some of them, see :data:`STATES`. Where the default
    distance cannot be had, it is that of the thetas, and the result says why. Of more than
    :data:`~dynamo.fit.distances.MOST` models it is that of the thetas, whose principal components need no pairs.

    Args:
        fit: the fit.
        distance: the kind; the default where it is None.

    Raises:
        DynamoError: a kind that was asked for by name cannot be had.
    """
    if len(fit.names) > MOST and distance in (None, "theta"):
        instead = "" if distance else f"the {DEFAULT} distance is computed of up to {MOST:,} models"
        return MapCoordinates(None, spectrum(fit.theta.double().numpy()), instead)
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
    if old.distances is None:
        return old, _along_components(fit, old, embedding.theta.double().numpy())
    examples = old.distances.examples
    if examples and together.probes is None:
        together = attrs.evolve(together, probes=draw_probes(fit.open_population(), KEPT))
    apart = distances(together, old.kind, examples=max(examples, 1), reference=count)
    return old, placed(old.places, apart.matrix[count:, :count])


def places_of(fit: Fit, old: MapCoordinates, thetas: AnyFloats, like: int) -> Floats:
    """Where any thetas lie along the coordinates of a map, ``[M, components]``; see
    :func:`~dynamo.analysis.geometry.spectrum.placed`. It takes as long as the coordinates themselves.

    A bare θ has no state maps, which the default distance reads states through: it gets those of a base model.

    Args:
        fit: the map.
        old: its coordinates.
        thetas: ``[M, d]``.
        like: the number of that base model. At its θ, the place is its own.
    """
    if old.distances is None:
        return _along_components(fit, old, thetas)
    emulator, count = deepcopy(fit.emulator), len(fit.names)
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


def _along_components(fit: Fit, old: MapCoordinates, thetas: AnyFloats) -> Floats:
    """Thetas along the principal components of those of a map."""
    places: Floats = (thetas - fit.theta.double().mean(0).numpy()) @ old.places.components.T
    return places


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
