"""What is read while a module runs, and where in it are examples and steps."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.trajectory import Inputs, pad_time
from dynamo.population.wrapping.answers import HIDDEN, Answer, named_parts, outputs_of, padded, state_of
from dynamo.population.wrapping.feeding import Feeding
from dynamo.population.wrapping.layers import layer_states
from dynamo.population.wrapping.watching import Call, as_it_is, watching

#: A function of the module's answer that gives the states, one tensor or several, and the outputs.
Pick = Callable[[Any], tuple[Any, Any]]


@attrs.frozen(eq=False)
class Raw:
    """What a module gave: for each thing that is read the tensors of all its calls, and the outputs.

    Attributes:
        names: of what is read, for messages.
        states: a list for each name.
        outputs: as the module gave them.
        label: what it calls them.
    """

    names: tuple[str, ...]
    states: tuple[list[Tensor], ...]
    outputs: Tensor
    label: str


@attrs.frozen(eq=False)
class Reading:
    """What is read of a network.

    Attributes:
        names: the modules whose outputs are states.
        pick: takes states and outputs from the answer, in place of modules.
        hidden: whether the states are the answer's ``hidden_states`` after its first, the embedding.
        answer: where in the answer the outputs are.
        state: what the state is in a call of a module, where it is not its first tensor.
    """

    names: tuple[str, ...] = ()
    pick: Pick | None = None
    hidden: bool = False
    answer: Answer | None = None
    state: Callable[[Call], Tensor] | None = None

    def raw(self, module: nn.Module, feeding: Feeding, inputs: Inputs) -> Raw:
        """Run the module and read.

        Raises:
            InvalidValueError: a module that does not run, or gives no tensor.
        """
        with as_it_is(module), watching(module, self.names) as calls:
            answer = feeding(module, inputs)
        if self.pick is not None:
            states, outputs = _picked(self.pick, answer)
            return Raw(tuple(f"state {number}" for number in range(len(states))), states, outputs, "")
        outputs, label = outputs_of(answer, self.answer)
        if self.hidden:
            layers = named_parts(answer).get(HIDDEN)
            if not isinstance(layers, tuple | list) or len(layers) < 2:
                raise InvalidValueError("the module answers without hidden_states: name its layers with states='…'")
            names = tuple(f"{HIDDEN}[{number}]" for number in range(1, len(layers)))
            return Raw(names, tuple([layer] for layer in layers[1:]), outputs, label)
        for name in self.names:
            if not calls[name]:
                raise InvalidValueError(f"module {name!r} does not run when the network does: name another one")
        own = tuple([self._state(module, name, call) for call in calls[name]] for name in self.names)
        return Raw(tuple(name or type(module).__name__ for name in self.names), own, outputs, label)

    def _state(self, module: nn.Module, name: str, call: Call) -> Tensor:
        part = module.get_submodule(name)
        if self.state is not None:
            return self.state(call)
        if isinstance(part, nn.RNNBase):
            return layer_states(part, call)
        if isinstance(part, nn.LSTMCell):
            return torch.cat(call.output, dim=-1)
        return state_of(call.output, f"what module {name!r} gives")


def _picked(pick: Pick, answer: Any) -> tuple[tuple[list[Tensor], ...], Tensor]:
    found = pick(answer)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise InvalidValueError("the function 'states' must give (states, outputs)")
    states = found[0] if isinstance(found[0], tuple | list) else [found[0]]
    for tensor in (*states, found[1]):
        if not isinstance(padded(tensor), Tensor):
            raise InvalidValueError(f"the function 'states' gives a {type(tensor).__name__} where a tensor must be")
    return tuple([padded(state)] for state in states), padded(found[1])


@attrs.frozen
class Axes:
    """Where in a tensor are examples and steps; ``time`` is None where it does not run over time."""

    batch: int
    time: int | None

    @classmethod
    def of(cls, full: Tensor, fewer: Tensor, shorter: Tensor | None, inputs: Inputs, where: str) -> "Axes":
        """By what changes with the number of examples, and of steps.

        Args:
            full: on all inputs.
            fewer: without the last example.
            shorter: with fewer steps; None where the network cannot run so.
            inputs: the inputs.
            where: what the tensor is, for messages.

        Raises:
            InvalidValueError: it has another number of examples or steps.
        """
        count, steps = inputs.mask.shape
        batch = _differs(full, fewer)
        if batch is None or full.shape[batch] != count:
            raise InvalidValueError(
                f"{where} has shape {tuple(full.shape)} for {count} examples; it needs one row each"
            )
        if shorter is not None:
            return cls(batch, _differs(full, shorter))
        others = (axis for axis in range(full.ndim) if axis != batch)
        return cls(batch, next((axis for axis in others if full.shape[axis] == steps > 1), None))

    @property
    def lead(self) -> int:
        """How many axes come before those of a state."""
        return 1 if self.time is None else 2

    def arranged(self, tensor: Tensor) -> Tensor:
        """``[B, T, *S]``, or ``[B, *S]`` where it does not run over time; S has at least one axis."""
        places = [self.batch] if self.time is None else [self.batch, self.time]
        found = tensor.movedim(places, list(range(len(places))))
        return found[..., None] if found.ndim == self.lead else found


def _differs(one: Tensor, other: Tensor) -> int | None:
    """The first axis along which two tensors differ in size; None where none does, or one has more axes."""
    if one.ndim != other.ndim:
        return None
    return next((axis for axis, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if a != b), None)


@attrs.frozen
class Arrangement:
    """Where in all that is read are examples and steps.

    Attributes:
        stacked: for each name, whether it runs once a step.
        states: the axes of each tensor of states.
        outputs: those of the outputs.
    """

    stacked: tuple[bool, ...]
    states: tuple[Axes, ...]
    outputs: Axes

    def arranged(self, raw: Raw) -> tuple[list[Tensor], Tensor]:
        """All states and the outputs as :meth:`Axes.arranged` gives them; the numbers of outputs along one axis."""
        states = [axes.arranged(tensor) for axes, tensor in zip(self.states, flat(raw, self.stacked), strict=True)]
        return states, self.outputs.arranged(raw.outputs).flatten(self.outputs.lead)


def flat(raw: Raw, stacked: Sequence[bool]) -> list[Tensor]:
    """All tensors of states; those of a module that runs once a step as one, ``[B, T, ...]``."""
    found: list[Tensor] = []
    for own, together in zip(raw.states, stacked, strict=True):
        found += [torch.stack(own, dim=1)] if together else own
    return found


def to_length(tensor: Tensor, inputs: Inputs) -> Tensor:
    """``[B, T, ...]`` padded to all steps, where a network has cut it to the longest sequence."""
    steps = inputs.mask.shape[1]
    return tensor if tensor.shape[1] == steps else pad_time(tensor, steps)
