"""A device that is not there: tensors that live on the CPU and pass for those of a GPU.

While :class:`FakeDevice` holds, whatever is made on ``cuda:0`` or moved there is marked as being there, and so is all
that is computed from it. What a GPU would refuse is refused: operations on tensors of two devices, ``numpy()`` without
``cpu()``, a generator of the CPU, double precision where the device has none. What would make the CPU wait for the GPU
is counted. The numbers are the CPU's own.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")
#: Operations that may copy from one device to another.
COPIES = {"aten::copy_", "aten::_foreach_copy_", "aten::set_"}
#: Operations whose indices may be on the CPU.
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index"}
#: Operations that do not even take a single number from another device.
STRICT = {"aten::cat", "aten::stack", "aten::_fused_adamw_", "aten::_fused_sgd_"}
#: Operations that give Python a number, or a result whose size the device alone knows.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::equal",
}


class WrongDeviceError(RuntimeError):
    """What the device would have refused."""


class FakeDevice:
    """While this holds there is a device of that name.

    Attributes:
        waits: how often the CPU had to wait for the device, by reason.
        ran: how many operations ran on the device, by name.
    """

    def __init__(self, name: str = "cuda:0") -> None:
        self.device = torch.device(name)
        self.waits: Counter[str] = Counter()
        self.ran: Counter[str] = Counter()
        self._refuses_waits = self._crosses = False
        self.asked = ""  # the function that Python has called
        self._there: dict[int, StorageWeakRef] = {}
        self._pinned: dict[int, StorageWeakRef] = {}
        self._anywhere: dict[int, StorageWeakRef] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "FakeDevice":
        self.generator = torch.Generator()
        is_cuda = self.device.type == "cuda"
        for place, name, value in (
            (torch.cuda, "init", lambda: None),
            (torch.cuda, "is_available", lambda: is_cuda),
            (torch.cuda, "device_count", lambda: int(is_cuda)),
            (torch.cuda, "current_device", lambda: 0),
            (torch.cuda, "default_generators", (self.generator,)),
            (torch.backends.cudnn, "is_acceptable", lambda tensor: False),
            (torch.mps, "_get_default_mps_generator", lambda: self.generator),
        ):
            self._stack.enter_context(mock.patch.object(place, name, value))
        for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
            if hasattr(torch.optim.Optimizer, name):
                self._stack.enter_context(mock.patch.object(torch.optim.Optimizer, name, return_value=None))
        self._stack.enter_context(_Operations(self))
        self._stack.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @contextmanager
    def no_waiting(self) -> Iterator[None]:
        """While this holds, waiting for the device is an error."""
        self._refuses_waits = True
        try:
            yield
        finally:
            self._refuses_waits = False

    def wait(self, what: str) -> None:
        """The CPU waits for the device."""
        self.waits[what] += 1
        if self._refuses_waits:
            raise WrongDeviceError(f"the CPU waits for the device: {what}")

    def means(self, device: object) -> bool:
        """Whether this is the device that is meant."""
        return torch.device(device).type == self.device.type

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the device."""
        return _is_marked(self._there, tensor)

    def put(self, tensor: Tensor) -> Tensor:
        """Mark a tensor, and all that share its memory, as being on the device."""
        if self.device.type == "mps" and tensor.dtype == torch.float64:
            raise WrongDeviceError("the MPS framework doesn't support float64")
        _mark(self._there, tensor)
        return tensor

    def device_of(self, tensor: Tensor) -> torch.device:
        """Where a tensor passes for being."""
        with torch._C.DisableTorchFunction():
            own = tensor.device
        return self.device if self.has(tensor) else own

    def copied(self, tensor: Tensor, there: bool) -> Tensor:
        """A copy on the device, or on the CPU."""
        self._crosses = True
        try:
            found = tensor.clone()
        finally:
            self._crosses = False
        return self.put(found) if there else found

    def check(self, name: str, args: tuple, kwargs: dict) -> bool:
        """Whether an operation runs on the device; raises where it would be refused."""
        given = _tensors(args, kwargs)
        if self._crosses or not any(map(self.has, given)):
            return False
        self.ran[name] += 1
        self.check_generator(name, kwargs.get("generator"))
        strangers = [tensor for tensor in given if not self.has(tensor) and (tensor.ndim or name in STRICT)]
        strangers = [tensor for tensor in strangers if not _is_marked(self._anywhere, tensor)]
        if name in COPIES:
            if strangers:
                self.wait("a copy between devices")
            return True
        if name in INDEXED:
            if not self.has(args[0]):
                raise WrongDeviceError(f"{name}: indices on {self.device} for a tensor on the CPU")
            indices = _tensors(args[1])
            if any(not self.has(index) for index in indices):
                self.wait("an index on the CPU")
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.wait("a mask as an index")
            strangers = [tensor for tensor in strangers if not any(tensor is index for index in indices)]
        if strangers:
            raise WrongDeviceError(f"{name}: expected all tensors on the same device, found {self.device} and cpu")
        if name in WAITING or (name == "aten::repeat_interleave" and kwargs.get("output_size") is None):
            self.wait(name)
        return True

    def check_generator(self, name: str, generator: torch.Generator | None) -> None:
        if generator is not None and generator is not self.generator:
            raise WrongDeviceError(f"{name}: a generator of the CPU for {self.device}")


def _is_marked(known: dict[int, StorageWeakRef], tensor: Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        return not tensor.is_meta and tensor.layout == torch.strided and tensor.untyped_storage()._cdata in known


def _mark(known: dict[int, StorageWeakRef], tensor: Tensor) -> None:
    # While there is a weak reference, its address is given to no other: no mark outlives what it was put on.
    if len(known) > 20_000:
        for address in [address for address, kept in known.items() if kept.expired()]:
            del known[address]
    with torch._C.DisableTorchFunction():
        if not tensor.is_meta and tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            known.setdefault(storage._cdata, StorageWeakRef(storage))


def _tensors(*values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class _Operations(TorchDispatchMode):
    """What runs: whether it may, and where its results are."""

    def __init__(self, fake: FakeDevice) -> None:
        super().__init__()
        self.fake = fake

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            is_there = self.fake.check(operation._schema.name, args, kwargs)
            found = operation(*args, **kwargs)
            if is_there and operation._schema.name not in COPIES:
                for tensor in _tensors(found):
                    self.fake.put(tensor)
            elif not _tensors(args, kwargs) and operation._schema.name != f"aten::{self.fake.asked}":
                for tensor in _tensors(found):  # made within another operation, on a device that is not seen here
                    _mark(self.fake._anywhere, tensor)
        return found


_GETTERS = {
    Tensor.device.__get__: lambda fake, tensor: fake.device_of(tensor),
    Tensor.is_cuda.__get__: lambda fake, tensor: fake.device_of(tensor).type == "cuda",
    Tensor.is_cpu.__get__: lambda fake, tensor: fake.device_of(tensor).type == "cpu",
    Tensor.is_mps.__get__: lambda fake, tensor: fake.device_of(tensor).type == "mps",
}


class _Calls(TorchFunctionMode):
    """What Python asks for: takes devices out of arguments, and says where tensors are."""

    def __init__(self, fake: FakeDevice) -> None:
        super().__init__()
        self.fake = fake

    def __torch_function__(self, function, types, args=(), kwargs=None):
        fake, kwargs = self.fake, dict(kwargs or {})
        if function in _GETTERS:
            return _GETTERS[function](fake, args[0])
        if function in (Tensor.numpy, Tensor.__array__) and fake.has(args[0]):
            raise TypeError(f"can't convert {fake.device} device type tensor to numpy. Use Tensor.cpu() first")
        if function is Tensor.pin_memory:
            if fake.has(args[0]):
                raise WrongDeviceError("cannot pin a tensor that is not on the CPU")
            pinned = args[0].clone()
            _mark(fake._pinned, pinned)
            return pinned
        if function is Tensor.is_pinned:
            return _is_marked(fake._pinned, args[0])
        if function is Tensor.tolist and fake.has(args[0]):
            fake.wait("tolist")
        elif function is Tensor.cpu:
            return self._to(args[0], CPU, False)
        elif function is Tensor.cuda:
            return self._to(args[0], torch.device("cuda:0"), False)
        elif function is Tensor.to:
            return self._moved(*args, **kwargs)
        elif function is Tensor.__deepcopy__ and fake.has(args[0]):
            return fake.put(function(*args, **kwargs))
        elif function is Tensor.new_tensor and fake.has(args[0]):
            fake.wait("a blocking copy to the device")
            return fake.put(function(*args, **kwargs))
        elif kwargs.get("device") is not None:
            return self._made(function, args, kwargs.pop("device"), kwargs)
        return self._called(function, args, kwargs)

    def _called(self, function, args, kwargs):
        before, self.fake.asked = self.fake.asked, getattr(function, "__name__", "")
        try:
            return function(*args, **kwargs)
        finally:
            self.fake.asked = before

    def _made(self, function, args, device, kwargs):
        """What is made on a device."""
        if torch.device(device).type == "meta":
            return function(*args, **kwargs, device=device)
        there, grad = self.fake.means(device), kwargs.get("requires_grad", False)
        if there:
            self.fake.check_generator(function.__name__, kwargs.get("generator"))
        found = self._called(function, args, kwargs)
        if self.fake.has(found) == there:
            return found
        if there and function not in (torch.tensor, torch.as_tensor, torch.asarray):
            return self.fake.put(found)
        return self._to(found.detach(), torch.device(device), False).requires_grad_(grad)

    def _moved(self, tensor, *args, **kwargs):
        """``Tensor.to`` in all its forms."""
        device, non_blocking = kwargs.pop("device", None), kwargs.pop("non_blocking", False)
        rest = [argument for argument in args if argument is not None]
        if rest and isinstance(rest[0], Tensor):
            device, kwargs["dtype"] = self.fake.device_of(rest[0]), rest.pop(0).dtype
        elif rest and isinstance(rest[0], str | torch.device):
            device = rest.pop(0)
        if rest and isinstance(rest[0], torch.dtype):
            kwargs["dtype"] = rest.pop(0)
        if rest:
            non_blocking = rest.pop(0)
        if device is not None and torch.device(device).type == "meta":
            return tensor.to(device, **kwargs)
        if device is None:
            return tensor.to(**kwargs)
        if kwargs and not self.fake.has(tensor):
            tensor, kwargs = self._pinned_as(tensor, tensor.to(**kwargs)), {}
        tensor = self._to(tensor, torch.device(device), non_blocking)
        return tensor.to(**kwargs) if kwargs else tensor

    def _pinned_as(self, before, after):
        if _is_marked(self.fake._pinned, before):
            _mark(self.fake._pinned, after)
        return after

    def _to(self, tensor, device, non_blocking):
        fake, there = self.fake, self.fake.means(device)
        if fake.has(tensor) == there:
            return tensor
        if not there:
            fake.wait("a copy from the device")
        elif not (non_blocking and _is_marked(fake._pinned, tensor)):
            fake.wait("a blocking copy to the device")
        return _Copied.apply(tensor, fake, there)


class _Copied(torch.autograd.Function):
    """A copy on the other side; its gradient comes back."""

    @staticmethod
    def forward(ctx, tensor, fake, there):
        ctx.fake, ctx.there = fake, there
        return fake.copied(tensor, there)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.fake.copied(gradient, not ctx.there), None, None
