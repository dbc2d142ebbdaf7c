"""How a module is fed: in which order of axes, with which mask, packed or not."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from dynamo.contracts.errors import InvalidValueError, did_you_mean
from dynamo.contracts.trajectory import Inputs

Layout = Literal["batch-time", "time-batch", "batch-feature-time", "packed"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

#: A function of the module and the inputs that gives the module's answer.
Caller = Callable[[nn.Module, Inputs], Any]

#: How an argument of ``forward`` with one of these names is made of the mask.
MASKS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "attention_mask": lambda mask: mask.long(),
    "src_key_padding_mask": lambda mask: ~mask,
    "key_padding_mask": lambda mask: ~mask,
    "padding_mask": lambda mask: ~mask,
    "lengths": lambda mask: mask.sum(1).cpu(),
    "seq_lengths": lambda mask: mask.sum(1).cpu(),
    "input_lengths": lambda mask: mask.sum(1).cpu(),
}


@attrs.frozen
class Feeding:
    """How a module is called with inputs.

    Attributes:
        layout: the order of the axes of sequences, or ``packed``.
        is_flat: whether inputs are vectors ``[B, D]``, held as sequences of one step.
        keywords: further arguments, the same in every call.
        masks: the arguments that are made of the mask.
        caller: what calls the module in place of all that.
    """

    layout: Layout = "batch-time"
    is_flat: bool = False
    keywords: Mapping[str, Any] = attrs.field(factory=dict)
    masks: tuple[str, ...] = ()
    caller: Caller | None = None

    def __call__(self, module: nn.Module, inputs: Inputs) -> Any:
        """The module's answer. It may write into what it is given: that is a copy."""
        inputs = inputs.with_values(in_its_precision(module, inputs.values).clone())
        if self.caller is not None:
            return self.caller(module, inputs)
        values: Any = inputs.values
        if self.is_flat:
            values = values[:, 0]
        elif self.layout == "time-batch":
            values = values.transpose(0, 1)
        elif self.layout == "batch-feature-time":
            values = values.transpose(1, 2)
        elif self.layout == "packed":
            lengths = inputs.mask.sum(1).cpu()
            values = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
        made = {name: MASKS[name](inputs.mask) for name in self.masks}
        return module(values, **made, **self.keywords)


def in_its_precision(module: nn.Module, values: Tensor) -> Tensor:
    """Real values in the precision of a module's parameters; token ids as they are."""
    if not values.is_floating_point():
        return values
    like = next((parameter for parameter in module.parameters() if parameter.is_floating_point()), values)
    return values.to(like.dtype)


def feedings(
    module: nn.Module, inputs: Inputs, layout: Layout | None, is_flat: bool, caller: Caller | None, hidden: bool
) -> list[Feeding]:
    """The ways in which a module may be fed, the likeliest first.

    Args:
        module: the network.
        inputs: a batch.
        layout: the one way, where it was said.
        is_flat: whether inputs are vectors.
        caller: what calls the module, where it was said.
        hidden: whether to ask for hidden states, as models of ``transformers`` are asked.

    Raises:
        InvalidValueError: a layout that there is not, or that does not fit the inputs.
    """
    if layout is not None and layout not in LAYOUTS:
        raise InvalidValueError(f"the layout is {layout!r}: {did_you_mean(layout, LAYOUTS)}")
    known = parameters_of(module)
    masks = tuple(name for name in MASKS if name in known)
    keywords: dict[str, Any] = {"output_hidden_states": True} if hidden else {}
    if hidden and "return_dict" in known:
        keywords["return_dict"] = True
    one = Feeding(keywords=keywords, masks=masks, caller=caller, is_flat=is_flat)
    if caller is not None or is_flat or not inputs.is_sequence:
        return [attrs.evolve(one, masks=() if is_flat or not inputs.is_sequence else masks)]
    if layout is not None:
        return [attrs.evolve(one, layout=layout)]
    ways = [way for way in LAYOUTS if inputs.values.ndim == 3 or way != "batch-feature-time"]
    return [attrs.evolve(one, layout=way) for way in ways]


def parameters_of(module: nn.Module) -> set[str]:
    """The names of the arguments that a module's ``forward`` takes."""
    return set(_signature(module))


def takes_any_keyword(module: nn.Module) -> bool:
    """Whether a module's ``forward`` takes arguments of any name."""
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in _signature(module).values())


def _signature(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return {}


def made_up(kind: str, shape: tuple[int, ...], device: torch.device) -> Inputs:
    """A few random inputs of a space, all steps real."""
    generator = torch.Generator().manual_seed(0)
    count, steps = 4, 7 if shape[0] != 7 else 6
    if kind == "image":
        return Inputs(torch.randn(count, *shape, generator=generator), torch.ones(count, 1, dtype=torch.bool)).to(
            device
        )
    if kind == "tokens":
        values = torch.randint(shape[0], (count, steps), generator=generator)
    else:
        values = torch.randn(count, steps, *shape, generator=generator)
    return Inputs(values, torch.ones(count, steps, dtype=torch.bool)).to(device)
