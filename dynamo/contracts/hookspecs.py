"""The hook that plugins implement."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from dynamo.contracts.components import Component

NAME = "dynamo"

hookspec = pluggy.HookspecMarker(NAME)
hookimpl = pluggy.HookimplMarker(NAME)


@hookspec
def dynamo_components() -> "Iterable[Component]":  # type: ignore[empty-body]
    """All components that the plugin offers: architectures, data sets, meta-models, state maps, divergences and
    heads.
    """
