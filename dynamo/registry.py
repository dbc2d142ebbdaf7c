"""Finding plugins, and looking components up by name.

Plugins are entry points of the group ``dynamo``. Each is loaded by itself, so that a broken one is skipped and named
rather than stopping the program. Two plugins that offer the same name are an error that names both.
"""

import os
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

import attrs
import pluggy

from dynamo.contracts import hookspecs
from dynamo.contracts.components import Component, Kind, check_made
from dynamo.contracts.errors import (
    DynamoError,
    InvalidValueError,
    PluginError,
    UnknownNameError,
    did_you_mean,
    printable,
)
from dynamo.contracts.options import Spec

T = TypeVar("T")
DISABLED = "DYNAMO_DISABLED_PLUGINS"
IN_SESSION = "registered in this session"


@attrs.frozen
class Owned:
    """A component and the plugin that offers it."""

    component: Component
    owner: str


@attrs.frozen
class Broken:
    """A plugin that could not be loaded, and why."""

    owner: str
    reason: str


class Registry:
    """The components of all plugins that are loaded."""

    def __init__(self) -> None:
        self.broken: list[Broken] = []
        self._owned: dict[tuple[Kind, str], Owned] = {}
        self._manager = pluggy.PluginManager(hookspecs.NAME)
        self._manager.add_hookspecs(hookspecs)

    def add(self, plugin: object, owner: str) -> None:
        """Take in a plugin: any object or module with the hook ``dynamo_components``.

        Raises:
            InvalidValueError: another plugin offers a component of the same kind and name.
        """
        try:
            components = self._components(plugin, owner)
        except Exception as error:
            self.broken.append(Broken(owner, _reason(error)))
            return
        for component in components:
            self._claim(component, owner)

    def _claim(self, component: Component, owner: str) -> None:
        before = self._owned.get((component.kind, component.name))
        if before is not None:
            names = [name.partition(" ")[0] for name in (before.owner, owner) if name != IN_SESSION]
            advice = f"switch one off with {DISABLED}={names[-1]}, or rename it" if names else "rename one"
            raise InvalidValueError(f"{component} is offered by two plugins, {before.owner!r} and {owner!r}: {advice}")
        self._owned[component.kind, component.name] = Owned(component, owner)

    def register(self, component: Component) -> None:
        """Take in a single component; see :func:`register`."""
        self._claim(component, IN_SESSION)

    def _components(self, plugin: object, owner: str) -> list[Component]:
        self._manager.register(plugin, name=owner)
        try:
            self._manager.check_pending()  # names a misspelt hook, which pluggy would otherwise ignore
            found = [impl for impl in self._manager.hook.dynamo_components.get_hookimpls() if impl.plugin is plugin]
            if not found:
                raise PluginError("it implements no hook; write @hookimpl def dynamo_components()")
            components = list(cast(Iterable[Component], found[0].function()))
            for component in components:
                if not isinstance(component, Component):
                    raise PluginError(f"dynamo_components gave {component!r}, which is no Component")
            names = [(component.kind, component.name) for component in components]
            if len(set(names)) < len(names):
                raise PluginError(f"it offers a name twice: {names}")
        except BaseException:
            self._manager.unregister(plugin)
            raise
        return components

    def find(self, kind: Kind, name: str) -> Component:
        """The component of that kind and name; see :meth:`find_owned`."""
        return self.find_owned(kind, name).component

    def find_owned(self, kind: Kind, name: str, plugin: str = "") -> Owned:
        """The component of that kind and name, with its plugin.

        Args:
            kind: the kind.
            name: the name.
            plugin: the plugin that offered it before, where that is known, for the message.

        Raises:
            UnknownNameError: there is none; the message has the nearest names, and the broken plugins that may have
                offered it.
        """
        if (kind, name) in self._owned:
            return self._owned[kind, name]
        known = f"no {kind} is called {name!r}: {did_you_mean(name, self.names(kind))}"
        before = f"; it was offered by the plugin {printable(plugin[:200])!r}: install that" if plugin else ""
        raise UnknownNameError(f"{known}{before}{self.skipped()}")

    def skipped(self) -> str:
        """The broken plugins in words, to end a message with."""
        return "".join(f"; plugin {item.owner!r} was skipped: {item.reason}" for item in self.broken)

    def names(self, kind: Kind) -> list[str]:
        """The names of all components of a kind."""
        return sorted(name for other, name in self._owned if other == kind)

    def owned(self) -> list[Owned]:
        """All components with their owners, by kind and name."""
        return [self._owned[key] for key in sorted(self._owned)]


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, DynamoError) else f"{type(error).__name__}: {error}"


def read_entry_points(found: Iterable[EntryPoint], disabled: Iterable[str] = ()) -> Registry:
    """A registry of the given entry points.

    Raises:
        InvalidValueError: two distributions use one entry-point name, or two plugins one component name.
    """
    registry = Registry()
    seen: dict[str, str] = {}
    for entry in sorted(found, key=lambda entry: entry.name):
        distribution = entry.dist.name if entry.dist else "unknown distribution"
        if entry.name in disabled:
            continue
        if seen.get(entry.name, distribution) != distribution:
            raise InvalidValueError(
                f"two distributions offer a plugin called {entry.name!r}: {seen[entry.name]!r} and {distribution!r}; "
                "uninstall one of them"
            )
        if entry.name in seen:  # the same distribution, seen through two paths
            continue
        seen[entry.name] = distribution
        owner = f"{entry.name} ({distribution})"
        try:
            plugin = entry.load()
        except Exception as error:
            registry.broken.append(Broken(owner, _reason(error)))
        else:
            registry.add(plugin, owner)
    return registry


@cache
def registry() -> Registry:
    """The registry of the installed plugins, less those named in the environment variable
    ``DYNAMO_DISABLED_PLUGINS``.
    """
    disabled = [name.strip() for name in os.environ.get(DISABLED, "").split(",")]
    return read_entry_points(entry_points(group=hookspecs.NAME), disabled)


def register(component: Component) -> Component:
    """Offer a component from a script or notebook, without a package or an entry point.

    Raises:
        InvalidValueError: that kind and name is taken, by a plugin or by an earlier call.

    Example:
        >>> from dynamo import Component, register
        >>> angle = Component("divergence", "angle", "dynamo_divergences.vectors:Cosine", "1 - cos, by another name")
        >>> register(angle) is angle
        True
    """
    registry().register(component)
    return component


def component(kind: Kind, name: str) -> Component:
    """The registered component of that kind and name; see :meth:`Registry.find`.

    Example:
        >>> from dynamo import component
        >>> component("architecture", "gru").help
        'gated recurrent unit'
    """
    return registry().find(kind, name)


def make(kind: Kind, spec: Spec | str, contract: type[T], *args: Any) -> T:
    """Build the component that a spec names, and check that it is of the contract asked for.

    Args:
        kind: the kind of the component.
        spec: the component's name, with options.
        contract: the class that it must be of.
        args: what its builder is called with after the options; see :data:`dynamo.contracts.components.SIGNATURES`.

    Raises:
        UnknownNameError: no component, or no option, has that name.
        InvalidValueError: an option that does not fit, or arguments that the component refuses.
        PluginError: the component cannot be built or breaks its contract; the message names its plugin.

    Example:
        >>> from dynamo import Divergence
        >>> from dynamo.registry import make
        >>> make("divergence", "l2:squared=no", Divergence).is_metric
        True
    """
    spec = Spec.of(spec)
    found = registry().find_owned(kind, spec.name, spec.plugin)
    try:
        made = found.component.make(spec.options, *args)
        check_made(made, contract, found.component)
        if kind == "architecture":
            from dynamo.contracts.checks import check_declaration

            check_declaration(made, where=str(found.component))
    except PluginError as error:
        raise error.at(f"plugin {found.owner!r}") from error.__cause__
    return cast(T, made)


def full_spec(kind: Kind, spec: Spec | str) -> Spec:
    """The spec with every option spelt out, defaults included, and the plugin that offers it; checks name and options
    without building.

    Example:
        >>> from dynamo.registry import full_spec
        >>> str(full_spec("divergence", "l2:squared=no"))
        'l2:squared=False,reduction=sum'
    """
    spec = Spec.of(spec)
    found = registry().find_owned(kind, spec.name, spec.plugin)
    plugin = "" if found.owner == IN_SESSION else found.owner
    return Spec(spec.name, found.component.full(spec.options), plugin=plugin)
