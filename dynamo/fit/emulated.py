"""What the emulators of a fit do on the same inputs, block by block, and the squared distances of what they do.

All emulators share the meta-model's state space, so that what two of them do can be subtracted without any alignment.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import MetaModel
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs, Trajectory, as_inputs
from dynamo.fit.probes import check_probes
from dynamo.population.recording import evaluating, run
from dynamo.system.devices import device_of, fast_products
from dynamo.system.progress import Progress, silent
from dynamo.training.emulator import Emulator

if TYPE_CHECKING:
    from dynamo.fit.fit import Fit

Matrix = NDArray[np.float64]

#: Numbers of states that a block holds at a time, over all emulators.
BLOCK = 2**24

#: Sequences or images that go through the meta-model in one pass.
PASS = 2048

#: Up to so many emulators their squared distances are computed exactly; of more, from a random projection.
EXACT = 256

#: Dimensions of the random projection.
PROJECTED = 4096


@torch.no_grad()
def emulate(fit: "Fit", theta: Tensor | Sequence[float] | str, inputs: Any, head: str | None = None) -> Trajectory:
    """What the meta-model does at one θ; see :meth:`dynamo.Fit.emulate`."""
    model = fit.model_at(theta, head)
    space = fit.emulator.blueprint.inputs
    inputs = inputs if isinstance(inputs, Inputs) else as_inputs(space, inputs, like=model.theta)
    check_probes(inputs, space, "inputs")
    if inputs.values.is_floating_point():
        inputs = inputs.with_values(inputs.values.to(model.theta.dtype))
    run_at = run(model, inputs.to("cpu"))
    if not isinstance(theta, str):
        return run_at
    return attrs.evolve(run_at, states=tuple(as_base(fit.emulator, fit.names.index(theta), run_at.states)))


def as_base(emulator: Emulator, number: int, states: Sequence[Tensor]) -> Iterator[Tensor]:
    """V_n(h) at each site of a base model, on the CPU, from the meta-model's states at its sites."""
    for state_map, read in zip(emulator.maps_of(number), emulator.reading_of(number)(states), strict=True):
        found: Tensor = state_map(read.to(next(state_map.parameters(), read).device)).cpu()
        yield found


@attrs.frozen(eq=False)
class Block:
    """What all emulators do on some of the inputs.

    Attributes:
        meta_model: what was run.
        states: at each site, ``[N, B, T, *S]``.
        weights: of each step, ``[B, T]``: 0 where it is padding; over all blocks they sum to 1, and every example has
            the same share (as in equations 1 and 2).
    """

    meta_model: MetaModel
    states: tuple[Tensor, ...]
    weights: Tensor

    __repr__ = brief

    @property
    @torch.no_grad()
    def features(self) -> Tensor:
        """What heads read, ``[N, B, T, F]``."""
        device = device_of(self.meta_model)
        found = self.meta_model.features(tuple(state.flatten(0, 1).to(device) for state in self.states)).cpu()
        return found.reshape(*self.states[0].shape[:2], *found.shape[1:])

    @property
    def real_weights(self) -> Tensor:
        """Of the real steps, ``[P]``."""
        return self.weights[self.weights > 0]

    def real(self, values: Tensor) -> Tensor:
        """What stands on real steps: ``[N, B, T, ...] -> [N, P, ...]``."""
        real = self.weights > 0
        return values.flatten(1, 2) if bool(real.all()) else values[:, real]


@attrs.frozen(eq=False)
class Emulated:
    """The emulators at some places of a map, on some inputs.

    Attributes:
        emulator: meta-model, heads and state maps.
        thetas: the places, ``[N, d]``.
        probes: the inputs.
        names: of the places, for messages.
        projection: dimensions of the random projection; 0 computes exactly; None decides by N, see :data:`EXACT`.
        seed: of the projection.
        progress: called with (inputs done, inputs).
        reference: so many of the places, from the first on, set the units of distances; None for all.
        kept: what they do, where they have been run already, see :meth:`run_once`.
    """

    emulator: Emulator
    thetas: Tensor
    probes: Inputs
    names: Sequence[str]
    projection: int | None = None
    seed: int = 0
    progress: Progress = silent
    reference: int | None = None
    kept: Sequence[Block] | None = None

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.thetas)

    @property
    def dimensions(self) -> int:
        """Of the random projection; 0 where there is none."""
        if self.projection is None:
            return PROJECTED if self.setting_units > EXACT else 0
        return self.projection

    @property
    def setting_units(self) -> int:
        """How many of the places set the units."""
        return len(self) if self.reference is None else self.reference

    @property
    def _examples_at_a_time(self) -> int:
        """How many inputs a block holds."""
        sizes = sum(int(np.prod(shape)) for shape in self.emulator.meta_model.state_shapes)
        return max(1, min(PASS, BLOCK // max(1, sizes * self.probes.mask.shape[1] * len(self))))

    def run_once(self) -> "Emulated":
        """The same, for several questions: where one block holds all that they do, they are run now and not again."""
        is_one = self.kept is None and len(self.probes) <= self._examples_at_a_time
        return attrs.evolve(self, kept=list(self.blocks())) if is_one else self

    def blocks(self) -> Iterator[Block]:
        """What every emulator does on all inputs, some inputs at a time.

        Raises:
            DynamoError: states that are not finite.
        """
        return self._run() if self.kept is None else iter(self.kept)

    @torch.no_grad()
    def _run(self) -> Iterator[Block]:
        """Run them: one pass each, several of them and some inputs at a time."""
        model, probes = self.emulator.meta_model, self.probes
        device = device_of(self.emulator)
        count = self._examples_at_a_time
        thetas = self.thetas.to(device=device, dtype=self.emulator.thetas[0].dtype)
        for start in range(0, len(probes), count):
            part = probes[start : start + count]
            part = Inputs(part.values[:, : part.longest], part.mask[:, : part.longest]) if part.is_sequence else part
            with evaluating(model), fast_products(device):
                passes = [self._pass(part.to(device), some) for some in torch.split(thetas, max(1, PASS // len(part)))]
            states = tuple(torch.cat(tensors) for tensors in zip(*passes, strict=True))
            self._check_finite(part, states)
            weights = part.mask / part.mask.sum(1, keepdim=True) / len(probes)
            yield Block(model, states, weights)
            self.progress(min(start + count, len(probes)), len(probes))

    def _pass(self, inputs: Inputs, thetas: Tensor) -> list[Tensor]:
        """The states of some emulators, ``[N', B, T, *S]`` at each site, on the CPU."""
        n, b = len(thetas), len(inputs)
        every = Inputs(inputs.values.repeat(n, *[1] * (inputs.values.ndim - 1)), inputs.mask.repeat(n, 1))
        states = self.emulator.meta_model.states(every, thetas.repeat_interleave(b, 0))
        return [state.reshape(n, b, *state.shape[1:]).cpu() for state in states]

    def _check_finite(self, part: Inputs, states: Sequence[Tensor]) -> None:
        for state in states:
            sums = state.flatten(3).sum(-1).masked_fill(~part.mask, 0).sum((1, 2))
            bad = (~sums.isfinite()).nonzero()
            if len(bad):
                raise DynamoError(
                    f"the emulator of {self.names[int(bad[0])]!r} gives NaN or infinite states: the fit diverged; make "
                    "it again with a lower learning rate"
                )

    def squared(self, read: Callable[[Block], Sequence[Tensor]]) -> tuple[list[Matrix], list[float]]:
        """The mean squared difference of what every two emulators do, over real steps and examples.

        Args:
            read: what is compared, from a block: a tensor ``[N, B, T, ...]`` for each site; N may be another number.

        Returns:
            For each site the squared distances ``[N, N]``, and the variance over those emulators that set the units,
            examples and steps.
        """
        sites: list[_Site] = []
        for block in self.blocks():
            found = read(block)
            sites = sites or [_Site(self._sums(site, len(values)), self.reference) for site, values in enumerate(found)]
            for site, values in zip(sites, found, strict=True):
                site.add(block.real(values).flatten(2), block.real_weights)
        return [site.squared() for site in sites], [site.variance() for site in sites]

    def _sums(self, site: int, rows: int) -> "_Sums":
        if self.dimensions:
            return _Projected(rows, self.dimensions, torch.Generator().manual_seed(self.seed + site))
        return _Exact(rows)


class _Sums(Protocol):
    """Collects the rows of N emulators, more and more columns, for the squared distances of the whole rows."""

    def add(self, rows: Tensor) -> None:
        """Further columns ``[N, D]``."""

    def gram(self) -> Matrix:
        """The products of all pairs of rows, ``[N, N]``."""


class _Exact:
    """Adds up the products of rows."""

    def __init__(self, count: int) -> None:
        self._gram = torch.zeros(count, count, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        rows = rows.double()
        self._gram.addmm_(rows, rows.T)

    def gram(self) -> Matrix:
        return cast(Matrix, self._gram.numpy())


class _Projected:
    """Keeps a random projection of the rows: each column is added, with a random sign, to one of r at random (M.
    Charikar, K. Chen and M. Farach-Colton, 2002, count sketch). The squared distances of what is kept are unbiased with
    a relative standard deviation of at most √(2/r).
    """

    def __init__(self, count: int, dimensions: int, generator: torch.Generator) -> None:
        self._kept = torch.zeros(count, dimensions, dtype=torch.float64)
        self._generator = generator

    def add(self, rows: Tensor) -> None:
        columns, dimensions = rows.shape[1], self._kept.shape[1]
        signs = torch.randint(2, (columns,), generator=self._generator).to(rows.dtype) * 2 - 1
        places = torch.randint(dimensions, (columns,), generator=self._generator)
        some = torch.zeros(dimensions, len(rows), dtype=rows.dtype).index_add_(0, places, (rows * signs).T)
        self._kept += some.T

    def gram(self) -> Matrix:
        return cast(Matrix, (self._kept @ self._kept.T).numpy())


@attrs.define(eq=False)
class _Site:
    """One site's sums."""

    sums: _Sums
    reference: int | None
    _mean: Tensor | None = None
    _square: float = 0.0

    def add(self, rows: Tensor, weights: Tensor) -> None:
        """Rows ``[N, P, D]`` with the weights ``[P]`` of their steps."""
        # What all emulators have in common cancels out in differences, and would cost digits.
        common, roots = rows[: self.reference].mean(0), weights.sqrt()[:, None]
        apart = (rows - common).mul_(roots).flatten(1)
        mean = (weights @ common).double()
        self._mean = mean if self._mean is None else self._mean + mean
        self._square += float(
            (common * roots).double().square().sum() + apart[: self.reference].square().sum(1).double().mean()
        )
        self.sums.add(apart)

    def squared(self) -> Matrix:
        gram = self.sums.gram()
        sizes = np.diag(gram)
        found = np.maximum(sizes[:, None] + sizes - gram - gram.T, 0.0)
        np.fill_diagonal(found, 0.0)
        return cast(Matrix, found)

    def variance(self) -> float:
        assert self._mean is not None
        return max(0.0, self._square - float(self._mean.square().sum()))
