"""The objective: equations 1 to 7, one function each.

For sequences the means run over real steps (equations 1 and 2), for blocks as time over sites with one step each
(equations 5 and 6); see :mod:`dynamo.trajectory`. Equations 4 and 7 are the mean of :func:`model_loss` over models.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from dynamo.protocols import Divergence, StateMap


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over a batch of each example's mean over its real steps: 1/B Σ_b 1/T_b Σ_t.

    Args:
        values: ``[B, T]``; what stands on padded steps is ignored, whatever it is.
        mask: ``[B, T]``, True on real steps, at least one per example.
    """
    return (values.masked_fill(~mask, 0).sum(1) / mask.sum(1)).mean()


def output_loss(divergence: Divergence, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Equation 1: 1/T Σ_t d(G̃(h_θ,t), G(h_t)), averaged over the batch. Outputs are ``[B, T, K]``."""
    return masked_mean(divergence(prediction, target), mask)


def hidden_loss(
    divergence: Divergence,
    state_maps: Iterable[StateMap],
    meta_states: Sequence[Tensor],
    base_states: Sequence[Tensor],
    mask: Tensor,
) -> Tensor:
    """Equations 2 and 6: 1/T Σ_t ‖V(h_θ,t) − h_t‖², averaged over the batch and over sites.

    Args:
        divergence: squared L2 in the paper; any divergence between states.
        state_maps: V_n at each site.
        meta_states: the meta-model's states at each site, ``[B, T, *S]``.
        base_states: the base model's.
        mask: ``[B, T]``.
    """
    sites = [
        masked_mean(divergence(state_map(meta).flatten(2), base.flatten(2)), mask)
        for state_map, meta, base in zip(state_maps, meta_states, base_states, strict=True)
    ]
    return torch.stack(sites).mean()


def model_loss(hidden: Tensor, output: Tensor, output_weight: float, hidden_scale: float = 1.0) -> Tensor:
    """Equation 3: L_hidden + λ L_output for one model.

    ``hidden_scale`` divides the hidden loss; 1 is the paper. With the variance of the model's states it becomes 1 −
    R², so that models with small and large states count alike.
    """
    return hidden / hidden_scale + output_weight * output


def population_loss(losses: Sequence[Tensor]) -> Tensor:
    """Equations 4 and 7: the mean of the models' losses."""
    return torch.stack(list(losses)).mean()
