"""How base models are trained, a meta-model is fitted and new models are put on its map: the options, and the
divergences that they give each base model.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import attrs

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.options import Spec, at_least, fraction, option, positive, seed
from dynamo.registry import make

if TYPE_CHECKING:
    from dynamo.contracts.protocols import Divergence
    from dynamo.contracts.spaces import OutputSpace
    from dynamo.population.base_model import BaseModel

AUTO = {"classes": "kl", "real": "l2", "none": "l2"}

#: How a base model's sites are paired with the meta-model's. ``match``: with that of the same number. ``pool``: with
#: the meta-model's states interpolated at the same depth. ``learned``: with a mean of the meta-model's sites whose
#: weights are learnt, a softmax for each site of each base model.
SitesRule = Literal["match", "pool", "learned"]


@attrs.frozen
class BaseTrainingOptions:
    """How base models are trained; the defaults are Table 1 (a vanilla RNN wants learning rate 1e-4 and 50 epochs
    there).
    """

    epochs: int = positive(20, "passes over the training examples", most=10**6)
    batch_size: int = positive(128, "examples in a batch", most=2**20)
    optimizer: Literal["adamw", "sgd"] = option("adamw", "adamw (Table 1), or sgd with Nesterov momentum (Table 2)")
    momentum: float = fraction(0.9, "momentum of sgd")
    learning_rate: float = positive(1e-3, "the learning rate, annealed as cos(2π·7/32·k/K)")
    weight_decay: float = fraction(5e-4, "weight decay")
    augmentation: str = option("none", "how training inputs are changed at random; none = not at all")
    device: str = option("cpu", "where the base models are trained: cpu, cuda, cuda:1, mps")
    clip_norm: float | None = positive(None, "largest norm of a gradient; none = no clipping")


@attrs.frozen
class EmbedOptions:
    """How new models are put on a map. The loss is the fit's own; only its θ and V are sought."""

    steps: int = positive(40, "steps of θ and V together; many more let θ chase what the meta-model cannot imitate")
    map_steps: int = positive(30, "steps of V alone, before and again after")
    batch_size: int = positive(16, "examples of each new model in a step")
    examples: int = positive(512, "probe inputs of each new model that steps draw from, spread evenly over all")
    theta_rate: float = positive(0.15, "AdamW's learning rate of θ, in units of the spread of the fit's thetas")
    map_rate: float = positive(0.5, "AdamW's learning rate of V, in units of the size of its first weights")
    seed: int = option(
        0, "seed of the first state maps and of the batches", check=lambda value: value >= 0, rule="at least 0"
    )
    device: str = option("cpu", "where to do it: cpu, cuda, cuda:1, mps")


@attrs.frozen
class FitOptions:
    """How a meta-model is fitted. The defaults are the paper's (section 4, appendix B, Table 1)."""

    meta_model: str = option("gru", "the meta-model F̃, NAME or NAME:OPTION=VALUE,...")
    state_map: str = option("affine", "the state maps V_n")
    sites: Literal["match", "pool", "learned"] = option(
        "match",
        "the meta-model's sites that a base model's are compared with: match (of the same number), pool (interpolated "
        "at the same depth), or learned (a weighted mean)",
    )
    head: str = option("linear", "the hidden-to-output maps G̃_k")
    head_by: str = option(
        "output", "what base models share a head: output (equal output spaces), all, or a metadata key"
    )
    hidden_divergence: str = option(
        "l2", "distance between hidden states; SELECTOR=NAME;... gives some models their own"
    )
    output_divergence: str = option(
        "auto", "distance between outputs; auto: kl for classes, l2 for real outputs; SELECTOR=NAME;... as above"
    )
    theta_dim: int = positive(16, "d, the size of a model embedding", most=2**16)
    output_steps: Literal["all", "readout"] = option(
        "all",
        "the steps whose outputs count in the output loss: all (equation 1), or the readout step, which is the last "
        "one of models that answer there",
    )
    output_weight: float = at_least(0, 1.0, "λ, the weight of the output loss")
    block_outputs: bool = option(
        False, "count the states themselves, without V_n, among the outputs: b_t of equation 5; needs equal shapes"
    )
    scale_hidden: bool = option(
        False,
        "divide the hidden loss at each site by the variance of the states there (the paper does not)",
    )
    models_per_step: int | None = positive(
        1, "K base models in each batch, drawn uniformly; 1 is Algorithm 1; none = all", most=2**20
    )
    batch_size: int = positive(128, "examples in each batch, over all its base models", most=2**20)
    epochs: float = positive(100.0, "how often each base model's data is seen, in the mean", most=1e6)
    steps: int | None = positive(None, "optimiser steps; none = as many as the epochs need", most=10**8)
    until: Literal["steps", "converged"] = option(
        "steps", "take all steps, or end where the loss hardly falls any more; steps are then the most that are taken"
    )
    learning_rate: float = positive(1e-3, "the learning rate, annealed as cos(2π·7/32·k/K)")
    theta_learning_rate: float | None = positive(None, "the learning rate of the thetas; none = the same")
    optimizer: Literal["adamw", "sgd", "muon"] = option(
        "adamw",
        "adamw (Table 1), sgd with Nesterov momentum (Table 2), or muon: orthogonalised momentum for matrices, adamw "
        "for all else",
    )
    momentum: float = fraction(0.9, "momentum of sgd")
    beta1: float = fraction(0.9, "AdamW's first β")
    beta2: float = fraction(0.999, "AdamW's second β")
    epsilon: float = positive(1e-8, "AdamW's ε")
    weight_decay: float = fraction(1e-4, "weight decay")
    seed: int = seed("seed of the initial weights and of the sampling")
    device: str = option("cpu", "where the meta-model is trained: cpu, cuda, cuda:1, mps")
    precision: Literal["float32", "bfloat16"] = option("float32", "bfloat16 = autocast of the meta-model's passes")
    channels_last: bool = option(False, "keep the weights and images of convolutions with channels last in memory")
    recording: Literal["memory", "device", "disk", "live"] = option(
        "memory",
        "base models' trajectories: made once, kept in memory, on the device or on disk, or live: run on every batch",
    )
    recording_precision: Literal["float32", "float16"] = option(
        "float32", "of recorded states; float16 halves the room they take"
    )
    recording_cache: str | None = option(
        None,
        "a folder of recordings that fits of the same models have in common, so that each is made once; none = none",
    )
    recording_cache_size: float = positive(10.0, "the most GiB in that folder; what was not used for longest gives way")
    augmentation: str = option(
        "none", "how the inputs of a batch are changed at random; needs recording live; none = not at all"
    )
    checkpoint_every: int = positive(500, "steps between checkpoints", most=10**8)

    def __attrs_post_init__(self) -> None:
        if self.block_outputs and self.sites != "match":
            raise DynamoError(
                "block_outputs compares the states of both models as they are, site by site: leave it out, or set "
                "sites to match"
            )
        if self.recording_cache is not None and self.recording == "live":
            raise DynamoError("live models are not recorded: leave recording_cache out, or set recording to memory")
        if self.augmentation != "none" and self.recording != "live":
            raise DynamoError(
                f"recordings are made once, so their inputs cannot be augmented with {self.augmentation!r}: set "
                "recording to live, or leave augmentation out"
            )


def choose(text: str, selectors: Sequence[str]) -> str | None:
    """The spec that ``NAME`` or ``SELECTOR=NAME; ...`` gives for one of ``selectors``, tried in their order.

    >>> choose("l2; digits=l1:reduction=mean", ["digits"])
    'l1:reduction=mean'
    """
    chosen: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)=(.+)", part)
        chosen["" if match is None else match[1]] = part if match is None else match[2]
    return next((chosen[selector] for selector in (*selectors, "") if selector in chosen), None)


def hidden_divergence(options: FitOptions, name: str, group: str) -> "Divergence":
    """The divergence that the options give for the hidden states of a base model.

    Raises:
        DynamoError: it does not compare states.
    """
    return _divergence(options.hidden_divergence, name, group, "states", "l2")


def _divergence(text: str, name: str, group: str, domain: str, default: str) -> "Divergence":
    from dynamo.contracts.protocols import Divergence

    spec = choose(text, [name, group])
    spec = default if spec in (None, "auto") else spec
    divergence = make("divergence", Spec.of(spec), Divergence)
    if divergence.domain not in (domain, "any"):
        raise DynamoError(
            f"the divergence {str(spec)!r} compares {divergence.domain}; "
            f"it cannot compare the {domain} of model {name!r}"
        )
    return divergence


def output_divergence(options: FitOptions, name: str, group: str, outputs: "OutputSpace") -> "Divergence":
    """The divergence that the options give for the outputs of a base model."""
    domain = "logits" if outputs.kind == "classes" else "states"
    return _divergence(options.output_divergence, name, group, domain, AUTO[outputs.kind])


def divergence_texts(options: FitOptions, name: str, group: str) -> tuple[str, str]:
    """What the options say of a base model's two divergences; models with equal texts and outputs have equal ones."""
    hidden, output = (choose(text, [name, group]) for text in (options.hidden_divergence, options.output_divergence))
    return hidden or "", output or ""


def head_group(base: "BaseModel", head_by: str) -> str:
    """The group whose head serves a base model.

    Raises:
        DynamoError: ``head_by`` is metadata that the model lacks.
    """
    if head_by == "all":
        return "shared"
    if head_by == "output":
        space = base.outputs
        return space.group
    if head_by not in base.metadata:
        raise DynamoError(
            f"head_by names the metadata {head_by!r}, which model {base.name!r} lacks: it has "
            f"{', '.join(sorted(base.metadata)) or 'none'}"
        )
    return str(base.metadata[head_by])
