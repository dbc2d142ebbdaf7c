"""DYNAMO: a map of a population of neural networks, and a meta-model that can imitate every one of them.

The names below are the public interface; ``dynamo.analysis`` holds the questions to a map, ``dynamo.contracts`` what a
plugin is written against, ``dynamo.testing`` checks of it. They load on first use, so that importing ``dynamo`` (and
the command line's ``--help``) does not import torch.
"""

from typing import TYPE_CHECKING

from dynamo.lazy import lazy_names
from dynamo.version import __version__

_WHERE = {
    "analysis": "dynamo.analysis",
    "Augmentation": "dynamo.contracts.protocols",
    "BaseModel": "dynamo.population.base_model",
    "Component": "dynamo.contracts.components",
    "component": "dynamo.registry",
    "contracts": "dynamo.contracts",
    "Dataset": "dynamo.contracts.data",
    "Divergence": "dynamo.contracts.protocols",
    "DynamicalModel": "dynamo.contracts.protocols",
    "DynamoError": "dynamo.contracts.errors",
    "embed": "dynamo.fit.embedding",
    "EmbedOptions": "dynamo.training.options",
    "encode_texts": "dynamo.population.encoded_texts",
    "Encoding": "dynamo.contracts.encoding",
    "Examples": "dynamo.contracts.data",
    "Fit": "dynamo.fit.fit",
    "fit_population": "dynamo.report.fit_population",
    "FitOptions": "dynamo.training.options",
    "Head": "dynamo.contracts.protocols",
    "hookimpl": "dynamo.contracts.hookspecs",
    "import_networks": "dynamo.population.doors.networks",
    "Inputs": "dynamo.contracts.trajectory",
    "InputSpace": "dynamo.contracts.spaces",
    "MapEstimator": "dynamo.report.estimator",
    "measure_fidelity": "dynamo.fit.fidelity",
    "MetaModel": "dynamo.contracts.protocols",
    "option": "dynamo.contracts.options",
    "OutputSpace": "dynamo.contracts.spaces",
    "Population": "dynamo.population.population",
    "preset": "dynamo.training.presets",
    "Ranks": "dynamo.fit.ranks",
    "record": "dynamo.population.recording",
    "RecurrentMetaModel": "dynamo.contracts.protocols",
    "RecurrentModel": "dynamo.contracts.protocols",
    "Reencoded": "dynamo.contracts.encoding",
    "register": "dynamo.registry",
    "Spec": "dynamo.contracts.options",
    "StateMap": "dynamo.contracts.protocols",
    "testing": "dynamo.testing",
    "train_population": "dynamo.training.train_population",
    "Trainer": "dynamo.training.trainer",
    "Trajectory": "dynamo.contracts.trajectory",
    "wrap": "dynamo.population.wrapping.wrap",
    "write_report": "dynamo.report.write",
}

__all__ = [*_WHERE, "__version__"]

__getattr__, __dir__ = lazy_names(__name__, _WHERE)

if TYPE_CHECKING:
    from dynamo import analysis as analysis
    from dynamo import contracts as contracts
    from dynamo import testing as testing
    from dynamo.contracts.components import Component as Component
    from dynamo.contracts.data import Dataset as Dataset
    from dynamo.contracts.data import Examples as Examples
    from dynamo.contracts.encoding import Encoding as Encoding
    from dynamo.contracts.encoding import Reencoded as Reencoded
    from dynamo.contracts.errors import DynamoError as DynamoError
    from dynamo.contracts.hookspecs import hookimpl as hookimpl
    from dynamo.contracts.options import Spec as Spec
    from dynamo.contracts.options import option as option
    from dynamo.contracts.protocols import Augmentation as Augmentation
    from dynamo.contracts.protocols import Divergence as Divergence
    from dynamo.contracts.protocols import DynamicalModel as DynamicalModel
    from dynamo.contracts.protocols import Head as Head
    from dynamo.contracts.protocols import MetaModel as MetaModel
    from dynamo.contracts.protocols import RecurrentMetaModel as RecurrentMetaModel
    from dynamo.contracts.protocols import RecurrentModel as RecurrentModel
    from dynamo.contracts.protocols import StateMap as StateMap
    from dynamo.contracts.spaces import InputSpace as InputSpace
    from dynamo.contracts.spaces import OutputSpace as OutputSpace
    from dynamo.contracts.trajectory import Inputs as Inputs
    from dynamo.contracts.trajectory import Trajectory as Trajectory
    from dynamo.fit.embedding import embed as embed
    from dynamo.fit.fidelity import measure_fidelity as measure_fidelity
    from dynamo.fit.fit import Fit as Fit
    from dynamo.fit.ranks import Ranks as Ranks
    from dynamo.population.base_model import BaseModel as BaseModel
    from dynamo.population.doors.networks import import_networks as import_networks
    from dynamo.population.encoded_texts import encode_texts as encode_texts
    from dynamo.population.population import Population as Population
    from dynamo.population.recording import record as record
    from dynamo.population.wrapping.wrap import wrap as wrap
    from dynamo.registry import component as component
    from dynamo.registry import register as register
    from dynamo.report.estimator import MapEstimator as MapEstimator
    from dynamo.report.fit_population import fit_population as fit_population
    from dynamo.report.write import write_report as write_report
    from dynamo.training.options import EmbedOptions as EmbedOptions
    from dynamo.training.options import FitOptions as FitOptions
    from dynamo.training.presets import preset as preset
    from dynamo.training.train_population import train_population as train_population
    from dynamo.training.trainer import Trainer as Trainer
