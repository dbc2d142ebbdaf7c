"""A network tried out once, on a few inputs: how it is fed, where examples and steps are, and what padding does."""

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor, nn

from dynamo.contracts.errors import DynamoError, InvalidValueError
from dynamo.contracts.files import one_line
from dynamo.contracts.trajectory import Inputs, at_readout
from dynamo.population.wrapping.feeding import Feeding
from dynamo.population.wrapping.reading import Arrangement, Axes, Raw, Reading, flat

#: By how much results may differ that should be alike, as a fraction of the largest.
TOLERANCE = 1e-4
#: The most examples that are tried.
EXAMPLES = 4


@attrs.frozen(eq=False)
class Trial:
    """What came of it.

    Attributes:
        feeding: how the network is fed.
        arrangement: where examples and steps are.
        raw: what it gave on ``probe``.
        probe: the inputs that it was tried on, all steps real.
        padding: whether padding reaches the states at real steps.
        padded_outputs: whether it reaches the outputs.
    """

    feeding: Feeding
    arrangement: Arrangement
    raw: Raw
    probe: Inputs
    padding: bool
    padded_outputs: bool


def try_out(module: nn.Module, reading: Reading, feedings: Sequence[Feeding], inputs: Inputs) -> Trial:
    """Try ways of feeding until one works: the network runs, and no example depends on another.

    Args:
        module: the network, in eval mode.
        reading: what is read.
        feedings: the ways.
        inputs: a batch.

    Raises:
        DynamoError: none works; the message has the reason of each.
    """
    probe = few(inputs)
    faults: dict[str, list[str]] = {}
    for feeding in feedings:
        try:
            raw = reading.raw(module, feeding, probe)
            arrangement = _arrangement(module, reading, feeding, probe, raw)
            fault = _fault(module, reading, feeding, probe, raw, arrangement)
            if not fault:
                return Trial(feeding, arrangement, raw, probe, *_pads(module, reading, feeding, probe, arrangement))
        except DynamoError as error:
            fault = str(error)
        except Exception as error:
            fault = f"{type(error).__name__}: {one_line(error)}"
        faults.setdefault(fault, []).append(feeding.layout)
    told = "; ".join(f"{fault} ({', '.join(layouts)})" for fault, layouts in faults.items())
    raise InvalidValueError(
        f"the {type(module).__name__} cannot be run on inputs {tuple(probe.values.shape)} of {probe.values.dtype}: "
        f"{told}; where it is called in another way, say how: "
        "call=lambda module, inputs: module(inputs.values, inputs.mask)"
    )


def few(inputs: Inputs) -> Inputs:
    """A few of a batch's examples, cut so that all steps are real and the sizes of the axes differ."""
    lengths = inputs.mask.sum(1)
    order = lengths.argsort(descending=True, stable=True)[:EXAMPLES]
    order = order[2 * lengths[order] >= lengths[order[0]]]
    values = inputs.values[order]
    if not inputs.is_sequence:
        values = values if len(values) > 1 else torch.cat([values, values.flip(-1)])
        return Inputs(values, torch.ones(len(values), 1, dtype=torch.bool, device=values.device))
    steps = int(lengths[order].min())
    if steps > 2 and values.ndim == 3 and steps == values.shape[2]:
        steps -= 1
    values = values[:, :steps]
    if len(values) == 1:
        values = torch.cat([values, values.flip(1) if steps > 1 else values.roll(1, -1)])
    if len(values) == steps > 2:
        values = values[:-1]
    return Inputs(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))


def cut(inputs: Inputs, steps: int) -> Inputs:
    """The first steps of sequences."""
    return Inputs(inputs.values[:, :steps], inputs.mask[:, :steps])


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether results are the same but for rounding."""
    if one.shape != other.shape:
        return False
    size = float(other.abs().max()) if other.numel() else 0.0
    return bool(torch.allclose(one, other, rtol=0, atol=TOLERANCE * size + 1e-7))


def _arrangement(module: nn.Module, reading: Reading, feeding: Feeding, probe: Inputs, raw: Raw) -> Arrangement:
    steps = probe.mask.shape[1]
    fewer = reading.raw(module, feeding, probe[: len(probe) - 1])
    shorter, short = _shorter(module, reading, feeding, probe)
    counts = [len(own) for own in raw.states]
    less = [len(own) for own in shorter.states] if shorter is not None and len(shorter.states) == len(counts) else None
    stacked = tuple(
        count > 1 and (count == steps if less is None else less[index] == short and count == steps)
        for index, count in enumerate(counts)
    )
    labels = [
        f"what {name!r} gives"
        for name, own, together in zip(raw.names, raw.states, stacked, strict=True)
        for _ in range(1 if together else len(own))
    ]
    parts = [flat(one, stacked) for one in (raw, fewer)]
    cuts = flat(shorter, stacked) if shorter is not None else None
    axes = [
        Axes.of(full, less_, None if cuts is None else cuts[index], probe, label)
        for index, (full, less_, label) in enumerate(zip(*parts, labels, strict=True))
    ]
    outputs = Axes.of(
        raw.outputs, fewer.outputs, None if shorter is None else shorter.outputs, probe, "the module's output"
    )
    if not probe.is_sequence or feeding.is_flat:
        axes = [attrs.evolve(one, time=None) for one in axes]
        outputs = attrs.evolve(outputs, time=None)
    return Arrangement(stacked, tuple(axes), outputs)


def _shorter(module: nn.Module, reading: Reading, feeding: Feeding, probe: Inputs) -> tuple[Raw | None, int]:
    """What the network gives for fewer steps, and how many; None where it runs on sequences of one length alone."""
    steps = probe.mask.shape[1]
    if not probe.is_sequence or steps < 2 or feeding.is_flat:
        return None, steps
    for short in (steps // 2, steps - 1):  # half of them may be too few, as for convolutions
        try:
            return reading.raw(module, feeding, cut(probe, short)), short
        except Exception:
            continue
    return None, steps


def _fault(
    module: nn.Module, reading: Reading, feeding: Feeding, probe: Inputs, raw: Raw, arrangement: Arrangement
) -> str:
    """What is wrong with what is read: it must be finite, the same in every call, and an example's must not change with
    another.
    """

    def read(raw: Raw) -> list[Tensor]:
        states, outputs = arrangement.arranged(raw)
        return [*states, outputs]

    found = read(raw)
    if not all(bool(tensor.isfinite().all()) for tensor in found):
        return "it gives NaN or infinite values"
    again = read(reading.raw(module, feeding, probe))
    if not all(alike(a, b) for a, b in zip(again, found, strict=True)):
        return "it answers differently when it is called again: it keeps a state between calls, or draws at random"
    values = probe.values.clone()
    values[0] = values[1]
    changed = read(reading.raw(module, feeding, probe.with_values(values)))
    if not all(alike(a[1:], b[1:]) for a, b in zip(changed, found, strict=True)):
        return "an example's answer depends on the other examples"
    return ""


def _pads(
    module: nn.Module, reading: Reading, feeding: Feeding, probe: Inputs, arrangement: Arrangement
) -> tuple[bool, bool]:
    """Whether what stands on padded steps reaches the states at real ones, and the outputs."""
    steps = probe.mask.shape[1]
    if not probe.is_sequence or feeding.is_flat or steps < 2:
        return False, False
    for short in (steps // 2, steps - 1):
        mask = probe.mask.clone()
        mask[:-1, short:] = False
        try:
            alone = arrangement.arranged(reading.raw(module, feeding, cut(probe, short)))
        except Exception:
            continue  # so few steps are too few
        try:
            together = arrangement.arranged(reading.raw(module, feeding, Inputs(probe.values, mask)))
        except Exception:
            return True, True  # it takes no sequences of different lengths, or none in this order
        states = zip(alone[0], together[0], arrangement.states, strict=True)
        return any(_differ(*one, short) for one in states), _differ(alone[1], together[1], arrangement.outputs, short)
    return False, False  # it runs on sequences of one length alone


def _differ(alone: Tensor, together: Tensor, axes: Axes, short: int) -> bool:
    """Whether all but the last example differ on their first steps."""
    return not alike((together if axes.time is None else together[:, :short])[:-1], alone[:-1])


def at_end(outputs: Tensor, inputs: Inputs) -> Tensor:
    """Outputs ``[B, T, K]`` at the last real step."""
    return at_readout(outputs, inputs.mask, "last")
