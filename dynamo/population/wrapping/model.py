"""A module as a base model."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal, final

import attrs
import torch
from torch import Tensor, nn

from dynamo.contracts.protocols import DynamicalModel, RecurrentModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo.population.wrapping.answers import outputs_of
from dynamo.population.wrapping.feeding import Feeding, in_its_precision
from dynamo.population.wrapping.reading import Arrangement, Reading, to_length
from dynamo.population.wrapping.recurrence import LayerMap, Map
from dynamo.population.wrapping.trial import at_end, cut
from dynamo.population.wrapping.watching import Call, as_it_is, reached, replacing, watching

Time = Literal["steps", "blocks", "both"]


@attrs.frozen(eq=False)
class Plan:
    """How a module is run as a base model.

    Attributes:
        feeding: how it is fed.
        reading: what is read.
        arrangement: where examples and steps are.
        time: what a step of the trajectory is.
        padding: whether sequences of different lengths must run apart, since padding would reach states at real steps.
        padded_outputs: whether they must since it would reach the outputs.
        last: the layer whose states give the outputs at every step, for a module that answers once for a sequence.
    """

    feeding: Feeding
    reading: Reading
    arrangement: Arrangement
    time: Time
    padding: bool
    padded_outputs: bool
    last: LayerMap | None = None


class WrappedModel(DynamicalModel):
    """A module of any class, run and watched; see :func:`dynamo.wrap`, which makes it.

    The module is shared, not copied. It is watched by hooks that are there for the time of a call alone.

    Attributes:
        module: the module.
        plan: how it is run.
        why_no_map: why it has no fixed points of one map, where this is known.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: Plan,
        inputs: InputSpace,
        outputs: OutputSpace,
        state_shapes: tuple[tuple[int, ...], ...],
        why_no_map: str = "",
    ) -> None:
        super().__init__()
        self.module, self.plan, self.why_no_map = module, plan, why_no_map
        self.inputs, self.outputs, self.state_shapes = inputs, outputs, state_shapes

    @property
    def _reads_out(self) -> bool:
        """Whether the outputs are read from the states where the module answers once for a sequence."""
        return self.plan.last is not None

    def trajectory(self, inputs: Inputs) -> Trajectory:
        """Run the module. Where padding would reach real steps, sequences of each length run apart, without any."""
        reads_out = self._reads_out and self.plan.arrangement.outputs.time is None
        must = self.plan.padding or (self.plan.padded_outputs and not reads_out)
        if not must or bool(inputs.mask.all()):
            return self._run(inputs)
        lengths = inputs.mask.sum(1)
        parts = [(lengths == length).nonzero()[:, 0] for length in sorted(set(lengths.tolist()))]
        runs = [self._run(cut(inputs[rows], int(lengths[rows[0]]))) for rows in parts]
        back = torch.cat(parts).argsort()
        is_whole = runs[0].mask.shape[1] == 1 and self.plan.time == "blocks"

        def joined(tensors: list[Tensor]) -> Tensor:
            tensors = tensors if is_whole else [to_length(tensor, inputs) for tensor in tensors]
            return torch.cat(tensors)[back]

        states = [joined(list(site)) for site in zip(*(run.states for run in runs), strict=True)]
        mask = runs[0].mask.new_ones(len(inputs), 1) if is_whole else inputs.mask
        return Trajectory(tuple(states), joined([run.outputs for run in runs]), mask)

    def _run(self, inputs: Inputs) -> Trajectory:
        plan = self.plan
        raw = plan.reading.raw(self.module, plan.feeding, inputs)
        states, outputs = plan.arrangement.arranged(raw)
        sites = arranged_states(states, plan, inputs)
        if plan.time == "blocks":
            whole = outputs if plan.arrangement.outputs.time is None else at_end(to_length(outputs, inputs), inputs)
            return Trajectory(sites, whole[:, None], inputs.mask[:, :1])
        return Trajectory(sites, self._outputs(sites, outputs, inputs), inputs.mask)

    def _outputs(self, states: tuple[Tensor, ...], outputs: Tensor, inputs: Inputs) -> Tensor:
        """The outputs at every step ``[B, T, K]``."""
        if self.plan.arrangement.outputs.time is not None:
            return to_length(outputs, inputs)
        if self.plan.last is not None:
            return read_out(self, self.plan.last, states[0][..., -self.plan.last.width :])
        return outputs[:, None].expand(-1, inputs.mask.shape[1], -1)


@final
class WrappedRecurrentModel(WrappedModel, RecurrentModel):
    """A module that iterates one map; see :func:`dynamo.wrap`, which makes it.

    Attributes:
        map: the map.
    """

    start: Tensor

    def __init__(
        self,
        module: nn.Module,
        plan: Plan,
        inputs: InputSpace,
        outputs: OutputSpace,
        state_shapes: tuple[tuple[int, ...], ...],
        iterated: Map,
        start: Tensor,
    ) -> None:
        super().__init__(module, plan, inputs, outputs, state_shapes)
        self.map = iterated
        self.register_buffer("start", start, persistent=False)

    @property
    def _reads_out(self) -> bool:
        return True

    def encode(self, values: Tensor) -> Tensor:
        """What enters the map, read where it enters."""
        steps = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        return self.map.entering(entering(self.module, self.plan.feeding, self.map, Inputs(values, steps)))

    def initial_state(self, batch: int) -> Tensor:
        """The state that the module starts from."""
        return self.start.expand(batch, -1)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """One step of the module's own map."""
        return self.map.step(self.module, x, h)

    def readout(self, h: Tensor) -> Tensor:
        """What the module answers when its map has reached a state: the state is put in place of its own."""
        return read_out(self, self.map, h)

    def _outputs(self, states: tuple[Tensor, ...], outputs: Tensor, inputs: Inputs) -> Tensor:
        if self.plan.arrangement.outputs.time is not None:
            return to_length(outputs, inputs)
        return self.readout(states[0])


def entering(module: nn.Module, feeding: Feeding, iterated: Map, inputs: Inputs) -> list[Call]:
    """The calls of the module that iterates the map, as far as they tell what enters it."""
    if iterated.first:
        call = reached(module, iterated.name, lambda: feeding(module, inputs))
        return [] if call is None else [call]
    with as_it_is(module), watching(module, [iterated.name]) as calls:
        feeding(module, inputs)
    return calls[iterated.name]


def read_out(model: WrappedModel, iterated: Map, h: Tensor) -> Tensor:
    """The module's outputs ``[..., K]`` at states ``[..., S]``, each as if a sequence of one step had led there."""
    rows = h.reshape(-1, h.shape[-1])
    plan, space = model.plan, model.inputs
    if space.kind == "tokens":
        values = torch.zeros(len(rows), 1, dtype=torch.long, device=h.device)
    else:
        values = torch.zeros(len(rows), 1, *space.shape, device=h.device)
    inputs = Inputs(in_its_precision(model.module, values), values.new_ones(len(rows), 1, dtype=torch.bool))
    with replacing(model.module, iterated.name, _giver(iterated, rows)):
        outputs, _ = outputs_of(plan.feeding(model.module, inputs), plan.reading.answer)
    outputs = plan.arrangement.outputs.arranged(outputs)
    return outputs.reshape(*h.shape[:-1], -1)


def _giver(iterated: Map, rows: Tensor) -> Callable[[Call], object]:
    return lambda call: iterated.given(call, rows)


def arranged_states(states: list[Tensor], plan: Plan, inputs: Inputs) -> tuple[Tensor, ...]:
    """The states at each site: ``[B, T, *S]``, or ``[B, 1, *S]`` where blocks are time.

    Over blocks, what runs over the steps of a sequence is averaged over the real ones.
    """
    axes = plan.arrangement.states
    if plan.time == "blocks":
        whole = [
            state if one.time is None else _mean(to_length(state, inputs), inputs.mask)
            for state, one in zip(states, axes, strict=True)
        ]
        return tuple(state[:, None] for state in whole)
    states = [to_length(state, inputs) for state in states]
    if plan.time == "both":
        return tuple(states)
    return (torch.cat([state.flatten(2) for state in states], dim=-1),)


def _mean(state: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(state.dtype) / mask.sum(1, keepdim=True)
    return (state * weights.reshape(*mask.shape, *[1] * (state.ndim - 2))).sum(1)


def without_gradients(module: nn.Module) -> ExitStack:
    """Eval mode and no gradients, until the stack is closed; each part is in its own mode again then."""
    stack = ExitStack()
    for part in module.modules():
        stack.callback(setattr, part, "training", part.training)
    module.eval()
    stack.enter_context(torch.no_grad())
    return stack
