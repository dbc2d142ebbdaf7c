"""Do V_m V_n⁺ carry what a base model knows over to another one? States are put into running models, to see.

``transport`` asks how much of m's states V_m V_n⁺ explains; what it leaves out may be what m acts upon, or nothing that
matters. Here m goes on from V_m V_n⁺ h_n, and what it then answers decides.
"""

from collections.abc import Sequence
from itertools import permutations

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.dynamics.constant_input import recurrent
from dynamo.analysis.dynamics.transport import LOST, check_flat, inverse
from dynamo.analysis.table import Table, in_words
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import RecurrentModel
from dynamo.contracts.shown import brief, result_html
from dynamo.contracts.spaces import OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo.fit.fidelity import agreement
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.population.recording import run
from dynamo.system.devices import CPU, placed
from dynamo.system.progress import Progress, silent

#: The states that model m goes on from: its own on the same input (the upper bound), V_m V_n⁺ h_n, an affine map of h_n
#: fitted to the states of m without the meta-model, its own on another input, and its mean state (the lower bounds).
STATES = ("own", "carried", "fitted", "other input", "mean")


@attrs.frozen(eq=False)
class Interchange:
    """How well models that go on from a state of another model answer like that one.

    Attributes:
        names, groups: the base models and the group of each.
        pairs: the pairs (n, m) of models by number, n's states being put into m, ``[P, 2]``.
        kept: the agreement of what m answers from then on with what n answers on the same inputs, ``[P, 5]``, for the
            states in the order of :data:`STATES`: the share of equal decisions (classes), or R² (real outputs).
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    pairs: np.ndarray
    kept: Floats

    __repr__ = brief
    _repr_html_ = result_html

    @property
    def within(self) -> np.ndarray:
        """Which pairs are of one group, ``[P]``."""
        groups = np.array(self.groups)
        same: np.ndarray = groups[self.pairs[:, 0]] == groups[self.pairs[:, 1]]
        return same

    def mean(self, state: str, within: bool | None = None) -> float:
        """The mean of ``kept`` for one of :data:`STATES` over the pairs within groups, between them, or all (None);
        NaN where there are none.
        """
        chosen = np.isfinite(self.kept).all(1)
        if within is not None:
            chosen &= self.within == within
        return float(self.kept[chosen, STATES.index(state)].mean()) if chosen.any() else float("nan")

    def table(self) -> Table:
        """A row for each pair of models."""
        columns = ["from", "into", "group_from", "group_into", *(state.replace(" ", "_") for state in STATES)]
        rows: list[list[object]] = []
        for (n, m), kept in zip(self.pairs.tolist(), self.kept.tolist(), strict=True):
            rows.append([self.names[n], self.names[m], self.groups[n], self.groups[m], *kept])
        return columns, rows

    def describe(self) -> str:
        """The means over all pairs."""
        told = ", ".join(f"{in_words(self.mean(state))} from {what}" for state, what in _TOLD.items())
        return f"put into another model in mid-sequence, it answers like the first: {told}"


_TOLD = {
    "carried": "V_m V_n⁺ h_n",
    "own": "its own state",
    "fitted": "a map fitted between the two",
    "other input": "its state on another input",
    "mean": "its mean state",
}


def continued(model: RecurrentModel, inputs: Inputs, states: Tensor, after: Tensor) -> Trajectory:
    """What a model does where it has the given states after the given steps.

    Args:
        model: the model.
        inputs: what it reads, ``B`` examples.
        states: its state after step ``after``, ``[B, H]``.
        after: a step of each example, counted from 0, ``[B]``.

    Returns:
        Its states and outputs; the mask has the real steps after those alone.
    """
    x, h, found = model.encode(inputs.values), states, []
    for step in range(x.shape[1]):
        h = torch.where((step > after)[:, None], model.step(x[:, step], h), h)
        found.append(h)
    stacked = torch.stack(found, 1)
    later = inputs.mask & (torch.arange(x.shape[1]) > after[:, None])
    return Trajectory((stacked,), model.readout(stacked), later)


@torch.no_grad()
def interchange(
    fit: Fit,
    population: Population,
    groups: Sequence[object],
    *,
    examples: int = 256,
    pairs: int = 400,
    seed: int = 0,
    progress: Progress = silent,
) -> Interchange:
    """Put states of base model n, carried over by V_m V_n⁺, into base model m half-way through each sequence, and
    compare what m answers from then on with what n answers (an interchange intervention; arXiv 2501.06164).

    Of the probe inputs of n, one half serves to fit V_n⁺, the map from h_n to h_m and the mean state of m, on all their
    steps; the other half is answered.

    Args:
        fit: the fit, of recurrent base models.
        population: its base models, in the same order.
        groups: the group of each.
        examples: how many probe examples, the first ones; half of them to fit, half to answer.
        pairs: at most so many pairs (n, m) of two models with one output space, drawn at random.
        seed: of the pairs and of the other inputs.
        progress: called with (pairs done, pairs).

    Raises:
        DynamoError: models that are not recurrent, have no outputs or none in common, sequences that are too short, or
            not one group a model.

    Example:
        >>> result = interchange(fit, population, fit.values_of("fraction"), examples=40)
        >>> result.kept.shape == (len(result.pairs), 5)
        True
    """
    if len(groups) != len(population):
        raise DynamoError(f"there are {len(population)} base models, and groups of {len(groups)}")
    population.check_steps()
    check_flat(fit, population)
    models = [placed(recurrent(base.model), CPU) for base in population]
    spaces = [base.outputs for base in population]
    maps = [placed(fit.emulator.maps_of(number)[0], CPU) for number in range(len(models))]
    generator = torch.Generator().manual_seed(seed)
    drawn = _drawn(spaces, pairs, generator)
    sources: dict[int, list[int]] = {}
    for n, m in drawn:
        sources.setdefault(n, []).append(m)
    kept = dict[tuple[int, int], list[float]]()
    for n, partners in sources.items():
        fitted, asked = _halves(population.dataset(population[n]).probes()[:examples])
        after = asked.mask.sum(1) // 2 - 1
        rows = torch.arange(len(asked))
        back = inverse(maps[n], run(fit.model_at(fit.names[n]), fitted).states[0][fitted.mask])
        seen = run(models[n], fitted).states[0][fitted.mask]
        reference = run(models[n], asked)
        here = reference.states[0][rows, after]
        others = torch.randperm(len(asked), generator=generator)
        others = torch.where(others == rows, (rows + 1) % len(asked), others)
        for m in partners:
            wanted = run(models[m], fitted).states[0][fitted.mask]
            own = run(models[m], asked).states[0][rows, after]
            states = (
                own,
                maps[m](back(here)[:, None])[:, 0],
                _affine(seen, wanted, here),
                run(models[m], asked).states[0][others, after[others]],
                wanted.mean(0).expand_as(own),
            )
            kept[n, m] = [_agreement(models[m], asked, one, after, reference, spaces[n]) for one in states]
            progress(len(kept), len(drawn))
    return Interchange(
        names=tuple(fit.names),
        groups=tuple(str(group) for group in groups),
        pairs=np.array(list(kept)),
        kept=np.array(list(kept.values())),
    )


def _drawn(spaces: Sequence[OutputSpace], most: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Pairs of models that answer the same question, at most so many."""
    if any(space.kind == "none" for space in spaces):
        raise DynamoError("these models have no outputs, so that nothing tells whether a state is kept")
    found = [(n, m) for n, m in permutations(range(len(spaces)), 2) if spaces[n] == spaces[m]]
    if not found:
        raise DynamoError("no two of these models answer the same question: there is nothing to compare")
    order = torch.randperm(len(found), generator=generator)[:most].tolist()
    return [found[index] for index in sorted(order)]


def _halves(inputs: Inputs) -> tuple[Inputs, Inputs]:
    """Two halves of the examples with two steps and more: those to fit to, and those to answer."""
    long = inputs[(inputs.mask.sum(1) > 1).nonzero()[:, 0]]
    if len(long) < 4:
        raise DynamoError(f"{len(long)} of these examples have two steps or more: states are exchanged between steps")
    half = len(long) // 2
    return long[:half], long[half:]


def _affine(source: Tensor, target: Tensor, states: Tensor) -> Tensor:
    """The affine map of ``source`` to ``target`` with the least mean square error, at ``states``."""
    source, target = source.double(), target.double()
    matrix = torch.linalg.pinv(source - source.mean(0), rtol=LOST) @ (target - target.mean(0))
    found: Tensor = ((states.double() - source.mean(0)) @ matrix + target.mean(0)).to(states.dtype)
    return found


def _agreement(
    model: RecurrentModel, inputs: Inputs, states: Tensor, after: Tensor, reference: Trajectory, space: OutputSpace
) -> float:
    """How well a model that goes on from these states answers like another one."""
    found = continued(model, inputs, states, after)
    return agreement(found, Trajectory(reference.states, reference.outputs, found.mask), space)
