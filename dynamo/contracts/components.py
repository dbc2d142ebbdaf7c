"""A component: a name, the options it takes, and the function that builds it."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Literal, get_args

import attrs

from dynamo.contracts.errors import DynamoError, InvalidValueError, PluginError, WrongTypeError
from dynamo.contracts.options import RESERVED, NoOptions, build_options

Kind = Literal["architecture", "dataset", "meta-model", "state-map", "divergence", "head", "augmentation"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: What ``build`` of each kind is called with, after the options, and what it returns.
SIGNATURES: dict[Kind, str] = {
    "architecture": "(options, inputs: InputSpace, outputs: OutputSpace) -> DynamicalModel",
    "dataset": "(options) -> Dataset",
    "meta-model": "(options, inputs: InputSpace, theta_dim: int) -> MetaModel",
    "state-map": "(options, meta_shape: tuple[int, ...], base_shape: tuple[int, ...]) -> StateMap",
    "divergence": "(options) -> Divergence",
    "head": "(options, feature_size: int, outputs: OutputSpace) -> Head",
    "augmentation": "(options, inputs: InputSpace) -> Augmentation",
}


def _check_build(component: "Component", attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, str):
        module, _, path = value.partition(":")
        if not all(name.isidentifier() for name in (*module.split("."), *path.split("."))):
            raise InvalidValueError(
                f"{component}: build is {value!r}; write 'module:function' or 'module:Class.method'"
            )
    elif not callable(value):
        raise WrongTypeError(f"{component}: build is {value!r}, which cannot be called")


@attrs.frozen
class Component:
    """What a plugin offers under a name.

    Attributes:
        kind: which contract it fulfils.
        name: how users call it.
        build: makes it, a class or a function; see :data:`SIGNATURES` for what it is called with. As text,
            ``"module:function"``, it is imported when it is first needed, so that heavy packages do not slow down
            ``dynamo plugins``.
        help: one line for ``dynamo plugins``.
        options: the frozen attrs class of its options (see :func:`dynamo.contracts.options.option`).

    Raises:
        InvalidValueError: a kind that there is not, a name or a ``build`` of another form, or an option called ``name``
            or ``plugin``.
        WrongTypeError: a ``build`` that cannot be called.

    Example:
        >>> from dynamo import Component
        >>> component = Component("dataset", "flip-flop", "dynamo_datasets.flip_flop:flip_flop", "n bits of memory")
        >>> str(component)
        "dataset 'flip-flop'"
    """

    kind: Kind = attrs.field(validator=attrs.validators.in_(KINDS))
    name: str = attrs.field(validator=attrs.validators.matches_re(r"[a-z0-9][a-z0-9-]*"))
    build: Callable[..., Any] | str = attrs.field(validator=_check_build)
    help: str
    options: type = NoOptions

    def __attrs_post_init__(self) -> None:
        taken = {field.name for field in attrs.fields(self.options)} & set(RESERVED) if attrs.has(self.options) else ()
        if taken:
            raise InvalidValueError(f"{self}: an option cannot be called {' or '.join(map(repr, sorted(taken)))}")

    def builder(self) -> Callable[..., Any]:
        """The function or class behind :attr:`build`, imported where that is text.

        Raises:
            PluginError: it cannot be imported, or cannot be called.
        """
        if not isinstance(self.build, str):
            return self.build
        module, _, path = self.build.partition(":")
        try:
            found: Any = import_module(module)
            for name in path.split("."):
                found = getattr(found, name)
        except DynamoError:
            raise
        except Exception as error:  # a module that is imported can raise anything
            raise PluginError(
                f"{self} is built by {self.build!r}, which cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if not callable(found):
            raise PluginError(f"{self} is built by {self.build!r}, a {type(found).__name__}, which cannot be called")
        return found  # type: ignore[no-any-return]

    def make(self, given: Mapping[str, Any], /, *args: Any) -> Any:
        """Build it from option values and the arguments of its kind.

        Raises:
            DynamoError: an unknown or unfit option, or spaces that the component refuses.
            PluginError: the builder cannot be imported, is an abstract class, does not take the arguments of its kind,
                or fails otherwise.
        """
        builder, options = self.builder(), self.configure(given)
        try:
            return builder(options, *args)
        except DynamoError:
            raise
        except Exception as error:
            raise PluginError(
                f"{self} cannot be built: {type(error).__name__}: {error}; it is called with {SIGNATURES[self.kind]}"
            ) from error

    def configure(self, given: Mapping[str, Any]) -> Any:
        """An instance of the options class from option values.

        Raises:
            DynamoError: an unknown or unfit option.
        """
        return build_options(self.options, given, where=str(self))

    def full(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every option with its value, given or default: what a run records.

        Example:
            >>> from dynamo import component
            >>> component("divergence", "l2").full({"squared": "no"})
            {'squared': False, 'reduction': 'sum'}
        """
        values: dict[str, Any] = attrs.asdict(self.configure(given))
        return values

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


def check_made(made: Any, contract: type, component: Component) -> None:
    """Check that what a plugin built is of its contract.

    Raises:
        PluginError: it is not.
    """
    if not isinstance(made, contract):
        raise PluginError(
            f"{component} built a {type(made).__name__}, which is no {contract.__name__}; this is an error of its "
            "plugin"
        )
