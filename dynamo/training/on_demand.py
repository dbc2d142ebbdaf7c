"""Lists of modules of which each is made when it is asked for."""

from collections.abc import Callable, ItemsView, Iterator, ValuesView
from typing import Any

from torch import nn


class OnDemand(nn.ModuleList):
    """A list of modules that are made when they are asked for by number, or all where they are gone through. A copy of
    it has them all.

    Args:
        count: how many.
        make: makes one, by its number.
    """

    def __init__(self, count: int, make: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self._modules = _Modules(count, make)


class _Modules(dict[str, Any]):
    """The modules of a list, by number as text."""

    def __init__(self, count: int, make: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self._missing, self._make = dict.fromkeys(map(str, range(count))), make

    def __missing__(self, key: str) -> nn.Module:
        if key not in self._missing:
            raise KeyError(key)
        self[key] = made = self._make(int(key))
        return made

    def __setitem__(self, key: str, module: Any) -> None:
        self._missing.pop(key, None)
        super().__setitem__(key, module)

    def __contains__(self, key: object) -> bool:
        return key in self._missing or super().__contains__(key)

    def __len__(self) -> int:
        return len(self._missing) + super().__len__()

    def _all(self) -> dict[str, Any]:
        """All of them, in their order."""
        for key in list(self._missing):
            self[key]
        return {key: self[key] for key in sorted(super().keys(), key=int)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        return self._all().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        return self._all().values()

    def __reduce__(self) -> Any:
        return dict, (self._all(),)
