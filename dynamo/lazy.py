"""Names of a package that load on first use, so that ``import dynamo`` and ``dynamo --help`` do not import torch."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def above(where: str) -> Any:
    """What a layer above defines, looked up when it is used: ``module:name``.

    Data flows one way, and so do imports. A method that users look for on an object of a lower layer, such as
    ``Fit.plot``, hands its object up by this.
    """
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def lazy_names(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose public names live in other modules.

    Args:
        package: its ``__name__``.
        where: public name to the module that defines it; a module's own name stands for the module itself.
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = where[name]
        found = import_module(module) if module == f"{package}.{name}" else getattr(import_module(module), name)
        setattr(sys.modules[package], name, found)
        return found

    def names() -> list[str]:
        return sorted({*where, *(name for name in vars(sys.modules[package]) if name.startswith("__"))})

    return get, names
