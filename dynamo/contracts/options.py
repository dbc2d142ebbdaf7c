"""Options classes and the specs that fill them.

A component's options are a frozen attrs class whose fields are made with :func:`option`. A :class:`Spec` names a
component and gives some of its options, as text (``low-rank:rank=8``) or as a table in TOML
(``{name = "low-rank", rank = 8}``). :func:`build_options` turns a spec's values into an instance of the options
class, or says exactly which option is wrong.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from dynamo.contracts.errors import DynamoError, did_you_mean

T = TypeVar("T")

Check = Callable[[Any], bool]


def option(default: Any, help: str, *, check: Check | None = None, rule: str = "") -> Any:
    """One field of an options class: its default, a line of help, and what its values must satisfy.

    ``check`` answers whether a value is acceptable and ``rule`` says in words what it asks for ("at least 1").
    """

    def validate(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if check is not None and value is not None and not check(value):
            raise DynamoError(f"option {attribute.name!r} is {value!r}: it must be {rule}")

    return attrs.field(default=default, validator=validate, metadata={"help": help, "rule": rule})


def positive(default: Any, help: str) -> Any:
    """An option whose value must be above zero."""
    return option(default, help, check=lambda value: value > 0, rule="above 0")


def fraction(default: Any, help: str) -> Any:
    """An option whose value must lie in [0, 1)."""
    return option(default, help, check=lambda value: 0 <= value < 1, rule="at least 0 and below 1")


@attrs.frozen
class NoOptions:
    """The options of a component that has none."""


@attrs.frozen
class Spec:
    """A component by name, with the options given for it; the rest keep their defaults."""

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Spec":
        """Read ``name`` or ``name:key=value,key=value``.

        Raises:
            DynamoError: the text has not that form.
        """
        name, _, rest = text.partition(":")
        options: dict[str, str] = {}
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if not equals or not key.strip():
                raise DynamoError(f"cannot read {part!r} in {text!r}: write NAME:OPTION=VALUE,OPTION=VALUE")
            key = key.strip().replace("-", "_")
            if key in options:
                raise DynamoError(f"{text!r} gives the option {key!r} twice")
            options[key] = value.strip()
        if not name.strip():
            raise DynamoError(f"no component is named in {text!r}: write NAME or NAME:OPTION=VALUE")
        return cls(name.strip(), options)

    @classmethod
    def of(cls, value: "str | Spec | Mapping[str, Any]") -> "Spec":
        """A spec from any of its forms: itself, its text, or its table with the key ``name``."""
        if isinstance(value, Spec):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise DynamoError(f"{value!r} names no component: give a table with the key 'name'")
        return cls(value["name"], {key: item for key, item in value.items() if key != "name"})

    def table(self) -> dict[str, Any]:
        """The form that TOML keeps; :meth:`of` reads it back."""
        return {"name": self.name, **plain_table(self.options)}

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return self.name + ":" + ",".join(f"{key}={value}" for key, value in self.options.items())


def plain_table(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for TOML, which has no None: the word ``none`` stands for it, and :func:`build_options` reads it back."""
    return {name: "none" if value is None else value for name, value in options.items()}


def build_options(cls: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """An instance of an options class from given values (typed, or text as the command line gives it).

    Args:
        cls: the attrs options class.
        values: option name to value; a missing option keeps its default.
        where: what the options belong to, for the message ("state-map 'low-rank'").

    Raises:
        DynamoError: an option that does not exist, has the wrong type, or breaks its rule.
    """
    if any(isinstance(field.type, str) for field in attrs.fields(cls)):  # type: ignore[arg-type]
        attrs.resolve_types(cls)  # type: ignore[type-var]  # annotations that are text
    fields = {field.name: field for field in attrs.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise DynamoError(f"{where} has no option {name!r}: {did_you_mean(name, fields)}")
    typed = {name: _convert(value, fields[name].type, f"{where}: option {name!r}") for name, value in values.items()}
    try:
        return cls(**typed)
    except DynamoError as error:
        raise DynamoError(f"{where}: {error}") from None


def type_name(kind: Any) -> str:
    """An option's type in words: ``int``, ``one of 'a', 'b'``, ``int or none``."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(type_name(part) for part in get_args(kind))
    return "none" if kind is type(None) else str(getattr(kind, "__name__", kind))


def _convert_to_any(kinds: Sequence[Any], value: Any, where: str) -> Any:
    for kind in kinds[:-1]:
        try:
            return _convert(value, kind, where)
        except DynamoError:
            continue
    return _convert(value, kinds[-1], where)


def _convert(value: Any, kind: Any, where: str) -> Any:
    """``value`` as ``kind``; text is read as the command line writes it, other values must already fit."""
    if get_origin(kind) in (Union, types.UnionType):
        parts = get_args(kind)
        if type(None) in parts and (value is None or (isinstance(value, str) and value.lower() == "none")):
            return None
        return _convert_to_any([part for part in parts if part is not type(None)], value, where)
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if value == choice and type(value) is type(choice):
                return choice
            if isinstance(value, str) and value == str(choice):
                return choice
        known = [str(choice) for choice in get_args(kind)]
        raise DynamoError(f"{where} is {value!r}: {did_you_mean(str(value), known)}")
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
    elif kind in (int, float):
        if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            try:
                number = kind(value)
            except (ValueError, OverflowError):
                number = None
            if number is not None and (isinstance(value, str) or number == value):
                return number
    elif kind is str and isinstance(value, str):
        return value
    raise DynamoError(f"{where} is {value!r}: it must be {type_name(kind)}")
