"""Modules and their files of weights: compared before room is made for them, and read when they are needed."""

import re
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

from dynamo.contracts.encoding import Reencoded
from dynamo.contracts.errors import DynamoError, PluginError, printable
from dynamo.contracts.files import one_line, read_bytes, sha256
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.system.storage import read_tensors, tensors_to_bytes
from dynamo.system.tensor_files import TensorFile

M = TypeVar("M", bound=torch.nn.Module)

#: The most modules and parameters, counted together, that a network may have whose weights are not known yet.
MOST_PARTS = 2**16


@attrs.frozen(eq=False)
class Form:
    """What an architecture makes, as far as it is known without weights; models of one architecture share theirs.

    Attributes:
        build: makes the module, with weights that mean nothing.
        inputs, outputs, state_shapes: those of the module.
        state: its state dict, without memory.
        reading: the encoding that it reads and its space; None where it reads the inputs as they are.
    """

    build: Callable[[], DynamicalModel]
    inputs: InputSpace
    outputs: OutputSpace
    state_shapes: tuple[tuple[int, ...], ...]
    state: Mapping[str, torch.Tensor]
    reading: tuple[str, InputSpace] | None = None

    __repr__ = brief

    @classmethod
    def of(cls, build: Callable[[], DynamicalModel], where: str) -> "Form":
        """The form of what ``build`` makes, which is built without memory.

        Raises:
            DynamoError: it cannot be built, or not without memory.
        """
        module = built_without_memory(build, where)
        state = {key: tensor.to("meta") for key, tensor in module.state_dict().items()}
        return cls(build, module.inputs, module.outputs, module.state_shapes, state, reading_of(module))


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
        part: where it begins in the file and how many bytes it has, where the weights of several models lie there one
            after the other.

    Attributes:
        inputs, outputs, state_shapes, reading: those of the model.
        fingerprint: the sha256 of the model's state dict in the safetensors format.

    Raises:
        DynamoError: the file is missing or no file of tensors, or its tensors do not fit.
    """

    def __init__(
        self,
        name: str,
        form: Form,
        path: Path,
        digest: str | None,
        where: str,
        part: tuple[int, int] | None = None,
    ) -> None:
        self.inputs, self.outputs, self.state_shapes = form.inputs, form.outputs, form.state_shapes
        self.reading = form.reading
        self._build, self._name, self._path, self._where = form.build, name, path.absolute(), where
        self._part, self._digest = part, sha256(read_bytes(path, part=part)) if digest is None else digest
        self._held: Callable[[], DynamicalModel | None] = _nothing
        if digest is not None and (part is not None or path.suffix == ".safetensors"):
            file = TensorFile.open(path, part)
            header = file.forms
            check_shapes(form.state, named_alike(form.state, header), where)
            if not file.metadata and all(
                key in header and header[key].dtype == tensor.dtype for key, tensor in form.state.items()
            ):
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
            tensors = read_tensors(self._path, self._digest, part=self._part)
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


def reading_of(model: DynamicalModel) -> tuple[str, InputSpace] | None:
    """The encoding that a model reads, and its space; None where it reads the inputs as they are."""
    return (model.encoding, model.model.inputs) if isinstance(model, Reencoded) else None


def check_finite(model: torch.nn.Module, name: str) -> None:
    """Raise a clear error where a weight is NaN or infinite."""
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DynamoError(
                f"model {name!r} has NaN or infinite values in {key!r}: its training diverged; leave it out"
            )


def load_module(
    build: Callable[[], M], tensors: Mapping[str, torch.Tensor], where: str, named: "Naming | None" = None
) -> M:
    """Build a module and load a state dict strictly.

    It is built without memory first, so that sizes that the weights do not have are refused before room is made for
    them. Names may be those that ``torch.compile`` and ``DataParallel`` give, see :func:`named_alike`; real numbers of
    another precision are converted to the module's.

    Args:
        build: makes the module.
        tensors: its state dict.
        where: what it belongs to, for messages.
        named: gives the tensors the names that they have in the module; :func:`named_alike` where it is None.

    Raises:
        DynamoError: it cannot be built, names or shapes differ, all of them named, or numbers cannot be converted.
    """
    shell = built_without_memory(build, where, max(MOST_PARTS, 16 * len(tensors)))
    converted = _fitting(shell, tensors, where, named)
    module = _built(build, where)
    check_shapes(module.state_dict(), converted, where)
    return _filled(module, converted, where)


def fill_module(module: M, tensors: Mapping[str, torch.Tensor], where: str, named: "Naming | None" = None) -> M:
    """Load a state dict into a module that is built already, as :func:`load_module` does.

    Raises:
        DynamoError: names or shapes differ, all of them named, or numbers cannot be converted.
    """
    return _filled(module, _fitting(module, tensors, where, named), where)


#: What gives the tensors of a file the names that they have in a module.
Naming = Callable[[torch.nn.Module, Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]


def _fitting(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: str, named: Naming | None
) -> dict[str, torch.Tensor]:
    """Tensors under the names and in the types of numbers that a module has, all of the right shapes."""
    expected = module.state_dict()
    tensors = named_alike(expected, tensors) if named is None else named(module, tensors)
    check_shapes(expected, tensors, where)
    return {key: _converted(tensors[key], tensor.dtype, f"{where}: {key}") for key, tensor in expected.items()}


def _filled(module: M, tensors: Mapping[str, torch.Tensor], where: str) -> M:
    try:
        module.load_state_dict(tensors)
    except Exception as error:
        raise DynamoError(f"{where}: the weights cannot be loaded ({one_line(error)})") from None
    return module


def named_alike(expected: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """A state dict without what training tools put into its names, where that brings them to those of the module:
    ``_orig_mod.`` of ``torch.compile``, and ``module.`` of ``DataParallel`` before all of them.
    """
    if expected.keys() == tensors.keys():
        return tensors
    stripped = {re.sub(r"(^|\.)_orig_mod\.", r"\1", key): tensor for key, tensor in tensors.items()}
    while stripped and all(key.startswith("module.") for key in stripped) and expected.keys() != stripped.keys():
        stripped = {key.removeprefix("module."): tensor for key, tensor in stripped.items()}
    return stripped if expected.keys() == stripped.keys() else tensors


def _converted(tensor: torch.Tensor, wanted: torch.dtype, where: str) -> torch.Tensor:
    """A tensor in the type of numbers that a module has, where nothing but precision is lost."""
    if tensor.dtype == wanted:
        return tensor
    kinds = f"{where} has the type {_kind(tensor.dtype)}, the architecture {_kind(wanted)}"
    if tensor.dtype.is_complex and not wanted.is_complex:
        raise DynamoError(f"{kinds}: its imaginary part would be lost")
    if wanted.is_floating_point and not tensor.dtype.is_floating_point:
        raise DynamoError(f"{kinds}: whole numbers may be codes of a quantised model; save its real weights")
    try:
        found = tensor.to(wanted)
        exact = bool((found.to(tensor.dtype) == tensor).all())
        if not wanted.is_floating_point and not wanted.is_complex and not exact:
            raise DynamoError(f"{kinds}: its values are not whole numbers of that type")
        if wanted.is_floating_point and bool(found.isinf().any()) and not bool(tensor.to(torch.float64).isinf().any()):
            raise DynamoError(f"{kinds}: it has values beyond the range of that")
    except RuntimeError as error:
        raise DynamoError(f"{kinds}, and cannot be converted ({one_line(error)})") from None
    return found


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def built_without_memory(build: Callable[[], M], where: str, most: int | None = None) -> M:
    """A module on the meta device, where its sizes show before room is made for them; of ``most`` parts at most."""
    try:
        with torch.device("meta"), _Unvalued(), _few_parts(MOST_PARTS if most is None else most):
            return build()
    except Exception as error:
        if isinstance(error, DynamoError) and not isinstance(error, PluginError):
            raise error.at(where) from None
        raise DynamoError(
            f"{where} cannot be built without memory, as its sizes are checked ({type(error).__name__}: "
            f"{one_line(error)}): see that its sizes are right; a module of a plugin must not look at the values of "
            "its tensors while it is built"
        ) from None


@contextmanager
def _few_parts(most: int) -> Iterator[None]:
    """Count the modules and parameters that this thread makes, and stop where they are too many."""
    count, thread = 0, threading.get_ident()

    def add(*registered: object) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > most:
            raise DynamoError(f"it has more than {most:,} modules and parameters: make it smaller")

    handles = [
        registration.register_module_parameter_registration_hook(add),
        registration.register_module_module_registration_hook(add),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
    """Raise a clear error where names or shapes differ, with what can be done."""
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    faults = [f"{key} is missing" for key in missing]
    faults += [f"{printable(key)} is not expected" for key in extra]
    faults += [
        f"{key} has shape {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & tensors.keys()
        if tensors[key].shape != expected[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise DynamoError(
            f"{where}: the weights do not fit the architecture: {'; '.join(sorted(faults)[:5])}{more}: "
            f"{_remedy(expected, tensors, len(faults))}"
        )


def _remedy(expected: Mapping[str, Any], tensors: Mapping[str, Any], faults: int) -> str:
    """What can be done about that many faults."""
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    for prefix in sorted({f"{key.partition('.')[0]}." for key in extra}):
        inner = {key.removeprefix(prefix) for key in tensors if key.startswith(prefix)}
        if 2 * len(inner & expected.keys()) > len(expected):
            return (
                f"the names begin with {printable(prefix)!r}; save the state_dict() of that part, or take it off them"
            )
    if len(missing) == faults:
        return "save the whole state_dict(), with its buffers"
    if len(extra) == faults:
        return "take what is not expected out of the state dict"
    return "see that the architecture and its options are those that were trained"
