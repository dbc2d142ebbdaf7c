"""Options classes and the specs that fill them.

A component's options are a frozen attrs class whose fields are made with :func:`option`. A :class:`Spec` names a
component and gives some of its options, as text (``low-rank:rank=8``) or as a table in TOML
(``{name = "low-rank", rank = 8}``). :func:`build_options` turns a spec's values into an instance of the options
class, or says exactly which option is wrong.
"""

import re
import types
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from dynamo.contracts.errors import DynamoError, InvalidValueError, UnknownNameError, WrongTypeError, did_you_mean

T = TypeVar("T")

Check = Callable[[Any], bool]

#: The keys of a spec's table that are no options.
RESERVED = ("name", "plugin")


def option(default: Any, help: str, *, check: Check | None = None, rule: str = "") -> Any:
    """One field of an options class: its default, a line of help, and what its values must satisfy.

    A size needs an upper bound, so that no file can ask for a network without end: see :func:`positive` and
    :func:`at_least`.

    Args:
        default: the value where none is given.
        help: a line for ``dynamo plugins NAME``.
        check: answers whether a value is acceptable; it is not asked about None.
        rule: in words, what ``check`` asks for ("at least 1").

    Example:
        >>> import attrs
        >>> from dynamo.contracts import option
        >>> @attrs.frozen
        ... class LeakyOptions:
        ...     leak: float = option(0.5, "the share renewed", check=lambda a: 0 < a <= 1, rule="in (0, 1]")
        >>> LeakyOptions(leak=2.0)
        Traceback (most recent call last):
        dynamo.contracts.errors.InvalidValueError: option 'leak' is 2.0: it must be in (0, 1]
    """

    def validate(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if check is not None and value is not None and not check(value):
            raise InvalidValueError(f"option {attribute.name!r} is {value!r}: it must be {rule}")

    return attrs.field(default=default, validator=validate, metadata={"help": help, "rule": rule})


def positive(default: Any, help: str, most: float = inf) -> Any:
    """An option whose value must be above zero, and at most ``most``.

    Example:
        >>> import attrs
        >>> from dynamo.contracts import positive
        >>> @attrs.frozen
        ... class LeakyOptions:
        ...     hidden_size: int = positive(64, "units", most=1024)
        >>> LeakyOptions(hidden_size=2000)
        Traceback (most recent call last):
        dynamo.contracts.errors.InvalidValueError: option 'hidden_size' is 2000: it must be above 0 and at most 1,024
    """
    return option(default, help, check=lambda value: 0 < value <= most, rule=f"above 0{_at_most(most)}")


def at_least(least: float, default: Any, help: str, most: float = inf) -> Any:
    """An option whose value must be at least ``least``, and at most ``most``.

    Example:
        >>> import attrs
        >>> from dynamo.contracts import at_least
        >>> @attrs.frozen
        ... class NoisyOptions:
        ...     noise: float = at_least(0, 0.3, "standard deviation of the noise")
        >>> NoisyOptions(noise=-1.0)
        Traceback (most recent call last):
        dynamo.contracts.errors.InvalidValueError: option 'noise' is -1.0: it must be at least 0
    """
    return option(default, help, check=lambda value: least <= value <= most, rule=f"at least {least:,}{_at_most(most)}")


def _at_most(most: float) -> str:
    return "" if most == inf else f" and at most {most:,}"


def seed(help: str) -> Any:
    """An option ``seed`` with the default 0: a number that torch's generators take.

    Example:
        >>> import attrs
        >>> from dynamo.contracts import seed
        >>> @attrs.frozen
        ... class NoisyOptions:
        ...     seed: int = seed("seed of the noise")
        >>> NoisyOptions().seed
        0
    """
    return at_least(0, 0, help, most=2**63 - 1)


def fraction(default: Any, help: str) -> Any:
    """An option whose value must lie in [0, 1).

    Example:
        >>> import attrs
        >>> from dynamo.contracts import fraction
        >>> @attrs.frozen
        ... class DropOptions:
        ...     dropout: float = fraction(0.0, "dropout in training")
        >>> DropOptions(dropout=1.0)
        Traceback (most recent call last):
        dynamo.contracts.errors.InvalidValueError: option 'dropout' is 1.0: it must be at least 0 and below 1
    """
    return option(default, help, check=lambda value: 0 <= value < 1, rule="at least 0 and below 1")


@attrs.frozen
class NoOptions:
    """The options of a component that has none."""


#: A comma with the backslashes right before it: two stand for one, and one more makes the comma a part of the value.
_COMMA = re.compile(r"(\\*),")


@attrs.frozen
class Spec:
    """A component by name, with the options given for it; the rest keep their defaults.

    Attributes:
        name: of the component.
        options: option name to value.
        plugin: the plugin that offered it when a file was written, for the message where it is missing later; no part
            of what the spec means.

    Example:
        >>> from dynamo import Spec
        >>> Spec("low-rank", {"rank": 8}) == Spec.of({"name": "low-rank", "rank": 8})
        True
        >>> str(Spec.parse("low-rank:rank=8"))
        'low-rank:rank=8'
    """

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    plugin: str = attrs.field(default="", eq=False, kw_only=True)

    @classmethod
    def parse(cls, text: str) -> "Spec":
        r"""Read ``name`` or ``name:key=value,key=value``; a comma within a value is written ``\,``, a backslash
        right before a comma ``\\``; any other backslash stands for itself.

        Raises:
            InvalidValueError: the text has not that form.

        Example:
            >>> from dynamo import Spec
            >>> Spec.parse(r"arrays:path=one\,two.npz,batch=3").options
            {'path': 'one,two.npz', 'batch': '3'}
        """
        name, _, rest = text.partition(":")
        options: dict[str, str] = {}
        for part in filter(None, _split(rest)):
            key, equals, value = part.partition("=")
            if not equals or not key.strip():
                raise InvalidValueError(f"cannot read {part!r} in {text!r}: write NAME:OPTION=VALUE,OPTION=VALUE")
            key = key.strip().replace("-", "_")
            if key in options:
                raise InvalidValueError(f"{text!r} gives the option {key!r} twice")
            options[key] = value.strip()
        if not name.strip():
            raise InvalidValueError(f"no component is named in {text!r}: write NAME or NAME:OPTION=VALUE")
        return cls(name.strip(), options)

    @classmethod
    def of(cls, value: "str | Spec | Mapping[str, Any]") -> "Spec":
        """A spec from any of its forms: itself, its text, or its table with the key ``name``."""
        if isinstance(value, Spec):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise WrongTypeError(f"{value!r} names no component: give a table with the key 'name'")
        options = {key: item for key, item in value.items() if key not in RESERVED}
        plugin = value.get("plugin", "")
        if not isinstance(plugin, str):
            raise WrongTypeError(f"the plugin of component {value['name']!r} is {plugin!r}: it must be text")
        return cls(value["name"], options, plugin=plugin)

    def table(self) -> dict[str, Any]:
        """The form that TOML keeps; :meth:`of` reads it back."""
        plugin = {"plugin": self.plugin} if self.plugin else {}
        return {"name": self.name, **plugin, **plain_table(self.options)}

    def __str__(self) -> str:
        if not self.options:
            return self.name
        *before, last = (_COMMA.sub(r"\1\1\,", f"{key}={value}") for key, value in self.options.items())
        return self.name + ":" + "".join(f"{_doubled(part)}," for part in before) + last


def _split(text: str) -> list[str]:
    """A text at the commas that are no part of a value."""
    parts, current, done = list[str](), "", 0
    for found in _COMMA.finditer(text):
        kept, is_inside = divmod(len(found[1]), 2)
        current += text[done : found.start()] + "\\" * kept
        done = found.end()
        if is_inside:
            current += ","
        else:
            parts.append(current)
            current = ""
    return [*parts, current + text[done:]]


def _doubled(text: str) -> str:
    """A text with the backslashes at its end twice, for a comma that follows."""
    return text + "\\" * (len(text) - len(text.rstrip("\\")))


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
        UnknownNameError: an option that does not exist.
        InvalidValueError: an option of the wrong type, or one that breaks its rule.

    Example:
        >>> import attrs
        >>> from dynamo.contracts import build_options, positive
        >>> @attrs.frozen
        ... class LeakyOptions:
        ...     hidden_size: int = positive(64, "units")
        >>> build_options(LeakyOptions, {"hidden_size": "32"}, where="architecture 'leaky'")
        LeakyOptions(hidden_size=32)
    """
    if any(isinstance(field.type, str) for field in attrs.fields(cls)):  # type: ignore[arg-type]
        attrs.resolve_types(cls)  # type: ignore[type-var]  # annotations that are text
    fields = {field.name: field for field in attrs.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise UnknownNameError(f"{where} has no option {name!r}: {did_you_mean(name, fields)}")
    typed = {name: _convert(value, fields[name].type, f"{where}: option {name!r}") for name, value in values.items()}
    try:
        return cls(**typed)
    except DynamoError as error:
        raise error.at(where) from None


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
        raise InvalidValueError(f"{where} is {value!r}: {did_you_mean(str(value), known)}")
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
    raise InvalidValueError(f"{where} is {value!r}: it must be {type_name(kind)}")
