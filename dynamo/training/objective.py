"""The objective: equations 1 to 7, one function each.

For sequences the means run over real steps (equations 1 and 2), for blocks as time over sites with one step each
(equations 5 and 6); see :mod:`dynamo.contracts.trajectory`. Equations 4 and 7 are the mean of :func:`model_loss` over
models.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from dynamo.contracts.protocols import Divergence, Head, StateMap
from dynamo.contracts.spaces import Readout
from dynamo.contracts.trajectory import Trajectory, send


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over a batch of each example's mean over its real steps: 1/B Σ_b 1/T_b Σ_t.

    Args:
        values: ``[B, T]``; what stands on padded steps is ignored, whatever it is.
        mask: ``[B, T]``, True on real steps, at least one per example.
    """
    return _over_time(values, mask).mean()


def _over_time(values: Tensor, mask: Tensor) -> Tensor:
    """Each example's mean over its real steps, ``[B]``."""
    return values.masked_fill(~mask, 0).sum(1) / mask.sum(1)


def readout_mask(mask: Tensor, readout: Readout) -> Tensor:
    """The steps whose outputs answer the task, ``[B, T]``: all real ones, or the last of them alone.

    Args:
        mask: ``[B, T]``, True on real steps, at least one per example; it may have holes.
        readout: ``every`` or ``last``.
    """
    if readout == "every":
        return mask
    steps = torch.arange(mask.shape[1], device=mask.device)
    return steps == (mask * steps).amax(1, keepdim=True)


def output_loss(divergence: Divergence, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Equation 1: 1/T Σ_t d(G̃(h_θ,t), G(h_t)), averaged over the batch. Outputs are ``[B, T, K]``."""
    return masked_mean(divergence(prediction, target), mask)


def hidden_loss(
    divergence: Divergence,
    state_maps: Iterable[StateMap],
    meta_states: Sequence[Tensor],
    base_states: Sequence[Tensor],
    mask: Tensor,
    scales: Sequence[float] | None = None,
) -> Tensor:
    """Equations 2 and 6: 1/T Σ_t ‖V(h_θ,t) − h_t‖², averaged over the batch and over sites.

    Args:
        divergence: squared L2 in the paper; any divergence between states.
        state_maps: V_n at each site.
        meta_states: the meta-model's states at each site, ``[B, T, *S]``.
        base_states: the base model's.
        mask: ``[B, T]``.
        scales: what each site's loss is divided by; nothing in the paper. With the variance of the states at the site,
            squared L2 becomes 1 − R², and models and sites with small and large states count alike.
    """
    sites = [
        masked_mean(divergence(state_map(meta).flatten(2), base.flatten(2)), mask)
        for state_map, meta, base in zip(state_maps, meta_states, base_states, strict=True)
    ]
    if scales is not None:
        sites = [site / scale for site, scale in zip(sites, scales, strict=True)]
    return torch.stack(sites).mean()


def block_output_loss(
    divergence: Divergence, meta_states: Sequence[Tensor], base_states: Sequence[Tensor], mask: Tensor, outputs: Tensor
) -> Tensor:
    """Equation 5: 1/B Σ_t d(b_θ,t, b_t). The b_t are what the sites give, compared as they are, and the outputs.

    Args:
        divergence: d between the states of one site and shape.
        meta_states: the meta-model's states at each site, ``[B, T, *S]``.
        base_states: the base model's, of the same shapes.
        mask: ``[B, T]``.
        outputs: the output loss of equation 1, which is the last term.
    """
    sites = [
        masked_mean(divergence(meta.flatten(2), base.flatten(2)), mask)
        for meta, base in zip(meta_states, base_states, strict=True)
    ]
    return torch.stack([*sites, outputs]).mean()


def losses_together(
    divergences: tuple[Divergence, Divergence],
    state_maps: Sequence[Sequence[StateMap]],
    head: Head,
    meta_states: Sequence[Tensor],
    features: Tensor,
    bases: Trajectory,
    sizes: Sequence[int],
    scales: Sequence[Sequence[float] | None],
    block_outputs: bool = False,
    readout: Readout = "every",
) -> tuple[Tensor, Tensor]:
    """The hidden and the output losses of several models that share a head, their divergences and the shapes of their
    states, ``[K]`` each: what :func:`hidden_loss`, :func:`output_loss` and :func:`block_output_loss` give one by one.

    Args:
        divergences: between states, and between outputs.
        state_maps: V_n at each site, for each model.
        head: G̃.
        meta_states: the meta-model's states at each site, for the models' examples one after the other.
        features: what the head reads, for the same examples.
        bases: what the base models give on these examples, with as many steps.
        sizes: how many examples each model has.
        scales: see :func:`hidden_loss`; for every model or for none.
        block_outputs: whether the output losses are those of equation 5.
        readout: the steps whose outputs count: all (equation 1), or the last real one of each example.
    """
    hidden_divergence, output_divergence = divergences

    def means(values: Tensor, mask: Tensor = bases.mask) -> Tensor:
        rows = _over_time(values, mask)
        if len(set(sizes)) == 1:
            return rows.view(len(sizes), -1).mean(1)
        return torch.stack([part.mean() for part in torch.split(rows, list(sizes))])

    answering = readout_mask(bases.mask, readout)
    hidden, outputs = [], [means(output_divergence(head(features), bases.outputs), answering)]
    for site, (states, wanted) in enumerate(zip(meta_states, bases.states, strict=True)):
        mapped = _mapped([maps[site] for maps in state_maps], states, sizes)
        hidden.append(means(hidden_divergence(mapped.flatten(2), wanted.flatten(2))))
        if block_outputs:
            outputs.append(means(hidden_divergence(states.flatten(2), wanted.flatten(2))))
    losses = torch.stack(hidden, dim=1)
    if scales[0] is not None:
        losses = losses / send(torch.tensor(scales, dtype=losses.dtype), losses.device)
    return losses.mean(1), torch.stack(outputs).mean(0)


def _mapped(state_maps: Sequence[StateMap], states: Tensor, sizes: Sequence[int]) -> Tensor:
    """Each model's V_n on its examples: in one go where all have as many and their maps are of one kind."""
    if len(set(sizes)) == 1 and len(set(map(type, state_maps))) == 1:
        alike = states.view(len(sizes), -1, *states.shape[1:])
        return type(state_maps[0]).map_together(state_maps, alike).flatten(0, 1)
    parts = zip(state_maps, torch.split(states, list(sizes)), strict=True)
    return torch.cat([state_map(part) for state_map, part in parts])


def model_loss(hidden: Tensor, output: Tensor, output_weight: float) -> Tensor:
    """Equation 3: L_hidden + λ L_output for one model, or for each of several."""
    return hidden + output_weight * output


def population_loss(losses: Tensor) -> Tensor:
    """Equations 4 and 7: the mean of the models' losses ``[N]``."""
    return losses.mean()
