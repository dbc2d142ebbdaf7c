"""Inputs that come in several encodings: one that the meta-model reads, and others that base models read.

The paper asks all base models of a population to take the same inputs (section 5, limitations). Here they need only see
the same raw examples: one model reads a text word by word, another letter by letter, a third in pieces of words. Each
has a clock of its own. What it did is put on the clock of the meta-model, at the steps that both have in common: the
ends of words, the end of the text, equal times.
"""

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory, check_inputs, collate, pad_time, send


@attrs.frozen(eq=False)
class Encoding:
    """The examples of some inputs in another encoding, and how the clocks of both go together.

    Attributes:
        space: the input space of this encoding.
        inputs: the examples in it, as many as in the inputs that it belongs to.
        steps: ``[B, T]`` int64, for each step of the inputs that it belongs to the step here at which as much has been
            read; -1 where there is none, and on padding. See :func:`match_steps`.

    Raises:
        InvalidValueError: steps of another type or number than the examples.

    Example:
        >>> from dynamo import Encoding, Inputs, InputSpace
        >>> everything = torch.ones(1, 2, dtype=torch.bool)
        >>> words = Inputs(torch.tensor([[7, 3]]), everything)  # "so good"
        >>> letters = Inputs(torch.tensor([[8, 5, 0, 3, 5, 5, 2]]), torch.ones(1, 7, dtype=torch.bool))
        >>> spelled = Encoding(InputSpace("tokens", (9,)), letters, torch.tensor([[1, 6]]))
        >>> words = words.with_encoding("letters", spelled)
        >>> words.read_as("letters").inputs.longest
        7
    """

    space: InputSpace
    inputs: Inputs
    steps: Tensor

    __repr__ = brief

    def __attrs_post_init__(self) -> None:
        if self.steps.dtype != torch.int64 or self.steps.ndim != 2 or len(self.steps) != len(self.inputs):
            raise InvalidValueError(
                f"the steps of an encoding of {len(self.inputs)} examples are int64 [examples, steps of the inputs "
                f"that it belongs to]; got {self.steps.dtype} {tuple(self.steps.shape)}"
            )

    def __getitem__(self, rows: Tensor | slice) -> "Encoding":
        return Encoding(self.space, self.inputs[rows], self.steps[rows])

    def to(self, device: torch.device | str) -> "Encoding":
        """The same encoding on a device."""
        return Encoding(self.space, self.inputs.to(device), send(self.steps, device))

    def joined(self, others: Sequence["Encoding"], steps: int) -> "Encoding":
        """This encoding and others of the same space, one after the other, for inputs of that many steps."""
        every = [self, *others]
        clocks = [pad_time(part.steps + 1, steps) - 1 for part in every]  # padded with -1
        return Encoding(self.space, collate([part.inputs for part in every]), torch.cat(clocks))

    def check(self, mask: Tensor, *, where: str) -> None:
        """Check the contents once, where they enter.

        Args:
            mask: ``[B, T]``, that of the inputs that it belongs to.
            where: what it belongs to, for the message.

        Raises:
            InvalidValueError: what :func:`check_inputs` finds; steps that go back, stand on padding or lie beyond the
                end; an example without any.
        """
        check_inputs(self.inputs, where=where, vocabulary=self.space.size if self.space.kind == "tokens" else None)
        lengths = self.inputs.mask.sum(1, keepdim=True)
        faults = {
            "no step that the inputs and this encoding have in common": (self.steps < 0).all(1),
            "a step on padding of the inputs": ((self.steps >= 0) & ~mask).any(1),
            "a step beyond its end": (self.steps >= lengths).any(1) | (self.steps < -1).any(1),
            "steps that go back in time": _goes_back(self.steps),
        }
        for fault, found in faults.items():
            if bool(found.any()):
                raise InvalidValueError(f"{where}: example {int(found.nonzero()[0])} has {fault}")


def match_steps(times: Tensor, mask: Tensor, own_times: Tensor, own_mask: Tensor) -> Tensor:
    """The clock of an encoding: for each step of some inputs the step of the encoding at the same time of the raw
    example, such as the character of a text with which a word ends.

    The last real steps go together in any case: both are the end of the example. Of several steps at one time the last
    is taken.

    Args:
        times: ``[B, T]``, when each step of the inputs has been read; not falling on real steps.
        mask: ``[B, T]``, True on real steps.
        own_times: ``[B, S]``, the same for the steps of the encoding, in the same unit.
        own_mask: ``[B, S]``.

    Returns:
        ``[B, T]`` int64; -1 where no step has the same time, and on padding.

    Raises:
        InvalidValueError: tensors of different shapes, or times that fall.

    Example:
        >>> from dynamo.contracts import match_steps
        >>> def real(count):
        ...     return torch.ones(1, count, dtype=torch.bool)
        >>> match_steps(torch.tensor([[2, 4, 6, 7]]), real(4), torch.tensor([[1, 2, 5, 6, 8]]), real(5))
        tensor([[ 1, -1,  3,  4]])
    """
    for name, own, real in (("times", times, mask), ("own_times", own_times, own_mask)):
        if own.shape != real.shape or own.ndim != 2 or len(own) != len(mask):
            raise InvalidValueError(f"{name} {tuple(own.shape)} do not fit their mask, or the other times")
        if bool((own.diff(dim=1)[real[:, 1:]] < 0).any()):
            raise InvalidValueError(f"{name} fall: a step cannot be read before the one that comes before it")
    there = own_times.double().masked_fill(~own_mask, torch.inf).contiguous()
    asked = times.double().contiguous()
    found = torch.searchsorted(there, asked, right=True) - 1
    same = mask & (found >= 0) & (there.gather(1, found.clamp(min=0)) == asked)
    steps = torch.where(same, found, -1)
    rows = torch.arange(len(mask))
    steps[rows, mask.sum(1) - 1] = own_mask.sum(1) - 1
    return steps


class Reencoded(DynamicalModel):
    """A network that reads its inputs in an encoding of its own, as a base model among others that do not.

    It takes the inputs of its population; what it runs on is their :class:`Encoding` of that name, and its trajectory
    stands at the steps that both have in common. It has no step on the population's clock, and so no fixed points
    there; :attr:`model` may have.

    Args:
        model: the network.
        encoding: the name of its encoding.
        inputs: the input space of the population.

    Attributes:
        model, encoding, inputs: as given.

    Example:
        >>> from dynamo import Reencoded, component
        >>> data = component("dataset", "digits-rows").make({"encodings": "pixels"})
        >>> pixels = component("architecture", "gru").make({}, data.encodings["pixels"], data.outputs)
        >>> model = Reencoded(pixels, "pixels", data.inputs)
        >>> model.trajectory(data.test.inputs[:2]).states[0].shape  # 8 rows, each at its last pixel
        torch.Size([2, 8, 256])
    """

    def __init__(self, model: DynamicalModel, encoding: str, inputs: InputSpace) -> None:
        super().__init__()
        self.model, self.encoding, self.inputs = model, encoding, inputs
        self.outputs, self.state_shapes = model.outputs, model.state_shapes

    def own(self, inputs: Inputs) -> Encoding:
        """The inputs in the model's encoding.

        Raises:
            InvalidValueError: they have no such encoding, or it has another space than the model reads.
        """
        found = inputs.read_as(self.encoding)
        if found.space != self.model.inputs:
            raise InvalidValueError(
                f"the encoding {self.encoding!r} has another space ({found.space}) than the model reads "
                f"({self.model.inputs})"
            )
        return found

    def clock(self, inputs: Inputs) -> Tensor:
        """See :meth:`DynamicalModel.clock`."""
        return self.own(inputs).steps >= 0

    def trajectory(self, inputs: Inputs) -> Trajectory:
        """The network's trajectory at the steps that it has in common with the inputs; see
        :meth:`DynamicalModel.trajectory`.

        Raises:
            InvalidValueError: the inputs do not come in the model's encoding.
        """
        found = self.own(inputs)
        own = found.inputs
        if own.is_sequence:
            own = own.padded(max(own.longest, min(2, own.mask.shape[1])))  # what lies beyond is padding only
        run = self.model.trajectory(own)
        if run.mask.shape[1] == 1 and own.mask.shape[1] > 1:
            return run  # one step stands for the whole input
        rows, steps = torch.arange(len(inputs), device=found.steps.device)[:, None], found.steps.clamp(min=0)
        states = tuple(state[rows, steps] for state in run.states)
        return Trajectory(states, run.outputs[rows, steps], found.steps >= 0)


def _goes_back(steps: Tensor) -> Tensor:
    """Which examples have steps that are smaller than one before them; -1 stands for none."""
    before = steps.cummax(dim=1).values
    return ((steps >= 0) & (steps < before)).any(1)
