"""The map in a notebook: what the widget runs in the browser, and what it reads.

The widget is made with anywidget, whose front end is one module of JavaScript that Jupyter, VS Code, Colab and marimo
run without an extension of their own. The module is the report's own programs of the map, so that there is one map.
"""

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dynamo.contracts.errors import DynamoError
from dynamo.fit.fit import Fit
from dynamo.report.content import checkpoints, with_floor
from dynamo.report.coordinates import map_coordinates
from dynamo.report.markup import element, together
from dynamo.report.page_data import map_data
from dynamo.report.panel import map_panel
from dynamo.report.programs import NOTEBOOK, NOTEBOOK_STYLE, own
from dynamo.report.run import check_key, colouring

if TYPE_CHECKING:
    from dynamo.report.widget import MapWidget


def map_widget(fit: Fit, colour_by: str | None = None, distance: str | None = None) -> "MapWidget":
    """The map of a fit as a widget; see :meth:`dynamo.Fit.map`.

    Raises:
        DynamoError: anywidget is not installed, metadata that some models lack, or distances that cannot be had.
    """
    if find_spec("anywidget") is None:
        raise DynamoError(
            "a map in a notebook needs anywidget: pip install 'dynamo-embedding[notebook]' (or pip install anywidget)"
        )
    from dynamo.report.widget import MapWidget

    return MapWidget(fit, colour_by, distance)


def notebook_data(fit: Fit, colour_by: str | None, distance: str | None) -> dict[str, Any]:
    """What the widget's map is drawn from: the same as in a report.

    Raises:
        DynamoError: metadata that some models lack, or distances that cannot be had.
    """
    check_key(fit.metadata, colour_by)
    drawn = map_coordinates(fit, distance)
    if fit.folder is not None:
        drawn, _ = with_floor(drawn, fit.folder)
    return map_data(fit, drawn, colour_by or colouring(fit.metadata), checkpoints(fit), fit.fidelity)


def notebook_module() -> str:
    """The module of JavaScript that shows the map: one function, that of anywidget's ``render``."""
    markup = together(element("style", own(*NOTEBOOK_STYLE)), *map_panel(walk=True))
    return (
        f"const MARKUP = {json.dumps(markup)};\n"
        f"function render({{ model, el }}) {{\n{own(*NOTEBOOK)}\n}}\n"
        "export default { render };\n"
    )
