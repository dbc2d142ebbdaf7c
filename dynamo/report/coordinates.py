"""What a map is drawn from: the principal coordinates of distances between models."""

import attrs

from dynamo.analysis.arrays import Floats
from dynamo.analysis.geometry.spectrum import Spectrum, placed, spectrum_of_distances
from dynamo.contracts.errors import DynamoError
from dynamo.fit.distances import DEFAULT, Distances, distances
from dynamo.fit.embedding import Embedding
from dynamo.fit.fit import Fit
from dynamo.fit.probes import KEPT, draw_probes

#: Up to so many models the emulators are run on all probe inputs that a fit has kept. More models get fewer inputs, so
#: that a picture or a summary takes seconds whatever their number.
ON_ALL_PROBES = 100

#: The fewest inputs, however many models there are.
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

    @property
    def kind(self) -> str:
        """Of the distances."""
        return self.distances.kind

    def describe(self) -> str:
        """What the distances are, in a line."""
        return self.distances.describe() + (f": {self.instead}" if self.instead else "")


def map_coordinates(fit: Fit, distance: str | None = None) -> MapCoordinates:
    """The coordinates that the map of a fit is drawn from.

    The emulators are run on the inputs that the fit has kept, and at most :data:`ON_ALL_PROBES` × 256 times. Where the
    default distance cannot be had, it is that of the thetas, and the result says why.

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


def _distances(fit: Fit, distance: str | None) -> tuple[Distances, str]:
    if fit.probes is None and distance is None:
        return fit.distances("theta"), f"this run, of an older version, has kept no inputs for the {DEFAULT} distance"
    examples = KEPT if len(fit.names) <= ON_ALL_PROBES else max(FEWEST, KEPT * ON_ALL_PROBES // len(fit.names))
    if distance is not None:
        return fit.distances(distance, examples=examples), ""
    try:
        return fit.distances(examples=examples), ""
    except DynamoError as error:
        return fit.distances("theta"), f"the {DEFAULT} distance could not be had ({error})"
