"""Can V_n be inverted on the states that are visited, and do V_m V_n⁺ carry base models onto one another? (Appendix C.)

A state map to a smaller base model loses directions; what counts is whether it loses any that the meta-model uses.
"""

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.table import Table, in_words
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import StateMap
from dynamo.contracts.shown import brief, result_html
from dynamo.fit.fidelity import unexplained
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.population.recording import run
from dynamo.system.devices import CPU, placed
from dynamo.system.progress import Progress, silent

#: Directions whose image is narrower than this fraction of the widest one are lost.
LOST = 1e-3


@attrs.frozen(eq=False)
class Inverse:
    """V⁺: the affine map that brings images V h back to visited states h with the least mean square error.

    Attributes:
        dimension: of the principal subspace of the visited states that holds most of their variance.
        rank: of V on that subspace, directions below :data:`LOST` of the widest counted as lost. Where it is the
            dimension, V can be inverted there.
        condition: the widest over the narrowest direction of the image of that subspace's unit sphere; infinite where
            one is lost wholly.
        lost: the share of the variance of the visited states that V⁺ V does not bring back.
        matrix, centre, mean: V⁺ takes y to ``(y − centre) @ matrix + mean``.
    """

    dimension: int
    rank: int
    condition: float
    lost: float
    matrix: Tensor
    centre: Tensor
    mean: Tensor

    __repr__ = brief

    def __call__(self, states: Tensor) -> Tensor:
        """States of the base model ``[..., H']`` to states of the meta-model ``[..., H]``."""
        return ((states.double() - self.centre) @ self.matrix + self.mean).to(states.dtype)


@torch.no_grad()
def inverse(state_map: StateMap, visited: Tensor, share: float = 0.95) -> Inverse:
    """V⁺ for a state map, on visited states of the meta-model.

    Args:
        state_map: V; of one that is not affine, rank and condition are those of its best affine fit.
        visited: states ``[M, H]``.
        share: of their variance that the principal subspace holds.

    Raises:
        DynamoError: fewer than two states, states that are all the same, or a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise DynamoError(f"the share of variance is {share}: it must be above 0 and at most 1")
    if len(visited) < 2:
        raise DynamoError(f"{len(visited)} visited states span nothing: give more probe inputs")
    mean, images = visited.double().mean(0), state_map(visited[:, None])[:, 0].double()
    states, centre = visited.double() - mean, images.mean(0)
    images = images - centre
    _, values, axes = torch.linalg.svd(states, full_matrices=False)
    variances = values.square() / values.square().sum()
    if not bool(variances.isfinite().all()):
        raise DynamoError("the visited states are all the same: they span nothing")
    axes = axes[: int((variances.cumsum(0) < share - 1e-12).sum()) + 1]
    widths = torch.linalg.svdvals(torch.linalg.lstsq(states @ axes.T, images).solution)
    kept = int((widths > LOST * widths[0]).sum())
    narrow = float(widths[-1]) if len(axes) == len(widths) else 0.0
    back = torch.linalg.pinv(images, rtol=LOST) @ states
    lost = (images @ back - states).square().sum() / states.square().sum()
    condition = float(widths[0]) / narrow if narrow > 0 else float("inf")
    return Inverse(
        dimension=len(axes),
        rank=kept,
        condition=condition,
        lost=float(lost),
        matrix=back,
        centre=centre,
        mean=mean,
    )


@attrs.frozen(eq=False)
class Transport:
    """How state maps carry base models onto one another.

    Attributes:
        names, groups: the base models and the group of each.
        inverses: V_n⁺ of each on the states visited at θ_n, with its rank and what it loses.
        carried: the share of the variance of m's states that V_m V_n⁺ leaves unexplained from n's, ``[n, m]``. Appendix
            C's transitivity asks for 0 within a group; the diagonal is V_n V_n⁺.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    inverses: tuple[Inverse, ...]
    carried: Floats

    __repr__ = brief
    _repr_html_ = result_html

    def mean(self, within: bool) -> float:
        """The mean of ``carried`` over pairs of two models of one group, or of two groups; NaN where there are none."""
        names = np.array(self.groups)
        chosen = (names[:, None] == names) == within
        np.fill_diagonal(chosen, False)
        chosen &= np.isfinite(self.carried)  # states that do not vary have nothing to explain
        return float(self.carried[chosen].mean()) if chosen.any() else float("nan")

    def table(self) -> Table:
        """``carried``: a row for each model that states come from, a column for each that they are carried to."""
        rows = zip(self.names, self.carried.tolist(), strict=True)
        return ["model", *self.names], [[name, *carried] for name, carried in rows]

    def describe(self) -> str:
        """The means within groups and between them."""
        within, between = self.mean(within=True), self.mean(within=False)
        return f"V_m V_n⁺ leaves unexplained {in_words(within)} within groups, {in_words(between)} between"


def check_flat(fit: Fit, population: Population) -> None:
    """Refuse what has no inverse state maps.

    Raises:
        DynamoError: states at several sites, or that are not flat.
    """
    shapes = fit.emulator.meta_model.state_shapes
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise DynamoError(f"state maps can be inverted for one site with flat states; this fit's states are {shapes}")
    for base in population:
        if len(base.state_shapes) != 1 or len(base.state_shapes[0]) != 1:
            raise DynamoError(
                f"state maps can be inverted for one site with flat states; those of base model {base.name!r} are "
                f"{base.state_shapes}"
            )


@torch.no_grad()
def transport(
    fit: Fit,
    population: Population,
    groups: Sequence[object],
    *,
    examples: int = 256,
    share: float = 0.95,
    progress: Progress = silent,
) -> Transport:
    """Carry the states of every base model to every other, V_m V_n⁺ h, on the same unlabelled inputs (those of n).

    Args:
        fit: the fit, of base models with one site and flat states.
        population: its base models, in the same order.
        groups: the group of each.
        examples: how many probe examples, the first ones.
        share: of the variance of visited states that the principal subspace holds, see :func:`inverse`.
        progress: called with (models done, models).

    Raises:
        DynamoError: states at several sites or that are not flat, or not one group a model.

    Example:
        >>> result = transport(fit, population, fit.values_of("fraction"), examples=20)
        >>> result.carried.shape == (len(population), len(population))
        True
    """
    if len(groups) != len(population):
        raise DynamoError(f"there are {len(population)} base models, and groups of {len(groups)}")
    population.check_steps()
    check_flat(fit, population)
    maps = [placed(fit.emulator.maps_of(index)[0], CPU) for index in range(len(population))]
    runs: dict[int, list[Tensor]] = {}
    inverses, carried = [], np.zeros((len(maps), len(maps)))
    for index, (base, name) in enumerate(zip(population, fit.names, strict=True)):
        dataset = population.dataset(base)
        inputs = dataset.probes()[:examples]
        if id(dataset) not in runs:
            runs[id(dataset)] = [run(other.model, inputs).states[0] for other in population]
        states = runs[id(dataset)]
        inverses.append(inverse(maps[index], run(fit.model_at(name), inputs).states[0][inputs.mask], share))
        pulled = inverses[-1](states[index])
        carried[index] = [
            float(unexplained(state_map(pulled), target, inputs.mask))
            for state_map, target in zip(maps, states, strict=True)
        ]
        progress(index + 1, len(maps))
    return Transport(
        names=tuple(fit.names),
        groups=tuple(str(group) for group in groups),
        inverses=tuple(inverses),
        carried=carried,
    )
