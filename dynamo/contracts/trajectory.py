"""Inputs and trajectories: the tensors that flow between models, recordings and the objective.

Shape legend, used throughout the project:

    B  batch       examples
    T  time        sequence steps (RNN); 1 where a model has blocks instead of steps
    I  sites       places where states are read: one for an RNN, one per block for a ResNet
    S  state       the shape of a state at one site (``H`` units, or channels x height x width)
    K  outputs     logits or real outputs
    d  theta       dimension of the model embedding

A network that runs over a sequence has one site and T steps; a feed-forward network with blocks as time has many
sites with one step each. So the mean over time in equations 1 and 2 and the mean over blocks in equations 5 and 6 are
one operation: a mean over sites and real steps.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.contracts.errors import InvalidValueError, WrongTypeError
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import InputSpace

if TYPE_CHECKING:
    from dynamo.contracts.encoding import Encoding


@attrs.frozen(eq=False)
class Inputs:
    """A batch of inputs.

    Attributes:
        values: token ids ``[B, T]`` (int64), real sequences ``[B, T, D]``, or images ``[B, C, H, W]``.
        mask: ``[B, T]`` bool, True on real steps. Sequences are padded on the right. Images have T = 1.
        encodings: the same examples in other encodings, by name, for base models that read these; none as a rule.

    Raises:
        InvalidValueError: a mask that is not bool ``[B, T]``, or does not fit the values, or an encoding of other
            examples.

    Example:
        >>> from dynamo import Inputs
        >>> batch = Inputs(torch.zeros(2, 5, 3), torch.arange(5) < torch.tensor([[5], [2]]))
        >>> len(batch), batch.longest
        (2, 5)
    """

    values: Tensor
    mask: Tensor
    encodings: Mapping[str, "Encoding"] = attrs.field(factory=dict)

    def __repr__(self) -> str:
        return brief(self, without=() if self.encodings else ("encodings",))

    def __attrs_post_init__(self) -> None:
        if self.mask.dtype != torch.bool or self.mask.ndim != 2:
            raise InvalidValueError(f"a mask is bool [batch, time]; got {self.mask.dtype} {tuple(self.mask.shape)}")
        if self.values.ndim < 2 or self.values.shape[0] != self.mask.shape[0]:
            raise InvalidValueError(f"values {tuple(self.values.shape)} do not fit the mask {tuple(self.mask.shape)}")
        if self.values.ndim < 4 and self.values.shape[1] != self.mask.shape[1]:
            raise InvalidValueError(f"values have {self.values.shape[1]} steps, the mask {self.mask.shape[1]}")
        for name, encoding in self.encodings.items():
            if encoding.steps.shape != self.mask.shape:
                raise InvalidValueError(
                    f"encoding {name!r} has steps for {tuple(encoding.steps.shape)} examples and steps, the mask is "
                    f"{tuple(self.mask.shape)}"
                )

    def __len__(self) -> int:
        return self.mask.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> "Inputs":
        encodings = {name: encoding[rows] for name, encoding in self.encodings.items()}
        return Inputs(self.values[rows], self.mask[rows], encodings)

    def with_values(self, values: Tensor) -> "Inputs":
        """Other values under the same mask; they come in no other encoding."""
        return Inputs(values, self.mask)

    def with_encoding(self, name: str, encoding: "Encoding") -> "Inputs":
        """The same inputs, with one more encoding of them."""
        return attrs.evolve(self, encodings={**self.encodings, name: encoding})

    def read_as(self, name: str) -> "Encoding":
        """The same examples in another encoding.

        Raises:
            InvalidValueError: they do not come in it.
        """
        if name not in self.encodings:
            known = f"they come in {', '.join(self.encodings)}" if self.encodings else "they come in no other encoding"
            raise InvalidValueError(f"these inputs cannot be read as {name!r}: {known}")
        return self.encodings[name]

    @property
    def plain(self) -> "Inputs":
        """The inputs as the meta-model reads them, in no other encoding."""
        return Inputs(self.values, self.mask) if self.encodings else self

    def padded(self, steps: int) -> "Inputs":
        """Sequences cut or padded on the right to that many steps, in no other encoding; images are left alone."""
        return Inputs(pad_time(self.values, steps), pad_time(self.mask, steps)) if self.is_sequence else self.plain

    def to(self, device: torch.device | str) -> "Inputs":
        """The same inputs on a device."""
        encodings = {name: encoding.to(device) for name, encoding in self.encodings.items()}
        return Inputs(send(self.values, device), send(self.mask, device), encodings)

    @property
    def is_sequence(self) -> bool:
        """Whether the values run over time (images do not)."""
        return self.values.ndim < 4

    @property
    def longest(self) -> int:
        """Steps in the longest real sequence; what lies beyond is padding only."""
        return int(self.mask.sum(1).max())


@attrs.frozen(eq=False)
class Trajectory:
    """The states a model passes through on a batch of inputs, and its outputs.

    Attributes:
        states: one tensor ``[B, T, *S]`` per site.
        outputs: ``[B, T, K]``, G(h_t) at each step.
        mask: ``[B, T]`` bool, True on real steps. Padded steps never reach a loss, a mean or a fixed point. That of a
            recording may have holes, where nothing was observed.

    Example:
        >>> from dynamo import Trajectory
        >>> mask = torch.tensor([[True, True, False]])
        >>> run = Trajectory((torch.zeros(1, 3, 4),), torch.arange(6.0).view(1, 3, 2), mask)
        >>> run.at_readout("last")
        tensor([[2., 3.]])
    """

    states: tuple[Tensor, ...]
    outputs: Tensor
    mask: Tensor

    __repr__ = brief

    def __getitem__(self, rows: Tensor | slice) -> "Trajectory":
        rows = send(rows, self.mask.device) if isinstance(rows, Tensor) else rows
        return Trajectory(tuple(state[rows] for state in self.states), self.outputs[rows], self.mask[rows])

    def to(self, device: torch.device | str) -> "Trajectory":
        """The same trajectory on a device."""
        *states, outputs, mask = (send(tensor, device) for tensor in (*self.states, self.outputs, self.mask))
        return Trajectory(tuple(states), outputs, mask)

    def at_readout(self, readout: str) -> Tensor:
        """The outputs that answer the task: ``[B, K]`` at the last real step, or all ``[B, T, K]`` for ``every``."""
        return at_readout(self.outputs, self.mask, readout)


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device. On its way to a GPU nobody waits for it: it goes through pinned memory, beside what the GPU
    still has to do.

    Example:
        >>> from dynamo.contracts.trajectory import send
        >>> send(torch.ones(2), "cpu")
        tensor([1., 1.])
    """
    if torch.device(device).type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def at_readout(outputs: Tensor, mask: Tensor, readout: str) -> Tensor:
    """Of outputs ``[B, T, K]`` those that answer the task; see :meth:`Trajectory.at_readout`.

    Example:
        >>> from dynamo.contracts import at_readout
        >>> at_readout(torch.arange(6.0).view(1, 3, 2), torch.tensor([[True, True, False]]), "last")
        tensor([[2., 3.]])
    """
    if readout == "every":
        return outputs
    last = (mask * torch.arange(mask.shape[1], device=mask.device)).amax(1)  # a recording's mask may have holes
    return outputs[torch.arange(mask.shape[0], device=mask.device), last]


def at_the_end(trajectory: Trajectory, mask: Tensor) -> Trajectory:
    """A trajectory of one step, which stands for whole sequences, put at their last real steps; any other as it is.

    Args:
        trajectory: of a batch.
        mask: ``[B, T]``, that of its inputs.

    Example:
        >>> from dynamo import Trajectory
        >>> from dynamo.contracts import at_the_end
        >>> whole = Trajectory((torch.ones(1, 1, 2),), torch.ones(1, 1, 3), torch.ones(1, 1, dtype=torch.bool))
        >>> at_the_end(whole, torch.tensor([[True, True, False]])).mask
        tensor([[False,  True, False]])
    """
    if trajectory.mask.shape[1] > 1 or mask.shape[1] == 1:
        return trajectory
    steps = torch.arange(mask.shape[1], device=trajectory.mask.device)
    last = steps == (mask.sum(1, keepdim=True) - 1).to(steps.device)

    def spread(tensor: Tensor) -> Tensor:
        return tensor * last.view(*last.shape, *[1] * (tensor.ndim - 2)).to(tensor.dtype)

    return Trajectory(tuple(map(spread, trajectory.states)), spread(trajectory.outputs), last)


def iterate(step: Callable[[Tensor, Tensor], Tensor], x: Tensor, h: Tensor) -> Tensor:
    """The states after each step of one map: h_{t+1} = step(x_t, h_t).

    Padded steps are iterated like any other: padding comes last, so it cannot reach a real step.

    Args:
        step: the map, ``[B, E], [B, H] -> [B, H]``.
        x: what enters it at each step, ``[B, T, E]``.
        h: the state before the first step, ``[B, H]``.

    Returns:
        The states ``[B, T, H]``.

    Example:
        >>> from dynamo.contracts import iterate
        >>> iterate(lambda x, h: x + h, torch.ones(1, 4, 1), torch.zeros(1, 1)).flatten()
        tensor([1., 2., 3., 4.])
    """
    states = []
    for entering in x.unbind(1):
        h = step(entering, h)
        states.append(h)
    return torch.stack(states, dim=1)


def as_inputs(space: InputSpace, values: Any, mask: Any = None, *, like: Tensor | None = None) -> Inputs:
    """Inputs of a space from what users have: tensors or arrays of any kind of number, with or without a mask.

    Args:
        space: what the values must be of.
        values: token ids ``[B, T]`` of any integer type, sequences ``[B, T, D]`` or images ``[B, C, H, W]`` of any real
            type; tensors or numpy arrays.
        mask: ``[B, T]``, True (or 1) on real steps; all steps are real where it is left out.
        like: a parameter of the model: real values get its dtype, arrays its device.

    Raises:
        WrongTypeError: values that are neither a tensor nor an array, or numbers of another kind, such as real numbers
            for token ids.
        InvalidValueError: values or a mask of another shape, or token ids outside the vocabulary.

    Example:
        >>> from dynamo import InputSpace
        >>> from dynamo.contracts import as_inputs
        >>> as_inputs(InputSpace("real", (3,)), np.zeros((2, 5, 3))).values.dtype
        torch.float32
        >>> as_inputs(InputSpace("tokens", (9,)), torch.zeros(2, 5, 8))
        Traceback (most recent call last):
        dynamo.contracts.errors.InvalidValueError: token ids below 9: values are [batch, steps], not (2, 5, 8)
    """
    device = torch.device("cpu") if like is None else like.device
    values, mask = _tensor(values, device, "values"), None if mask is None else _tensor(mask, device, "the mask")
    own = (space.shape[0],) if space.kind == "real" else space.shape if space.kind == "image" else ()
    steps = () if space.kind == "image" else ("steps",)
    if values.ndim != 1 + len(steps) + len(own) or tuple(values.shape[1 + len(steps) :]) != own:
        wanted = ", ".join(map(str, ("batch", *steps, *own)))
        raise InvalidValueError(f"{space}: values are [{wanted}], not {tuple(values.shape)}")
    real = values.is_floating_point()
    if values.is_complex() or values.dtype == torch.bool or (space.kind == "tokens" and real):
        kind = "whole" if space.kind == "tokens" else "real"
        raise WrongTypeError(f"{space}: values are {kind} numbers, not {values.dtype}")
    if space.kind == "tokens":
        values = values.long()
        if values.device.type == "cpu" and values.numel() and not _is_traced():
            least, most = int(values.min()), int(values.max())
            if least < 0 or most >= space.size:
                raise InvalidValueError(f"{space}: {least if least < 0 else most} is none of them")
    elif like is not None or not real or values.dtype == torch.float64:
        values = values.to(torch.get_default_dtype() if like is None else like.dtype)
    if mask is None:
        return Inputs(values, values.new_ones(values.shape[:2] if steps else (values.shape[0], 1), dtype=torch.bool))
    return Inputs(values, mask if mask.dtype == torch.bool or mask.is_floating_point() else mask != 0)


def _tensor(values: Any, device: torch.device, what: str) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=True)).to(device)
    given = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
    raise WrongTypeError(f"{what} must be a tensor or an array of numbers, not {given}")


def _is_traced() -> bool:
    """Whether torch follows the calls to export or compile them, when values are not there to be looked at."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def check_inputs(inputs: Inputs, *, where: str, vocabulary: int | None = None) -> None:
    """Check the contents of inputs once, where they enter: masks, lengths, token ids, finite numbers.

    Args:
        inputs: what is checked.
        where: what they belong to, for the message.
        vocabulary: the vocabulary's size, for token ids.

    Raises:
        InvalidValueError: no examples, a zero-length or all-padding example, padding that is not on the right, ids out
            of range, NaN or Inf.

    Example:
        >>> from dynamo import Inputs
        >>> from dynamo.contracts import check_inputs
        >>> ids = Inputs(torch.tensor([[4, 9]]), torch.ones(1, 2, dtype=torch.bool))
        >>> check_inputs(ids, where="the batch", vocabulary=9)
        Traceback (most recent call last):
        dynamo.contracts.errors.InvalidValueError: the batch: token id 9 at example 0, step 1 is beyond the \
vocabulary of 9
    """
    if len(inputs) == 0:
        raise InvalidValueError(f"{where} has no examples")
    if inputs.mask.shape[1] == 0:
        raise InvalidValueError(f"{where} has sequences of length zero; drop them")
    empty = (~inputs.mask.any(1)).nonzero()
    if len(empty):
        raise InvalidValueError(
            f"{where}: example {int(empty[0])} is all padding; drop it or give it at least one real step"
        )
    holes = (inputs.mask[:, 1:] & ~inputs.mask[:, :-1]).any(1).nonzero()
    if len(holes):
        raise InvalidValueError(f"{where}: example {int(holes[0])} has padding before a real step; pad on the right")
    if vocabulary is not None:
        outside = ((inputs.values < 0) | (inputs.values >= vocabulary)).nonzero()
        if len(outside):
            example, step = (int(index) for index in outside[0])
            token = int(inputs.values[example, step])
            raise InvalidValueError(
                f"{where}: token id {token} at example {example}, step {step} is beyond the vocabulary of {vocabulary}"
            )
    elif inputs.values.is_floating_point() and not bool(inputs.values.isfinite().all()):
        raise InvalidValueError(f"{where} has NaN or infinite values")


def collate(parts: Sequence[Inputs]) -> Inputs:
    """Several batches as one, cut to the longest real sequence and padded on the right with zeros; in the encodings
    that all of them come in.

    Example:
        >>> from dynamo import Inputs
        >>> from dynamo.contracts import collate
        >>> short, long = (Inputs(torch.ones(1, n, 2), torch.ones(1, n, dtype=torch.bool)) for n in (3, 5))
        >>> collate([short, long]).values.shape
        torch.Size([2, 5, 2])
    """
    steps = max(part.longest for part in parts) if parts[0].is_sequence else 1
    cut = [part.padded(steps) for part in parts]
    encodings = {
        name: first.joined([part.encodings[name] for part in parts[1:]], steps)
        for name, first in parts[0].encodings.items()
        if all(name in part.encodings and part.encodings[name].space == first.space for part in parts)
    }
    return Inputs(_cat([part.values for part in cut]), _cat([part.mask for part in cut]), encodings)


def join(parts: Sequence[Trajectory], steps: int) -> Trajectory:
    """Trajectories with states of one shape one after the other, cut or padded on the right to ``steps`` steps.

    Example:
        >>> from dynamo import Trajectory
        >>> from dynamo.contracts import join
        >>> run = Trajectory((torch.zeros(2, 3, 4),), torch.zeros(2, 3, 1), torch.ones(2, 3, dtype=torch.bool))
        >>> join([run, run], steps=5).states[0].shape
        torch.Size([4, 5, 4])
    """
    sites = zip(*(part.states for part in parts), strict=True)
    states = tuple(_cat([pad_time(state, steps) for state in site]) for site in sites)
    outputs = _cat([pad_time(part.outputs, steps) for part in parts])
    return Trajectory(states, outputs, _cat([pad_time(part.mask, steps) for part in parts]))


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors one after the other; one alone is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def pad_time(tensor: Tensor, steps: int) -> Tensor:
    """``tensor [B, T, ...]`` cut or zero-padded on the right to ``steps`` steps.

    Example:
        >>> from dynamo.contracts import pad_time
        >>> pad_time(torch.ones(1, 2), 4)
        tensor([[1., 1., 0., 0.]])
    """
    if tensor.shape[1] >= steps:
        return tensor[:, :steps]
    padding = tensor.new_zeros((tensor.shape[0], steps - tensor.shape[1], *tensor.shape[2:]))
    return torch.cat([tensor, padding], dim=1)
