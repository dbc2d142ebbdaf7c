"""A component: a name, the options it takes, and the function that builds it."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import attrs

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.options import NoOptions, build_options

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


@attrs.frozen
class Component:
    """What a plugin offers under a name.

    Attributes:
        kind: which contract it fulfils.
        name: how users call it.
        build: makes it; see :data:`SIGNATURES`. Import heavy packages inside, so that listing plugins stays instant.
        help: one line for ``dynamo plugins``.
        options: the frozen attrs class of its options (see :func:`dynamo.contracts.options.option`).
    """

    kind: Kind = attrs.field(validator=attrs.validators.in_(KINDS))
    name: str = attrs.field(validator=attrs.validators.matches_re(r"[a-z0-9][a-z0-9-]*"))
    build: Callable[..., Any]
    help: str
    options: type = NoOptions

    def make(self, given: Mapping[str, Any], /, *args: Any) -> Any:
        """Build it from option values (checked) and the arguments of its kind."""
        return self.build(self.configure(given), *args)

    def configure(self, given: Mapping[str, Any]) -> Any:
        """An instance of the options class from option values.

        Raises:
            DynamoError: an unknown or unfit option.
        """
        return build_options(self.options, given, where=str(self))

    def full(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every option with its value, given or default: what a run records."""
        values: dict[str, Any] = attrs.asdict(self.configure(given))
        return values

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


def check_made(made: Any, contract: type, component: Component) -> None:
    """Raise a clear error where a plugin built something that is not of its contract."""
    if not isinstance(made, contract):
        raise DynamoError(
            f"{component} built a {type(made).__name__}, which is no {contract.__name__}; this is an error of its "
            "plugin"
        )
