"""How does a recurrent model move near a state? Its Jacobians at constant input, their eigenvalues and modes.

D. Sussillo and O. Barak, 2013, Opening the Black Box; N. Maheswaranathan et al., 2019, Reverse engineering recurrent
networks for sentiment classification reveals line attractor dynamics.
"""

from functools import cached_property

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dynamo.analysis.arrays import Floats
from dynamo.analysis.dynamics.constant_input import ConstantInput
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.shown import brief

Complexes = NDArray[np.complex128]

#: Eigenvalues whose modulus is nearer to 1 than this are neither stable nor unstable.
MARGIN = 1e-6


@attrs.frozen(eq=False)
class Linearisation:
    """The map at constant input near some states h: F(x + δx, h + δh) ≈ F(x, h) + B δx + J δh.

    Modes are numbered by falling modulus of their eigenvalue: mode 0 is the slowest to fade or the fastest to grow. All
    tensors are in double precision, on the CPU.

    Attributes:
        x: the constant input, ``[E]``.
        states: the states h, ``[P, H]``.
        outputs: G(h), what is read out there, ``[P, K]``.
        jacobian: J = ∂F/∂h, ``[P, H, H]``.
        input_jacobian: B = ∂F/∂x, ``[P, H, E]``.
        eigenvalues: of J, complex ``[P, H]``; of a conjugate pair the one with positive imaginary part comes first.
        right: right eigenvectors as columns, of length 1, complex ``[P, H, H]``: J r = λ r.
        left: left eigenvectors as rows, complex ``[P, H, H]``: l J = λ l. They are scaled so that l r = 1 for the two
            of one mode, or to length 1 where that cannot be (a Jacobian that cannot be diagonalised).
    """

    x: Tensor
    states: Tensor
    outputs: Tensor
    jacobian: Tensor
    input_jacobian: Tensor
    eigenvalues: Tensor
    right: Tensor
    left: Tensor

    __repr__ = brief

    @property
    def time_constants(self) -> Tensor:
        """−1 / ln |λ| of each mode in steps, ``[P, H]``: how long it takes to fade to 1/e.

        0 for λ = 0, infinite for |λ| = 1, negative where the mode grows.
        """
        rates = self.eigenvalues.abs().log()
        return torch.where(rates == 0, torch.inf, -1 / rates)

    @property
    def unstable(self) -> Tensor:
        """How many directions grow, |λ| > 1, ``[P]``: the index of a saddle."""
        return (self.eigenvalues.abs() > 1 + MARGIN).sum(1)

    @property
    def marginal(self) -> Tensor:
        """How many directions neither grow nor fade, |λ| = 1 to within :data:`MARGIN`, ``[P]``: 1 on a line of fixed
        points.
        """
        return ((self.eigenvalues.abs() - 1).abs() <= MARGIN).sum(1)

    @property
    def is_stable(self) -> Tensor:
        """Whether all directions fade, ``[P]``."""
        return self.unstable + self.marginal == 0

    @cached_property
    def input_sensitivity(self) -> Tensor:
        """‖l B‖: how far along its eigenvector of length 1 each mode is moved by an input of length 1, ``[P, H]``."""
        moved = self.left @ self.input_jacobian.to(self.left.dtype)
        return moved.abs().square().sum(2).sqrt()


def linearise(model: DynamicalModel, x: Tensor | ArrayLike, states: Tensor | ArrayLike) -> Linearisation:
    """Linearise a recurrent model at constant input.

    Args:
        model: a base model, a meta-model held at one θ, or any other recurrent model; it is left as it is.
        x: the constant input ``[E]``, as ``encode`` gives it.
        states: where, ``[P, H]``.

    Raises:
        DynamoError: a model without ``step``, an x or states of the wrong shape, or Jacobians that are not finite.

    Example:
        >>> near = linearise(population[0].model, torch.zeros(8), torch.zeros(1, 8))
        >>> near.eigenvalues.shape
        torch.Size([1, 8])
    """
    dynamics = ConstantInput(model, x)
    h = dynamics.states(states)
    jacobian, input_jacobian = (part.cpu() for part in dynamics.jacobians(h))
    if not bool(jacobian.isfinite().all() and input_jacobian.isfinite().all()):
        raise DynamoError("the Jacobian is not finite at some of the states: leave out those where the model overflows")
    modes = [_modes(one) for one in jacobian.numpy()]
    values, right, left = (torch.from_numpy(np.stack(part)) for part in zip(*modes, strict=True))
    outputs = dynamics.readout(h)
    return Linearisation(
        x=dynamics.x.cpu(),
        states=h.cpu(),
        outputs=outputs.cpu(),
        jacobian=jacobian,
        input_jacobian=input_jacobian,
        eigenvalues=values,
        right=right,
        left=left,
    )


def _modes(matrix: Floats) -> tuple[Complexes, Complexes, Complexes]:
    """Eigenvalues in order, right eigenvectors as columns, left ones as rows; see :class:`Linearisation`."""
    from scipy.linalg import eig

    values, left, right = eig(matrix, left=True)
    order = np.lexsort((-values.imag, -np.abs(values).round(12)))
    values, right, left = values[order], right[:, order].astype(np.complex128), left[:, order].conj().T
    overlap = np.einsum("ij,ji->i", left, right)
    return values, right, left / np.where(np.abs(overlap) > 1e-9, overlap, 1.0)[:, None]
