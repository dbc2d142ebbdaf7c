"""The one map that a network iterates, where it does: torch's own recurrent layers, and cells called once a step."""

from collections.abc import Sequence
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from dynamo.contracts.errors import InvalidValueError
from dynamo.population.wrapping.answers import padded
from dynamo.population.wrapping.layers import is_simple, step_of
from dynamo.population.wrapping.watching import Call, leaves, rebuilt


class Map(Protocol):
    """A map within a network: what enters it, its first state, a step, and how its output is put in place."""

    @property
    def name(self) -> str:
        """The module that iterates it."""

    @property
    def first(self) -> bool:
        """Whether the first call tells all that enters."""

    def entering(self, calls: Sequence[Call]) -> Tensor:
        """What enters at each step, ``[B, T, E]``."""

    def start(self, calls: Sequence[Call]) -> Tensor:
        """The states before the first step, ``[B, S]``."""

    def step(self, module: nn.Module, x: Tensor, h: Tensor) -> Tensor:
        """F(x, h) ``[B, S]``, of the network with that module."""

    def given(self, call: Call, h: Tensor) -> Any:
        """What the module gives for one step of each example, made of states ``[B, S]``."""


@attrs.frozen
class LayerMap:
    """A recurrent layer of torch.

    Attributes:
        name: of the module.
        batch_first: whether its axes are batch, time, units.
        width: how much of the state is that of its last layer.
        first: its first call tells all that enters.
    """

    name: str
    batch_first: bool
    width: int
    first: bool = True

    def entering(self, calls: Sequence[Call]) -> Tensor:
        """The input of the layer."""
        x = calls[0].argument(0, "input")
        if isinstance(x, PackedSequence):
            return padded(x)
        if not isinstance(x, Tensor) or x.ndim != 3:
            raise InvalidValueError(f"module {self.name!r} is called without a batch")
        return x if self.batch_first else x.transpose(0, 1)

    def start(self, calls: Sequence[Call]) -> Tensor:
        """What the layer is given, or zeros."""
        start, x = calls[0].argument(1, "hx"), self.entering(calls)
        if start is None:
            return x.new_zeros(len(x), 1)  # the same for all units
        return torch.cat([part[0] for part in (start if isinstance(start, tuple) else (start,))], dim=-1)

    def step(self, module: nn.Module, x: Tensor, h: Tensor) -> Tensor:
        """One step of the layer."""
        rnn = module.get_submodule(self.name)
        assert isinstance(rnn, nn.RNNBase)
        return step_of(rnn)(x, h)

    def given(self, call: Call, h: Tensor) -> Any:
        """States as the layer's output and its last state."""
        output, last = call.output
        lasts = last if isinstance(last, tuple) else (last,)
        parts = torch.split(
            h, [one.shape[-1] for one in lasts][: 1 if h.shape[-1] == lasts[0].shape[-1] else 2], dim=-1
        )
        finals = [torch.cat([one[:-1], part[None]]) for one, part in zip(lasts, parts, strict=False)]
        finals += list(lasts[len(finals) :])
        final = tuple(finals) if isinstance(last, tuple) else finals[0]
        if isinstance(output, PackedSequence):
            order = output.sorted_indices
            return output._replace(data=parts[0] if order is None else parts[0].index_select(0, order)), final
        return parts[0][:, None] if self.batch_first else parts[0][None], final


@attrs.frozen
class CellMap:
    """A module that a network calls once a step with its own last output, such as a ``GRUCell``.

    Attributes:
        name: of the module.
        carried: pairs of places, among the leaves of the arguments and of the output, where the state comes back.
        fed: the places of what else enters.
        copies: for each leaf of the output which part of the state it is.
        template: arguments of a call, whose leaves are replaced.
    """

    name: str
    carried: tuple[tuple[int, int], ...]
    fed: tuple[int, ...]
    copies: tuple[int, ...]
    template: Any = attrs.field(repr=False)
    sizes: tuple[int, ...] = ()
    first: bool = False

    @classmethod
    def of(cls, name: str, calls: Sequence[Call]) -> "CellMap":
        """The map of a cell, by two of its calls.

        Raises:
            InvalidValueError: its output does not come back to it as it was, or what it gives is more than its state.
        """
        if len(calls) < 2:
            raise InvalidValueError(
                f"module {name!r} runs {len(calls)} times for a sequence; a map that is iterated runs once a step"
            )
        before, after = calls[0], calls[1]
        given, taken = leaves(before.output), leaves(_arguments(after))
        carried = [
            (place, source)
            for place, one in enumerate(taken)
            for source in [next((index for index, other in enumerate(given) if _same(one, other)), None)]
            if source is not None
        ]
        if not carried:
            raise InvalidValueError(
                f"the output of module {name!r} does not come back to it at the next step as it was: what is iterated "
                "is more than this module; name one whose output is the state, or write a RecurrentModel"
            )
        places = {place for place, _ in carried}
        fed = [index for index, one in enumerate(taken) if _is_rows(one) and index not in places]
        sources = [source for _, source in carried]
        copies = [next((n for n, source in enumerate(sources) if _same(one, given[source])), -1) for one in given]
        if -1 in copies or not fed:
            raise InvalidValueError(
                f"module {name!r} gives more than its state, or takes nothing else: write a RecurrentModel"
            )
        sizes = tuple(given[source].shape[-1] for source in sources)
        return cls(name, tuple(carried), tuple(fed), tuple(copies), _arguments(after), sizes)

    def state(self, call: Call) -> Tensor:
        """The state that a call gave, ``[B, S]``."""
        given = leaves(call.output)
        return torch.cat([given[source] for _, source in self.carried], dim=-1)

    def entering(self, calls: Sequence[Call]) -> Tensor:
        """What is fed to the cell, call by call."""
        rows = [leaves(_arguments(call)) for call in calls]
        return torch.stack([torch.cat([own[place] for place in self.fed], dim=-1) for own in rows], dim=1)

    def start(self, calls: Sequence[Call]) -> Tensor:
        """What the first call is given, or zeros."""
        taken, x = leaves(_arguments(calls[0])), self.entering(calls[:1])
        places = [place for place, _ in self.carried]
        if len(taken) != len(leaves(self.template)) or not all(_is_rows(taken[place]) for place in places):
            return x.new_zeros(len(x), 1)
        return torch.cat([taken[place] for place in places], dim=-1)

    def step(self, module: nn.Module, x: Tensor, h: Tensor) -> Tensor:
        """One call of the cell."""
        taken = leaves(self.template)
        widths = [taken[place].shape[-1] for place in self.fed]
        for place, part in zip(self.fed, torch.split(x, widths, dim=-1), strict=True):
            taken[place] = part
        for (place, _), part in zip(self.carried, torch.split(h, list(self.sizes), dim=-1), strict=True):
            taken[place] = part
        arguments, keywords = rebuilt(self.template, iter(taken))
        output = module.get_submodule(self.name)(*arguments, **dict(keywords))
        return self.state(Call((), {}, output))

    def given(self, call: Call, h: Tensor) -> Any:
        """States as the cell gives them."""
        parts = torch.split(h, list(self.sizes), dim=-1)
        return rebuilt(call.output, iter([parts[copy] for copy in self.copies]))


def layer_map(rnn: nn.RNNBase, name: str) -> LayerMap:
    """The map of a recurrent layer; of several layers, the last."""
    width = (rnn.proj_size or rnn.hidden_size) + (rnn.hidden_size if isinstance(rnn, nn.LSTM) else 0)
    return LayerMap(name, rnn.batch_first, width)


def map_of(module: nn.Module, name: str) -> tuple[LayerMap | None, str]:
    """The map of a recurrent layer of torch, and why it has none."""
    part = module.get_submodule(name)
    if not isinstance(part, nn.RNNBase):
        return None, f"module {name!r} is no recurrent layer of torch"
    if not is_simple(part):
        kind = "is bidirectional" if part.bidirectional else f"has {part.num_layers} layers"
        kind = kind if part.bidirectional or part.num_layers > 1 else "has a projection"
        return None, (
            f"the {type(part).__name__} {name!r} {kind}: fixed points are those of one map h' = F(x, h), of one layer "
            "in one direction"
        )
    return layer_map(part, name), ""


def _arguments(call: Call) -> Any:
    return list(call.arguments), [(name, value) for name, value in call.keywords.items()]


def _is_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 2


def _same(one: Any, other: Any) -> bool:
    return (
        isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape and torch.equal(one, other)
    )
