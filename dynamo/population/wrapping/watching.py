"""Modules watched while a network runs, by hooks that are gone afterwards, whatever happens."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import attrs
import torch
from torch import Tensor, nn

#: What a module is made to give in place of its own output.
Replace = Callable[["Call"], Any]


@attrs.frozen(eq=False)
class Call:
    """One call of a module: what went in and what came out."""

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    output: Any = None

    def argument(self, position: int, name: str) -> Any:
        """An argument, however it was given; None where it was not."""
        if position < len(self.arguments):
            return self.arguments[position]
        return self.keywords.get(name)


class _Reached(BaseException):
    """The module that was waited for is about to run."""


@contextmanager
def watching(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Call]]]:
    """The calls of some modules of a network while this holds, by name; ``""`` is the network itself."""
    calls: dict[str, list[Call]] = {name: [] for name in names}

    def keeper(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
            calls[name].append(Call(arguments, keywords, _copied(output)))  # an activation in place may come next

        return keep

    with ExitStack() as hooks:
        for name in names:
            part = module.get_submodule(name)
            hooks.enter_context(part.register_forward_hook(keeper(name), with_kwargs=True))
        yield calls


@contextmanager
def replacing(module: nn.Module, name: str, replace: Replace) -> Iterator[None]:
    """Let a module of a network give something else while this holds."""

    def give(module: nn.Module, arguments: Any, keywords: Any, output: Any) -> Any:
        return replace(Call(arguments, keywords, output))

    with ExitStack() as hooks:
        hooks.enter_context(module.get_submodule(name).register_forward_hook(give, with_kwargs=True))
        yield


def reached(module: nn.Module, name: str, run: Callable[[], Any]) -> Call | None:
    """What goes into a module of a network when it is first called; the rest is not run. None where it never is."""
    found: list[Call] = []

    def stop(module: nn.Module, arguments: Any, keywords: Any) -> None:
        found.append(Call(arguments, keywords))
        raise _Reached

    with ExitStack() as hooks:
        hooks.enter_context(module.get_submodule(name).register_forward_pre_hook(stop, with_kwargs=True))
        with suppress(_Reached):
            run()
    return found[0] if found else None


@contextmanager
def as_it_is(module: nn.Module) -> Iterator[None]:
    """The ways of torch's own layers that hooks can follow: attention without nested tensors."""
    attends = any(isinstance(part, nn.TransformerEncoder | nn.TransformerEncoderLayer) for part in module.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    if attends:
        torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        if attends:
            torch.backends.mha.set_fastpath_enabled(fast)


def leaves(value: Any) -> list[Any]:
    """What is in tuples and lists, one after the other; anything else is one."""
    if type(value) in (tuple, list):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]


def rebuilt(like: Any, values: Iterator[Any]) -> Any:
    """The same tuples and lists with other :func:`leaves`."""
    if type(like) in (tuple, list):
        return type(like)(rebuilt(part, values) for part in like)
    return next(values)


def _copied(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.clone()
    if type(output) in (tuple, list):
        return type(output)(_copied(part) for part in output)
    return output
