"""What the programs of a page read: the models, the network, and points in three dimensions."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from dynamo.contracts.errors import printable
from dynamo.fit.fidelity import Fidelity
from dynamo.fit.fit import Fit
from dynamo.report.content import Content
from dynamo.report.coordinates import MapCoordinates
from dynamo.report.network import Network
from dynamo.report.parts import FIGURES, keys_of


def page_data(content: Content, spaces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a report for its page.

    Args:
        content: the report.
        spaces: points and lines in three dimensions.

    Returns:
        Plain values, without NaN and infinity.
    """
    return {
        "run": printable(str(content.run)),
        **map_data(content.fit, content.drawn, content.colour, content.lines, content.fidelity),
        "network": content.network.content() if isinstance(content.network, Network) else None,
        "spaces": list(spaces),
    }


def map_data(
    fit: Fit,
    drawn: MapCoordinates,
    colour: str | None,
    lines: Sequence[Sequence[int]],
    fidelity: Fidelity | None,
) -> dict[str, Any]:
    """What the map alone is drawn from.

    Args:
        fit: the fit.
        drawn: where its models lie.
        colour: the metadata that colours them at first; None for one colour.
        lines: the numbers of models that are joined.
        fidelity: of every model; None where it was not measured.

    Returns:
        Plain values, without NaN and infinity.
    """
    places = drawn.places
    xyz = np.zeros((len(fit.names), 3))
    shown = min(3, places.coordinates.shape[1])
    xyz[:, :shown] = places.coordinates[:, :shown]
    measured = fidelity.models if fidelity else ()
    return {
        "colour": None if colour is None else printable(colour),
        "models": {
            "names": [printable(name) for name in fit.names],
            "metadata": [
                {"key": printable(key), "values": [_plain(own.get(key)) for own in fit.metadata]}
                for key in keys_of(fit)
            ],
            "fidelity": [
                {"key": told, "values": [_plain(getattr(model, name)) for model in measured]}
                for name, told in FIGURES.items()
                if any(isfinite(getattr(model, name)) for model in measured)
            ],
            "places": [[float(f"{value:.7g}") for value in place] for place in xyz.tolist()],
            "floor": drawn.floor,
            "shares": [float(f"{share:.4g}") for share in places.shares.tolist()[:3]],
            "theta": [[float(f"{value:.9g}") for value in theta] for theta in fit.theta.tolist()],
            "heads": [subject.head for subject in fit.emulator.blueprint.subjects],
            "lines": [list(line) for line in lines],
        },
    }


def _plain(value: object) -> object:
    """A value for JSON, which has no NaN."""
    if isinstance(value, str):
        return printable(value)
    return None if isinstance(value, float) and not isfinite(value) else value
