"""Modules by name: patterns, and what training tools put around a network."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from dynamo.contracts.errors import InvalidValueError, UnknownNameError

#: What ``torch.compile`` calls the module that it holds.
_COMPILED = "_orig_mod"
#: Classes whose children run as one: a list of like layers.
_LISTS = (nn.ModuleList, nn.Sequential)


def unwrapped(module: nn.Module) -> nn.Module:
    """The network itself, without ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` around it."""
    while True:
        inner = getattr(module, _COMPILED, None)
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def module_names(module: nn.Module) -> dict[str, str]:
    """The names of all modules within a network, without ``_orig_mod``, and what ``get_submodule`` takes for each."""
    found: dict[str, str] = {}
    for name, _ in module.named_modules(remove_duplicate=False):
        plain = ".".join(part for part in name.split(".") if part != _COMPILED)
        found.setdefault(plain, name)
    return found


def matching(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The names of the modules that patterns name, in the order of the network.

    ``*`` stands for any part of a name between dots, so that ``encoder.layer.*`` names the layers and not what is in
    them; ``**`` stands for any number of parts. The prefixes ``module.`` and ``_orig_mod.`` are left out.

    Raises:
        InvalidValueError: no patterns.
        UnknownNameError: a pattern that names nothing.
    """
    names = module_names(module)
    if not patterns:
        raise InvalidValueError("states are read from modules: name at least one, such as states='encoder.layer.*'")
    chosen = set[str]()
    for pattern in patterns:
        plain = _plain(pattern, names)
        own = [name for name in names if name and _matches(plain.split("."), name.split("."))]
        if not own:
            raise UnknownNameError(_unknown(module, pattern, plain, list(names)))
        chosen.update(own)
    return [real for name, real in names.items() if name in chosen]


def like_layers(module: nn.Module) -> list[str]:
    """The longest list of modules of one class in a network: its blocks. None where there is none of two, or several
    of one length.
    """
    lists: list[list[str]] = []
    for name, part in module.named_modules():
        children = [(child, type(inner)) for child, inner in part.named_children()]
        kinds = {kind for _, kind in children}
        if isinstance(part, _LISTS) and len(children) > 1 and len(kinds) == 1 and _has_layers(part):
            lists.append([f"{name}.{child}" if name else child for child, _ in children])
    longest = max(map(len, lists), default=0)
    found = [own for own in lists if len(own) == longest]
    return found[0] if len(found) == 1 else []


def _has_layers(part: nn.Module) -> bool:
    """Whether its children are more than single layers."""
    return all(any(True for _ in child.children()) for child in part.children())


def candidates(module: nn.Module, most: int = 8) -> str:
    """Names to choose states from, for a message."""
    names = [name for name in module_names(module) if name]
    top = [name for name in names if "." not in name]
    shown = top if len(top) > 1 else names
    return ", ".join(shown[:most]) + (" …" if len(shown) > most else "") if shown else "none"


def _plain(pattern: str, names: dict[str, str]) -> str:
    plain = ".".join(part for part in pattern.split(".") if part != _COMPILED)
    while plain.startswith("module.") and not any(name.split(".")[0] == "module" for name in names):
        plain = plain.removeprefix("module.")
    return plain


def _matches(pattern: Sequence[str], name: Sequence[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_matches(pattern[1:], name[start:]) for start in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _matches(pattern[1:], name[1:])


def _unknown(module: nn.Module, pattern: str, plain: str, names: Sequence[str]) -> str:
    near = get_close_matches(plain, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    inside = plain.rpartition(".")[0]
    while inside and inside not in names:
        inside = inside.rpartition(".")[0]
    children = [name for name in names if name and name.rpartition(".")[0] == inside]
    shown = ", ".join(children[:12]) + (" …" if len(children) > 12 else "")
    where = f"in {inside!r} there is" if inside else "at its top it has"
    return f"the {type(module).__name__} has no module {pattern!r}: {hint}{where} {shown or 'none'}"
