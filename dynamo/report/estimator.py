"""The way from networks to a map as scikit-learn has it: ``fit``, ``transform``, parameters that can be set."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from dynamo.contracts.data import Dataset
from dynamo.contracts.errors import WrongTypeError
from dynamo.contracts.options import Spec
from dynamo.fit.embedding import EmbedOptions, embed
from dynamo.fit.fidelity import Fidelity, ModelFidelity, measure_fidelity
from dynamo.fit.fit import Fit
from dynamo.population.base_model import BaseModel
from dynamo.population.population import Population
from dynamo.report.fit_population import fit_population
from dynamo.system.bars import stages_of
from dynamo.system.progress import Setting
from dynamo.system.tables import numbered
from dynamo.training.options import FitOptions
from dynamo.training.presets import preset

#: Parameters of the estimator, and the fit options that they set.
_OPTIONS = {
    "theta_dim": "theta_dim",
    "steps": "steps",
    "meta_model": "meta_model",
    "state_map": "state_map",
    "output_weight": "output_weight",
    "random_state": "seed",
    "device": "device",
}


class MapEstimator(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A map of networks as an estimator of scikit-learn: the samples are networks, the features their thetas.

    Parameters that are None leave what the preset, or ``options``, says. It can be cloned, searched over, put in a
    pipeline, and pickled: a fitted one is pickled with its weights as bytes of a run folder, which are read as
    :meth:`dynamo.Fit.load` reads them. There is no ``n_features_in_``, since a network is no row of numbers.

    Args:
        preset: the options to start from; see :func:`dynamo.preset`.
        data: the data set of networks that are given without one, or its spec; see :meth:`dynamo.Population.of`.
        theta_dim: d, the dimensions of the map.
        steps: of the fit.
        meta_model: the spec of the meta-model.
        state_map: the spec of the state maps V_n.
        output_weight: λ of equation 3.
        random_state: the seed of the fit.
        device: where to fit and to embed.
        options: all options of the fit, in place of the preset.
        embed_options: how :meth:`transform` embeds.
        progress: True, "notebook" or False, see :meth:`dynamo.Trainer.run`.

    Attributes:
        embedding_: the thetas of the networks that were fitted, ``[N, d]``.
        names_: their names.
        fit_: the :class:`dynamo.Fit`.
        fidelity_: how well each network is imitated.

    Example:
        >>> from dynamo import MapEstimator, Population
        >>> population = Population.load("population")
        >>> estimator = MapEstimator(theta_dim=3, steps=20).fit(population[:3])
        >>> estimator.embedding_.shape, estimator.transform(population[3:]).shape
        ((3, 3), (1, 3))
    """

    def __init__(
        self,
        preset: str = "laptop",
        *,
        data: Dataset | Spec | str | None = None,
        theta_dim: int | None = None,
        steps: int | None = None,
        meta_model: str | None = None,
        state_map: str | None = None,
        output_weight: float | None = None,
        random_state: int | None = None,
        device: str | None = None,
        options: FitOptions | None = None,
        embed_options: EmbedOptions | None = None,
        progress: Setting | Callable[..., Any] = False,
    ) -> None:
        self.preset = preset
        self.data = data
        self.theta_dim = theta_dim
        self.steps = steps
        self.meta_model = meta_model
        self.state_map = state_map
        self.output_weight = output_weight
        self.random_state = random_state
        self.device = device
        self.options = options
        self.embed_options = embed_options
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> "MapEstimator":
        """Fit a meta-model to networks.

        Args:
            X: a population, or networks as :meth:`dynamo.Population.of` takes them: a list, or a table of names. Of a
                list without names they are called ``model-0`` and so on.
            y: ignored.

        Returns:
            The estimator itself.

        Raises:
            DynamoError: what :func:`dynamo.fit_population` finds.
        """
        population, options = self._population(X), self._fit_options()
        with stages_of(self.progress) as stages:
            self.fit_ = fit_population(population, options, progress=stages)
            tick = stages("measuring fidelity", len(population))
            self.fidelity_ = measure_fidelity(self.fit_, population, tick)
        self.embedding_, self.names_ = self.fit_.theta.numpy(), self.fit_.names
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        """Fit a meta-model to networks; their thetas ``[N, d]``."""
        thetas: NDArray[np.float32] = self.fit(X).embedding_
        return thetas

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Put new networks on the map, which stays as it is; see :func:`dynamo.embed`.

        Args:
            X: as for :meth:`fit`.

        Returns:
            Their thetas ``[M, d]``.

        Raises:
            sklearn.exceptions.NotFittedError: there is no map yet.
            DynamoError: what :func:`dynamo.embed` finds.
        """
        check_is_fitted(self)
        options = self.embed_options or EmbedOptions()
        if self.device is not None:
            options = attrs.evolve(options, device=self.device)
        with stages_of(self.progress) as stages:
            found = embed(self.fit_, self._population(X), self.fidelity_, options, stages("embedding", None))
        return found.theta.numpy()

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """The names of the columns of :attr:`embedding_`: ``theta_1`` and so on."""
        check_is_fitted(self)
        return np.array(numbered("theta", self.embedding_.shape[1]), dtype=object)

    def _fit_options(self) -> FitOptions:
        values = {name: getattr(self, parameter) for parameter, name in _OPTIONS.items()}
        given = {name: value for name, value in values.items() if value is not None}
        return preset(self.preset, **given) if self.options is None else attrs.evolve(self.options, **given)

    def _population(self, X: Any) -> Population:
        if isinstance(X, Population):
            return X
        if not isinstance(X, Mapping) and isinstance(X, Iterable):
            X = list(X)
            if X and all(isinstance(item, BaseModel) for item in X):
                return Population(X)
            X = {f"model-{number}": model for number, model in enumerate(X)}
        if not isinstance(X, Mapping) or not all(isinstance(model, torch.nn.Module) for model in X.values()):
            raise WrongTypeError(
                f"X is a population, a list of networks or a table of names and networks, not {type(X).__name__}: the "
                "samples of this estimator are networks"
            )
        if self.data is None:
            raise WrongTypeError("networks need inputs to be compared on: give MapEstimator(data=…), or a population")
        return Population.of(X, self.data)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "fit_" in state:
            state["fit_"] = _packed(state["fit_"])
            state["fidelity_"] = [attrs.astuple(model) for model in state["fidelity_"].models]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "fit_" in state:
            models = tuple(ModelFidelity(*row) for row in state["fidelity_"])
            state = {**state, "fit_": _unpacked(state["fit_"]), "fidelity_": Fidelity(models)}
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


def _packed(fit: Fit) -> dict[str, bytes]:
    """The files of a run folder."""
    with TemporaryDirectory() as folder:
        fit.save(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _unpacked(files: Mapping[str, bytes]) -> Fit:
    """The fit whose run folder has these files."""
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / Path(name).name).write_bytes(content)
        fit = Fit.load(folder)
        fit.emulator.state_dict()  # read all of it now: the folder goes
        return attrs.evolve(fit, folder=None)
