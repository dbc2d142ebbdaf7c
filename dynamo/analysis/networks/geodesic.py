"""The shortest way between two thetas, where distance is how far the meta-model's outputs change.

The map gets the metric that the outputs pull back to it: two thetas are as far apart as the outputs there, in the root
mean square over examples. Outputs for classes are compared as √p, the square roots of the probabilities, whose
distance is √2 times Hellinger's; real outputs as they are. A way of S thetas has the length Σ d_i and the energy
(S − 1) Σ d_i², d_i being the distances between neighbours; the energy is at least the length squared, and equal to it
where all d_i are equal. So the way of least energy is a shortest way at even speed (a geodesic).
"""

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs, at_readout
from dynamo.fit.fit import Fit
from dynamo.system.progress import Progress, silent
from dynamo.training.emulator import ModelAt


@attrs.frozen(eq=False)
class Geodesic:
    """The shortest way between two thetas, and the way that the search started from.

    Attributes:
        thetas: along it, with both ends, ``[S, d]``.
        energy, length: its own.
        line_energy, line_length: of the way at the start.
    """

    thetas: Floats
    energy: float
    length: float
    line_energy: float
    line_length: float

    __repr__ = brief


def geodesic(
    fit: Fit,
    line: Floats,
    inputs: Inputs,
    *,
    head: str | None = None,
    examples: int = 256,
    iterations: int = 30,
    batch_size: int = 4096,
    progress: Progress = silent,
) -> Geodesic:
    """Lower the energy of a way with L-BFGS over its inner thetas; the meta-model and both ends stay as they are.

    Args:
        fit: the emulator.
        line: the way to start from, ``[S, d]``.
        inputs: where the outputs are compared.
        head: the name of the head; needed where there are several.
        examples: how many of the inputs are used, spread evenly over them.
        iterations: of L-BFGS, at most.
        batch_size: pairs of a θ and an example in one pass.
        progress: called with (iterations done, iterations).

    Raises:
        DynamoError: thetas of another size, or a head that is not there or not said.

    Example:
        >>> line = np.linspace(fit.theta[0].numpy(), fit.theta[1].numpy(), 5)
        >>> inputs = population.dataset(population[0]).test.inputs
        >>> result = geodesic(fit, line, inputs, examples=20, iterations=5)
        >>> result.energy <= result.line_energy
        True
    """
    from scipy.optimize import minimize

    model = fit.model_at(line[0].tolist(), head).requires_grad_(False)
    chosen = np.unique(np.linspace(0, len(inputs) - 1, min(examples, len(inputs))).round().astype(int))
    inputs = inputs[torch.from_numpy(chosen)].to(model.theta.device)
    rows = max(1, batch_size // len(line))
    parts = [inputs[start : start + rows] for start in range(0, len(inputs), rows)]

    def squares_and_gradient(thetas: Floats) -> tuple[Floats, Floats]:
        """d_i² between neighbours ``[S - 1]``, and the gradient of the energy ``[S, d]``."""
        moving = torch.tensor(thetas, dtype=model.theta.dtype, device=model.theta.device, requires_grad=True)
        squares = np.zeros(len(line) - 1)
        for part in parts:
            own = _squares(_embedded(model, moving, part), part.mask) / len(inputs)
            ((len(line) - 1) * own.sum()).backward()  # type: ignore[no-untyped-call]
            squares += own.detach().cpu().double().numpy()
        assert moving.grad is not None
        return squares, moving.grad.cpu().double().numpy()

    def energy_and_gradient(inner: Floats) -> tuple[float, Floats]:
        squares, gradient = squares_and_gradient(_with_ends(inner, line))
        return float((len(line) - 1) * squares.sum()), gradient[1:-1].ravel()

    done = iter(range(1, iterations + 1))
    way = line
    if len(line) > 2:
        settings = {"maxiter": iterations, "ftol": 1e-9}
        result = minimize(
            energy_and_gradient,
            line[1:-1].ravel(),
            jac=True,
            method="L-BFGS-B",
            options=settings,
            callback=lambda inner: progress(next(done), iterations),
        )
        way = _with_ends(result.x, line)
    before, after = squares_and_gradient(line)[0], squares_and_gradient(way)[0]
    if after.sum() > before.sum():  # the search got nowhere: the line is as short as it can tell
        way, after = line, before
    steps = len(line) - 1
    return Geodesic(
        thetas=way,
        energy=float(steps * after.sum()),
        length=float(np.sqrt(after).sum()),
        line_energy=float(steps * before.sum()),
        line_length=float(np.sqrt(before).sum()),
    )


def _with_ends(inner: Floats, line: Floats) -> Floats:
    return np.concatenate([line[:1], inner.reshape(-1, line.shape[1]), line[-1:]])


def _embedded(model: ModelAt, thetas: Tensor, inputs: Inputs) -> Tensor:
    """The outputs at every theta in the space where they are compared: ``[S, B, K]`` or ``[S, B, T, K]``."""
    count = len(thetas)
    repeated = Inputs(
        inputs.values.repeat(count, *[1] * (inputs.values.ndim - 1)),
        inputs.mask.repeat(count, 1),
    )
    states = model.meta_model.states(repeated, thetas.repeat_interleave(len(inputs), dim=0))
    outputs = at_readout(model.head(model.meta_model.features(states)), repeated.mask, model.outputs.readout)
    if model.outputs.kind == "classes":
        outputs = (outputs.log_softmax(-1) / 2).exp()
    return outputs.view(count, len(inputs), *outputs.shape[1:])


def _squares(outputs: Tensor, mask: Tensor) -> Tensor:
    """The squared distances between neighbouring places, summed over examples (in the mean over real steps)."""
    squares = (outputs[1:] - outputs[:-1]).square().sum(-1)
    if squares.ndim == 3:
        squares = squares.masked_fill(~mask, 0).sum(-1) / mask.sum(-1)
    return squares.sum(-1)
