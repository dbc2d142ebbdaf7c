"""How the networks of a folder are built: by a registered architecture, by the user's own file, by ``transformers``, or
by what the names of their parameters say.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor, nn

from dynamo.contracts.errors import DynamoError, did_you_mean, printable
from dynamo.contracts.files import one_line, read_bytes, sha256
from dynamo.contracts.options import Spec
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import InputSpace, OutputSpace, Readout
from dynamo.population.base_model import MetadataValue
from dynamo.population.doors.recurrent import Layout, RecurrentNetwork
from dynamo.population.doors.sources import Source, options_of
from dynamo.population.weights import fill_module, load_module, named_alike
from dynamo.registry import full_spec, make

Tensors = Mapping[str, Tensor]
Known = Mapping[str, MetadataValue]


class Builder(Protocol):
    """Makes a module of a network on the disk.

    Attributes:
        folders: whether a folder of ``transformers`` is one network.
    """

    folders: bool

    def __call__(self, source: Source, tensors: Tensors, known: Known, readout: Readout | None, /) -> nn.Module:
        """The module with its weights.

        Args:
            source: the network.
            tensors: its weights.
            known: what is known of it.
            readout: when it answers, where its weights do not tell.

        Raises:
            DynamoError: it cannot be built, or its weights do not fit.
        """

    @property
    def told(self) -> dict[str, Any]:
        """What the manifest keeps of how it was built."""


@attrs.frozen
class Registered:
    """A registered architecture; what it makes can be run wherever its plugin is installed."""

    spec: Spec
    folders: bool = False

    @classmethod
    def of(cls, given: Spec | str) -> "Registered":
        """That of a spec, checked.

        Raises:
            DynamoError: no architecture or option has that name.
        """
        return cls(full_spec("architecture", given))

    @property
    def told(self) -> dict[str, Any]:
        """Nothing: the manifest has the architecture."""
        return {}

    def model(self, tensors: Tensors, inputs: InputSpace, outputs: OutputSpace, where: str) -> DynamicalModel:
        """The base model.

        Raises:
            DynamoError: it cannot be built, or its weights do not fit.
        """
        build = partial(make, "architecture", self.spec, DynamicalModel, inputs, outputs)
        with torch.random.fork_rng(devices=[]):
            return load_module(build, tensors, where, named_for)


@attrs.frozen
class OwnModule:
    """A class, or a function, in the user's own file, which is run.

    Attributes:
        path: the file.
        name: of the class.
        digest: the file's sha256.
        options: arguments as they are written, see :func:`~dynamo.population.doors.sources.options_of`.
        make: the class.
    """

    path: Path
    name: str
    digest: str
    options: Mapping[str, str]
    make: Callable[..., Any]
    folders: bool = False

    __repr__ = brief

    @classmethod
    def of(cls, given: str, options: Mapping[str, str]) -> "OwnModule":
        """That of ``path/to/file.py:Class``; the file is run.

        Raises:
            DynamoError: there is no such file or class, or the file fails.
        """
        where, colon, name = given.rpartition(":")
        if not colon or not where.endswith(".py") or not name.isidentifier():
            raise DynamoError(f"cannot read --module {given!r}: write path/to/file.py:Class")
        path = Path(where)
        digest = sha256(read_bytes(path))
        found = _run(path)
        made = getattr(found, name, None)
        if not callable(made):
            known = [
                key for key, value in vars(found).items() if isinstance(value, type) and issubclass(value, nn.Module)
            ]
            raise DynamoError(f"{path} has no class {name!r}: {did_you_mean(name, known)}")
        return cls(path, name, digest, dict(options), made)

    @property
    def told(self) -> dict[str, Any]:
        """The file's name, not where it lies, and that without it the network cannot be run."""
        return {
            "module": f"{self.path.name}:{self.name}",
            "module_sha256": self.digest,
            "module_options": dict(self.options) or None,
            "self_contained": False,
        }

    def __call__(self, source: Source, tensors: Tensors, known: Known, readout: Readout | None) -> nn.Module:
        """An object of the class, with the weights."""
        arguments = options_of(self.options, known)
        try:
            with torch.random.fork_rng(devices=[]):
                module = self.make(**arguments)
        except Exception as error:
            given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise DynamoError(
                f"{self.name}({given}) of {self.path} fails: {type(error).__name__}: {one_line(error)}; its arguments "
                "are given by --module-options NAME=VALUE, those that differ by NAME=@COLUMN"
            ) from error
        if not isinstance(module, nn.Module):
            raise DynamoError(f"{self.name} of {self.path} gives a {type(module).__name__}, and no torch module")
        return fill_module(module, tensors, source.place, named_for)


@attrs.frozen
class Recognised:
    """What a file or folder says itself: a model of ``transformers``, or recurrent layers by their names."""

    folders: bool = True

    @property
    def told(self) -> dict[str, Any]:
        """That the networks cannot be run without their code."""
        return {"self_contained": False}

    def __call__(self, source: Source, tensors: Tensors, known: Known, readout: Readout | None) -> nn.Module:
        """The module."""
        if source.path.is_dir():
            return _of_transformers(source, tensors)
        plain = _without_tools(tensors)
        layout = Layout.of(plain)
        with torch.random.fork_rng(devices=[]):
            build = partial(RecurrentNetwork, layout, readout or "last")
            return load_module(build, plain, source.place, partial(_by_layout, layout))


def _without_tools(tensors: Tensors) -> dict[str, Tensor]:
    """Without what ``DataParallel`` and ``torch.compile`` put into names."""
    found = {key.replace("_orig_mod.", ""): tensor for key, tensor in tensors.items()}
    while found and all(key.startswith("module.") for key in found):
        found = {key.removeprefix("module."): tensor for key, tensor in found.items()}
    return found


def _by_layout(layout: Layout, module: nn.Module, tensors: Tensors) -> Tensors:
    names = {layout.names(key): key for key in module.state_dict()}
    return {names.get(key, key): tensor for key, tensor in tensors.items()}


def named_for(module: nn.Module, tensors: Tensors) -> Tensors:
    """Tensors under the names that a module has, where one way leads there: without what training tools put into the
    names; the part of them under a prefix, as in Lightning's ``model.…``; all of them under one; and with a name for
    each of several that share a weight, of which a file may have one.
    """
    expected = module.state_dict()
    plain = named_alike(expected, tensors)
    if plain.keys() == expected.keys():
        return plain
    shared = _shared(module)
    prefixes = sorted({key[: dot + 1] for key in plain for dot, letter in enumerate(key) if letter == "."})
    inner = [
        {key.removeprefix(prefix): tensor for key, tensor in plain.items() if key.startswith(prefix)}
        for prefix in prefixes
    ]
    outer = [
        {f"{prefix}{key}": tensor for key, tensor in plain.items()}
        for prefix in {f"{key.partition('.')[0]}." for key in expected}
    ]
    ways = (_with_shared(way, shared) for way in (plain, *inner, *outer))
    return next((way for way in ways if way.keys() == expected.keys()), plain)


def _shared(module: nn.Module) -> list[list[str]]:
    """The names of each weight that has several."""
    names: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return [own for own in names.values() if len(own) > 1]


def _with_shared(tensors: Tensors, shared: list[list[str]]) -> dict[str, Tensor]:
    found = dict(tensors)
    for names in shared:
        known = next((tensors[name] for name in names if name in tensors), None)
        found |= {name: known for name in names if name not in tensors and known is not None}
    return found


def _of_transformers(source: Source, tensors: Tensors) -> nn.Module:
    """The model that ``config.json`` names, of a class of ``transformers`` itself; code in the folder is not run."""
    try:
        library: Any = import_module("transformers")
    except ImportError as error:
        raise DynamoError(
            f"it is a model of transformers, which cannot be imported ({one_line(error)}): pip install "
            "'dynamo-embedding[transformers]'"
        ) from None
    try:
        config = library.AutoConfig.from_pretrained(str(source.path), local_files_only=True, trust_remote_code=False)
        name = str((getattr(config, "architectures", None) or ["AutoModel"])[0])
        kind = getattr(library, name, None)
        if name == "AutoModel":
            kind = library.AutoModel._model_mapping[type(config)]
    except Exception as error:
        raise DynamoError(
            f"transformers cannot read its config.json: {type(error).__name__}: {one_line(error)}"
        ) from None
    if not (isinstance(kind, type) and issubclass(kind, library.PreTrainedModel)):
        raise DynamoError(
            f"its config.json names the class {printable(name[:80])!r}, which transformers {library.__version__} does "
            "not have: build it yourself and give it to dynamo.Population.of"
        )
    with torch.random.fork_rng(devices=[]):
        build: Callable[[], nn.Module] = partial(kind, config)
        return load_module(build, tensors, source.place, named_for)


def _run(path: Path) -> Any:
    """The user's file as a module; what lies beside it can be imported while it runs."""
    name = f"dynamo_import_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DynamoError(f"{path} is no Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    with _beside(path.parent):
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise DynamoError(f"{path} fails: {type(error).__name__}: {one_line(error)}") from error
    return module


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
