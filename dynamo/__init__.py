"""DYNAMO: a map of a population of neural networks, and a meta-model that can imitate every one of them.

The names below are the public interface. They load on first use, so that importing ``dynamo`` (and the command
line's ``--help``) does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "Augmentation": "dynamo.protocols",
    "Component": "dynamo.components",
    "component": "dynamo.plugins",
    "Dataset": "dynamo.data",
    "Divergence": "dynamo.protocols",
    "DynamicalModel": "dynamo.protocols",
    "DynamoError": "dynamo.errors",
    "Examples": "dynamo.data",
    "Fit": "dynamo.fit",
    "FitOptions": "dynamo.fit_options",
    "Head": "dynamo.protocols",
    "hookimpl": "dynamo.hookspecs",
    "Inputs": "dynamo.trajectory",
    "InputSpace": "dynamo.spaces",
    "measure_fidelity": "dynamo.fidelity",
    "MetaModel": "dynamo.protocols",
    "option": "dynamo.options",
    "OutputSpace": "dynamo.spaces",
    "Population": "dynamo.population",
    "record": "dynamo.recording",
    "RecurrentMetaModel": "dynamo.protocols",
    "RecurrentModel": "dynamo.protocols",
    "register": "dynamo.plugins",
    "Spec": "dynamo.options",
    "StateMap": "dynamo.protocols",
    "Trainer": "dynamo.trainer",
    "Trajectory": "dynamo.trajectory",
}

__all__ = [*_WHERE, "__version__"]

if TYPE_CHECKING:
    from dynamo.components import Component as Component
    from dynamo.data import Dataset as Dataset
    from dynamo.data import Examples as Examples
    from dynamo.errors import DynamoError as DynamoError
    from dynamo.fidelity import measure_fidelity as measure_fidelity
    from dynamo.fit import Fit as Fit
    from dynamo.fit_options import FitOptions as FitOptions
    from dynamo.hookspecs import hookimpl as hookimpl
    from dynamo.options import Spec as Spec
    from dynamo.options import option as option
    from dynamo.plugins import component as component
    from dynamo.plugins import register as register
    from dynamo.population import Population as Population
    from dynamo.protocols import Augmentation as Augmentation
    from dynamo.protocols import Divergence as Divergence
    from dynamo.protocols import DynamicalModel as DynamicalModel
    from dynamo.protocols import Head as Head
    from dynamo.protocols import MetaModel as MetaModel
    from dynamo.protocols import RecurrentMetaModel as RecurrentMetaModel
    from dynamo.protocols import RecurrentModel as RecurrentModel
    from dynamo.protocols import StateMap as StateMap
    from dynamo.recording import record as record
    from dynamo.spaces import InputSpace as InputSpace
    from dynamo.spaces import OutputSpace as OutputSpace
    from dynamo.trainer import Trainer as Trainer
    from dynamo.trajectory import Inputs as Inputs
    from dynamo.trajectory import Trajectory as Trajectory


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'dynamo' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
