"""The map of a fit as a widget of a notebook."""

from typing import Any

import traitlets
from anywidget import AnyWidget

from dynamo.contracts.errors import did_you_mean
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.report.notebook import notebook_data, notebook_module


class MapWidget(AnyWidget):
    """The map of a fit, with what is chosen on it, in both directions: set ``selected`` or ``chosen``, and the map
    shows it; choose on the map, and they change. ``observe`` tells of every change.

    Between the models θ is the mean θ of the nearest, as in a report.

    Args:
        fit: the fit.
        colour_by: the metadata that colours the models; one is chosen where it is None.
        distance: the kind that the map is drawn by; the default where it is None.

    Attributes:
        selected: the names of the models inside the lasso, in the order of the thetas.
        chosen: the name of the model that was clicked; None where it was a place between models.
        theta: at the click, d numbers; for a model exactly its own. Read only.

    Raises:
        DynamoError: metadata that some models lack, or distances that cannot be had.

    Example:
        >>> from dynamo import Fit
        >>> widget = Fit.load("run").map(colour_by="fraction")
        >>> widget.observe(lambda change: print(len(change.new), "models"), "selected")
        >>> widget.selected = widget.fit.names[:2]
        2 models
        >>> widget.population.names == widget.selected
        True
    """

    _esm = notebook_module()
    _data = traitlets.Dict().tag(sync=True)
    _spot = traitlets.List(traitlets.Float()).tag(sync=True)
    _selected = traitlets.List(traitlets.Int()).tag(sync=True)
    theta = traitlets.List(traitlets.Float(), read_only=True).tag(sync=True)
    selected = traitlets.List(traitlets.Unicode())
    chosen = traitlets.Unicode(allow_none=True)

    def __init__(self, fit: Fit, colour_by: str | None = None, distance: str | None = None) -> None:
        self.fit = fit
        super().__init__(_data=notebook_data(fit, colour_by, distance))
        self.chosen = fit.names[0]

    def __repr__(self) -> str:
        return f"MapWidget of {len(self.fit.names)} models, {len(self.selected)} of them selected"

    @property
    def population(self) -> Population:
        """The selected base models, of the population that the fit was made from.

        Raises:
            DynamoError: it is not at hand, or none is selected.
        """
        return self.fit.open_population()[self.selected]

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Any) -> list[str]:
        numbers = sorted({self._number(name) for name in proposal.value})
        return [self.fit.names[number] for number in numbers]

    @traitlets.validate("chosen")
    def _check_chosen(self, proposal: Any) -> str | None:
        if proposal.value is not None:
            self._number(proposal.value)
        return proposal.value  # type: ignore[no-any-return]

    @traitlets.observe("selected")
    def _tell_selected(self, change: Any) -> None:
        self._selected = [self._number(name) for name in change.new]

    @traitlets.observe("_selected")
    def _hear_selected(self, change: Any) -> None:
        self.selected = [self.fit.names[number] for number in change.new]

    @traitlets.observe("chosen")
    def _tell_chosen(self, change: Any) -> None:
        if change.new is not None:
            self._go(self._number(change.new))

    @traitlets.observe("_spot")
    def _hear_spot(self, change: Any) -> None:
        if len(change.new) == 1:
            self._go(int(change.new[0]))
        self.chosen = self.fit.names[int(change.new[0])] if len(change.new) == 1 else None

    def _go(self, number: int) -> None:
        self.set_trait("theta", self.fit.theta[number].tolist())
        self._spot = [number]

    def _number(self, name: str) -> int:
        if name not in self.fit.names:
            raise traitlets.TraitError(f"no base model is called {name!r}: {did_you_mean(name, self.fit.names)}")
        return self.fit.names.index(name)
