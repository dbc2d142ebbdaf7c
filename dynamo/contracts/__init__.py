"""All that a plugin is written against: protocols, trajectories, spaces, data, options, components, errors, files.

The names load on first use. A plugin sees ``dynamo``, ``dynamo.contracts`` and ``dynamo.testing``, and nothing else.
"""

from typing import TYPE_CHECKING

from dynamo.lazy import lazy_names

_MODULES = {
    "checks": ("check_declaration", "check_divergence_values", "check_trajectory", "checked_trajectory"),
    "components": ("Component", "Kind", "KINDS", "SIGNATURES"),
    "data": ("Dataset", "Examples", "split_probes"),
    "encoding": ("Encoding", "Reencoded", "match_steps"),
    "errors": (
        "DynamoError",
        "DynamoWarning",
        "InvalidValueError",
        "MissingFileError",
        "PluginError",
        "UnknownNameError",
        "UnusableFileError",
        "WrongTypeError",
        "did_you_mean",
        "has_control_characters",
        "printable",
    ),
    "files": ("name_after", "read_arrays", "read_bytes", "read_gzip", "read_text", "sha256", "write_bytes"),
    "hookspecs": ("hookimpl",),
    "options": ("NoOptions", "Spec", "at_least", "build_options", "fraction", "option", "positive", "seed"),
    "protocols": (
        "Augmentation",
        "Divergence",
        "DynamicalModel",
        "Head",
        "MetaModel",
        "RecurrentMetaModel",
        "RecurrentModel",
        "StateMap",
    ),
    "spaces": ("InputSpace", "OutputSpace"),
    "trajectory": (
        "Inputs",
        "Trajectory",
        "as_inputs",
        "at_readout",
        "at_the_end",
        "check_inputs",
        "collate",
        "iterate",
        "join",
        "pad_time",
    ),
}
_WHERE = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

__all__ = list(_WHERE)

__getattr__, __dir__ = lazy_names(__name__, _WHERE)

if TYPE_CHECKING:
    from dynamo.contracts.checks import check_declaration as check_declaration
    from dynamo.contracts.checks import check_divergence_values as check_divergence_values
    from dynamo.contracts.checks import check_trajectory as check_trajectory
    from dynamo.contracts.checks import checked_trajectory as checked_trajectory
    from dynamo.contracts.components import KINDS as KINDS
    from dynamo.contracts.components import SIGNATURES as SIGNATURES
    from dynamo.contracts.components import Component as Component
    from dynamo.contracts.components import Kind as Kind
    from dynamo.contracts.data import Dataset as Dataset
    from dynamo.contracts.data import Examples as Examples
    from dynamo.contracts.data import split_probes as split_probes
    from dynamo.contracts.encoding import Encoding as Encoding
    from dynamo.contracts.encoding import Reencoded as Reencoded
    from dynamo.contracts.encoding import match_steps as match_steps
    from dynamo.contracts.errors import DynamoError as DynamoError
    from dynamo.contracts.errors import DynamoWarning as DynamoWarning
    from dynamo.contracts.errors import InvalidValueError as InvalidValueError
    from dynamo.contracts.errors import MissingFileError as MissingFileError
    from dynamo.contracts.errors import PluginError as PluginError
    from dynamo.contracts.errors import UnknownNameError as UnknownNameError
    from dynamo.contracts.errors import UnusableFileError as UnusableFileError
    from dynamo.contracts.errors import WrongTypeError as WrongTypeError
    from dynamo.contracts.errors import did_you_mean as did_you_mean
    from dynamo.contracts.errors import has_control_characters as has_control_characters
    from dynamo.contracts.errors import printable as printable
    from dynamo.contracts.files import name_after as name_after
    from dynamo.contracts.files import read_arrays as read_arrays
    from dynamo.contracts.files import read_bytes as read_bytes
    from dynamo.contracts.files import read_gzip as read_gzip
    from dynamo.contracts.files import read_text as read_text
    from dynamo.contracts.files import sha256 as sha256
    from dynamo.contracts.files import write_bytes as write_bytes
    from dynamo.contracts.hookspecs import hookimpl as hookimpl
    from dynamo.contracts.options import NoOptions as NoOptions
    from dynamo.contracts.options import Spec as Spec
    from dynamo.contracts.options import at_least as at_least
    from dynamo.contracts.options import build_options as build_options
    from dynamo.contracts.options import fraction as fraction
    from dynamo.contracts.options import option as option
    from dynamo.contracts.options import positive as positive
    from dynamo.contracts.options import seed as seed
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
    from dynamo.contracts.trajectory import as_inputs as as_inputs
    from dynamo.contracts.trajectory import at_readout as at_readout
    from dynamo.contracts.trajectory import at_the_end as at_the_end
    from dynamo.contracts.trajectory import check_inputs as check_inputs
    from dynamo.contracts.trajectory import collate as collate
    from dynamo.contracts.trajectory import iterate as iterate
    from dynamo.contracts.trajectory import join as join
    from dynamo.contracts.trajectory import pad_time as pad_time
