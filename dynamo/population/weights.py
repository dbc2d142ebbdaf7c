"""Modules and their files of weights: compared before room is made for them, and read when they are needed."""

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch
from torch.overrides import TorchFunctionMode

from dynamo.contracts.errors import DynamoError, PluginError
from dynamo.contracts.files import read_bytes, sha256
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.system.storage import read_header, read_tensors, tensors_to_bytes

M = TypeVar("M", bound=torch.nn.Module)


@attrs.frozen(eq=False)
class Form:
    """What an architecture makes, as far as it is known without weights; models of one architecture share theirs.

    Attributes:
        build: makes the module, with weights that mean nothing.
        inputs, outputs, state_shapes: those of the module.
        state: its state dict, without memory.
    """

    build: Callable[[], DynamicalModel]
    inputs: InputSpace
    outputs: OutputSpace
    state_shapes: tuple[tuple[int, ...], ...]
    state: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, build: Callable[[], DynamicalModel], where: str) -> "Form":
        """The form of what ``build`` makes.

        Raises:
            DynamoError: it cannot be built.
        """
        module = _built_without_memory(build, where) or _built(build, where)
        state = {key: tensor.to("meta") for key, tensor in module.state_dict().items()}
        return cls(build, module.inputs, module.outputs, module.state_shapes, state)


class StoredModel:
    """A base model in a file. Its weights are read when they are asked for, and forgotten when nobody holds them.

    What is opened is compared with its form, by the header alone where the file is one of a saved population: a
    ``.safetensors`` whose sha256 is known. Any other is read once, to know what it holds.

    Args:
        name: of the model, for messages.
        form: what its architecture makes.
        path: its weights.
        digest: the file's sha256, where it is known.
        where: what it belongs to, for messages.

    Attributes:
        inputs, outputs, state_shapes: those of the model.
        fingerprint: the sha256 of the model's state dict in the safetensors format.

    Raises:
        DynamoError: the file is missing or no file of tensors, or its tensors do not fit.
    """

    def __init__(self, name: str, form: Form, path: Path, digest: str | None, where: str) -> None:
        self.inputs, self.outputs, self.state_shapes = form.inputs, form.outputs, form.state_shapes
        self._build, self._name, self._path, self._where = form.build, name, path.absolute(), where
        self._digest = sha256(read_bytes(path)) if digest is None else digest
        self._held: Callable[[], DynamicalModel | None] = _nothing
        if digest is not None and path.suffix == ".safetensors":
            header, metadata = read_header(path)
            check_shapes(form.state, header, where)
            if not metadata and all(header[key].dtype == tensor.dtype for key, tensor in form.state.items()):
                self.fingerprint = digest  # written by the same function of the same tensors
                return
        self.fingerprint = sha256(tensors_to_bytes(self.read().state_dict()))

    def read(self) -> DynamicalModel:
        """The model, frozen and in eval mode; the same object for as long as somebody holds it. No random number is
        used up.

        Raises:
            DynamoError: the file is missing, damaged or another than it was, or values are not finite.
        """
        model = self._held()
        if model is None:
            tensors = read_tensors(self._path, self._digest)
            with torch.random.fork_rng(devices=[]):
                model = load_module(self._build, tensors, self._where)
            check_finite(model, self._name)
            model.eval().requires_grad_(False)
            self._held = weakref.ref(model)
        return model

    def __getstate__(self) -> dict[str, Any]:
        """Another process reads its own."""
        return {**vars(self), "_held": _nothing}


def _nothing() -> None:
    return None


def check_finite(model: DynamicalModel, name: str) -> None:
    """Raise a clear error where a weight is NaN or infinite."""
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DynamoError(
                f"model {name!r} has NaN or infinite values in {key!r}: its training diverged; leave it out"
            )


def load_module(build: Callable[[], M], tensors: Mapping[str, torch.Tensor], where: str) -> M:
    """Build a module and load a state dict strictly.

    It is built without memory first, so that sizes that the weights do not have are refused before room is made for
    them.

    Args:
        build: makes the module.
        tensors: its state dict.
        where: what it belongs to, for messages.

    Raises:
        DynamoError: it cannot be built, or names or shapes differ, all of them named.
    """
    expected = _built_without_memory(build, where)
    if expected is not None:
        check_shapes(expected.state_dict(), tensors, where)
    module = _built(build, where)
    check_shapes(module.state_dict(), tensors, where)
    module.load_state_dict(dict(tensors))
    return module


def _built_without_memory(build: Callable[[], M], where: str) -> M | None:
    """A module on the meta device; None for one of somebody's plugin that looks at values, which has none there."""
    try:
        with torch.device("meta"), _Unvalued():
            return build()
    except PluginError:
        return None
    except DynamoError as error:
        raise DynamoError(f"{where}: {error}") from None
    except Exception:
        return None


def _built(build: Callable[[], M], where: str) -> M:
    try:
        return build()
    except DynamoError as error:
        raise DynamoError(f"{where}: {error}") from None
    except Exception as error:
        raise DynamoError(f"{where} cannot be built: {type(error).__name__}: {error}") from error


class _Unvalued(TorchFunctionMode):
    """Lets modules that compare values when they are built be built without any: all are alike."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer the comparison, pass on all else."""
        return True if function is torch.allclose else function(*args, **(kwargs or {}))


def check_shapes(expected: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Raise a clear error where names or shapes differ."""
    faults = [f"{key} is missing" for key in expected.keys() - tensors.keys()]
    faults += [f"{key} is not expected" for key in tensors.keys() - expected.keys()]
    faults += [
        f"{key} has shape {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & tensors.keys()
        if tensors[key].shape != expected[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise DynamoError(f"{where}: the weights do not fit the architecture: {'; '.join(sorted(faults)[:5])}{more}")
