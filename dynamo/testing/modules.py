"""Contracts of every ``nn.Module``. A call is a function of the module; its answers have names for the messages."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from dynamo.testing.claims import Answers, claim, claim_answers_close, claim_gradient, gradients

M = TypeVar("M", bound=nn.Module)


def own_dtype(module: nn.Module) -> torch.dtype:
    """The dtype of a module's first floating parameter; torch's default where it has none."""
    floats = (parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
    return next(floats, torch.get_default_dtype())


def own_device(module: nn.Module) -> torch.device:
    """The device of a module's first parameter; the CPU where it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def evaluated(module: M) -> M:
    """A copy of a module, in eval mode."""
    return copy.deepcopy(module).eval()


def double(module: M, call: Callable[[M], Answers]) -> M:
    """A copy of a module in double precision, in which all comparisons are made.

    Raises:
        AssertionError: the copy cannot be called, or answers in another precision.
    """
    doubled = evaluated(module).double()
    try:
        answers = call(copy.deepcopy(doubled))
    except RuntimeError as error:
        raise AssertionError(f"double precision: after .double() the module fails: {error}") from error
    for name, tensor in answers.items():
        claim(tensor.dtype == torch.float64, f"double precision: after .double(), {name} are {tensor.dtype}")
    return doubled


def check_calls(module: M, call: Callable[[M], Answers]) -> None:
    """Two calls in eval mode give the same, and change neither parameters nor buffers."""
    before = {name: tensor.clone() for name, tensor in _tensors(module).items()}
    first = call(module)
    for name, tensor in _tensors(module).items():
        claim(
            name in before and torch.equal(before[name], tensor),
            f"purity: a call in eval mode changes the parameter or buffer {name!r}",
        )
    claim_answers_close(call(module), first, "determinism: two calls in eval mode differ")


def check_gradients(module: M, call: Callable[[M], Answers]) -> None:
    """A finite gradient reaches each parameter from the answers, at parameters near the module's own.

    (Near, because an initialisation with zeros may hide parameters behind it for one step of training.)
    """
    moved = moved_copy(module)
    parameters = dict(moved.requires_grad_(True).named_parameters())
    found = gradients(random_sum(call(moved)), *parameters.values())
    for name, gradient in zip(parameters, found, strict=True):
        claim_gradient(gradient, f"the parameter {name!r}")


def check_state_dict(module: M, call: Callable[[M], Answers], rebuild: Callable[[], M] | None) -> None:
    """A module with the state dict of another, loaded strictly, answers as that one does.

    ``rebuild`` makes a new module of the same options. Without it a changed copy is taken, which shows less: what a
    module keeps outside its state dict is copied too.
    """
    state = module.state_dict()
    for name, tensor in state.items():
        claim(
            isinstance(tensor, Tensor),
            f"state dict: {name!r} is a {type(tensor).__name__}, and only tensors can be saved",
        )
    other = moved_copy(module) if rebuild is None else rebuild().to(own_device(module)).double().eval()
    try:
        other.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise AssertionError(f"state dict: a new module of the same options does not load it: {error}") from error
    claim_answers_close(call(other), call(module), "state dict: a module that has loaded it answers otherwise")


def moved_copy(module: M) -> M:
    """A copy of a module with a little noise on its parameters."""
    moved = copy.deepcopy(module)
    noise = _Noise()
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.01 * noise.like(parameter))
    return moved


def random_sum(answers: Answers) -> Tensor:
    """A sum of all answers with normal weights: a loss to which nothing is constant by accident."""
    noise = _Noise()
    return torch.stack([(tensor * noise.like(tensor)).sum() for tensor in answers.values()]).sum()


class _Noise:
    """Normal tensors from a generator of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def like(self, tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=self.generator, dtype=tensor.dtype).to(tensor.device)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
