"""The network of a fit as a page can run it: its weights, its words, and some inputs to begin with.

A page runs two kinds of meta-model with a linear head: the GRU that reads [x_t; θ] at every step, and a small residual
network (:mod:`dynamo.report.image_network`). :func:`run` says here what the page does there, step by step; before a
network is handed out it is held to the fit's own emulator.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from dynamo.analysis.arrays import Floats
from dynamo.contracts.errors import printable
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs
from dynamo.fit.fit import Fit
from dynamo.report.image_network import WORK, image_table, image_weights, run_image, work_of

#: The most bytes of weights that a page carries.
ROOM = 2_600_000

#: How far a probability, or an output in units of the outputs' spread, may be from that of the fit itself.
TOLERANCE = 1e-3

#: Inputs that are there to begin with, and the most numbers in one of them.
EXAMPLES, LONGEST = 12, 4096

_NAMES = {
    "rnn.weight_ih_l0": "weight_ih",
    "rnn.weight_hh_l0": "weight_hh",
    "rnn.bias_ih_l0": "bias_ih",
    "rnn.bias_hh_l0": "bias_hh",
    "embedding.weight": "embedding",
}


@attrs.frozen(eq=False)
class Network:
    """The network of a fit for a page.

    Attributes:
        weights: by name, in half or single precision.
        words: those behind the token ids that are kept; empty where they are not known.
        examples: inputs to begin with, as they are typed.
        error: the largest difference from the fit's own outputs, see :data:`TOLERANCE`.
        left_out: words that were left out for want of room.
        table: what else the page must know.
    """

    weights: Mapping[str, NDArray[Any]]
    words: Sequence[str]
    examples: Sequence[str]
    error: float
    left_out: int
    table: Mapping[str, Any]

    __repr__ = brief

    @property
    def bits(self) -> int:
        """Of one weight."""
        return 8 * next(iter(self.weights.values())).itemsize

    @property
    def size(self) -> int:
        """Bytes of the weights, before they are written in base64."""
        return sum(weight.nbytes for weight in self.weights.values())

    def content(self) -> dict[str, Any]:
        """What the page holds of it."""
        whole = b"".join(np.ascontiguousarray(weight).tobytes() for weight in self.weights.values())
        return {
            **self.table,
            "bits": self.bits,
            "layout": [{"name": name, "shape": list(weight.shape)} for name, weight in self.weights.items()],
            "weights": base64.b64encode(whole).decode(),
            "words": [printable(word) for word in self.words],
            "examples": list(self.examples),
        }


def network_of(fit: Fit, words: Sequence[str] = ()) -> Network | str:
    """The network of a fit; where a page cannot run it, a sentence that says why.

    The weights have half precision where that changes no output by more than :data:`TOLERANCE`, else single. Where they
    are too many for :data:`ROOM`, the words with the highest ids, in text data the rarest, are left out.

    Args:
        fit: the fit.
        words: those behind its token ids, where they are known.
    """
    blueprint, space = fit.emulator.blueprint, fit.emulator.blueprint.inputs
    if any(outputs.kind == "none" for _, outputs in blueprint.heads):
        return "The network is not in this page: the systems that it imitates give no answers."
    if blueprint.meta_model.name not in ("gru", "resnet") or blueprint.head.name != "linear":
        return (
            "The network is not in this page: a page runs the meta-models gru and resnet with the head linear, and "
            f"this fit has {blueprint.meta_model.name} with {blueprint.head.name}."
        )
    exact, probes = _weights(fit), _some(fit.probes, EXAMPLES)
    if exact is None:
        return "The network is not in this page: its weights are not those of a plain GRU, or of a small ResNet."
    table = _table(fit, exact, probes)
    if space.kind == "image" and (work := work_of(exact, table)) > WORK:
        return (
            f"The network is not in this page: an image takes it {work:,} multiplications, and {WORK:,} are the most."
        )
    for kind in ("<f2", "<f4"):
        with np.errstate(over="ignore"):  # what half precision cannot hold is seen in the error
            weights = {name: weight.astype(kind) for name, weight in exact.items()}
        kept, left_out = _within_room(weights)
        if not kept:
            return (
                f"The network is not in this page: its weights take {sum(w.nbytes for w in weights.values()):,} bytes "
                f"even without words, and {ROOM:,} are the most."
            )
        error = _error(fit, kept, table, probes)
        if error <= TOLERANCE:
            size = len(kept["embedding"]) if "embedding" in kept else table["size"]
            known = list(words)[:size] if len(words) == space.size else []
            return Network(kept, known, _examples(probes, known, size), error, left_out, {**table, "size": size})
    return "The network is not in this page: what a page would run differs from the fit's own emulator."


def asked_of(fit: Fit, words: Sequence[str] = ()) -> dict[str, Any]:
    """What a page must know of a fit to ask its network, wherever that runs: kinds of inputs and of outputs, the words
    behind token ids, and inputs to begin with.

    Args:
        fit: the fit.
        words: those behind its token ids, where they are known.
    """
    space, probes = fit.emulator.blueprint.inputs, _some(fit.probes, EXAMPLES)
    known = list(words) if len(words) == space.size else []
    shown = {"words": [printable(word) for word in known], "examples": _examples(probes, known, space.size)}
    return {**_asked(fit, probes), **shown}


def _asked(fit: Fit, probes: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """The kinds of inputs and outputs, and the range of what can be painted."""
    blueprint, space = fit.emulator.blueprint, fit.emulator.blueprint.inputs
    heads = [
        {"name": printable(name), "kind": outputs.kind, "readout": outputs.readout} for name, outputs in blueprint.heads
    ]
    table: dict[str, Any] = {"kind": space.kind, "heads": heads}
    if space.kind == "image":
        low, high = (float(f"{bound(probes):.4g}") for bound in (_least, _greatest))
        return {**table, "shape": list(space.shape), "size": space.shape[2], "paint": True, "low": low, "high": high}
    grey = space.kind == "real" and _is_grey(probes, space.size)
    return {**table, "size": space.size, "paint": grey, "low": 0.0, "high": 1.0}


def _table(fit: Fit, weights: Mapping[str, NDArray[Any]], probes: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """What the page must know beside weights, words and examples."""
    blueprint, table = fit.emulator.blueprint, _asked(fit, probes)
    if blueprint.inputs.kind == "image":
        return {**table, **image_table(fit, weights)}
    sizes = {"hidden": weights["weight_hh"].shape[1], "entering": weights["weight_ih"].shape[1] - blueprint.theta_dim}
    return {**table, **sizes}


def run(weights: Mapping[str, NDArray[Any]], theta: Floats, steps: NDArray[Any], head: int = 0) -> NDArray[np.float64]:
    """The outputs ``[T, K]`` after each step, as the page computes them.

    Args:
        weights: of a :class:`Network`.
        theta: ``[d]``.
        steps: token ids ``[T]``, or real vectors ``[T, F]``.
        head: its number.
    """
    own = {name: weight.astype(np.float64) for name, weight in weights.items()}
    entering = own["embedding"][steps] if "embedding" in own else np.asarray(steps, dtype=np.float64)
    wide, size = entering.shape[1], own["weight_hh"].shape[1]
    from_x = entering @ own["weight_ih"][:, :wide].T + own["weight_ih"][:, wide:] @ theta + own["bias_ih"]
    h, outputs = np.zeros(size), []
    for step in from_x:
        from_h = own["weight_hh"] @ h + own["bias_hh"]
        r, z = 1 / (1 + np.exp(-(step[: 2 * size] + from_h[: 2 * size]).reshape(2, size)))
        n = np.tanh(step[2 * size :] + r * from_h[2 * size :])
        h = (1 - z) * n + z * h
        outputs.append(own[f"head_{head}"] @ h + own[f"head_bias_{head}"])
    return np.array(outputs)


def _weights(fit: Fit) -> dict[str, NDArray[Any]] | None:
    """The weights by the names that the page knows; None where the emulator has others."""
    if fit.emulator.blueprint.inputs.kind == "image":
        weights = image_weights(fit)
    else:
        state = fit.emulator.meta_model.state_dict()
        known = state.keys() <= _NAMES.keys() and all(name in state for name in [*_NAMES][:4])
        weights = (
            {_NAMES[name]: tensor.detach().cpu().float().numpy() for name, tensor in state.items()} if known else None
        )
    if weights is None:
        return None
    for number, head in enumerate(fit.emulator.heads):
        own = head.state_dict()
        if not own.keys() <= {"map.weight", "map.bias"} or "map.weight" not in own:
            return None
        matrix = own["map.weight"].detach().cpu().float()
        weights[f"head_{number}"] = matrix.numpy()
        weights[f"head_bias_{number}"] = own.get("map.bias", torch.zeros(len(matrix))).detach().cpu().float().numpy()
    return weights


def _within_room(weights: dict[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], int]:
    """The weights that fit, and the number of words that are left out for it; none where they do not fit without."""
    spare = sum(weight.nbytes for weight in weights.values()) - ROOM
    if spare <= 0:
        return weights, 0
    words = weights.get("embedding")
    if words is None:
        return {}, 0
    left_out = -(-spare // words[0].nbytes)
    return ({**weights, "embedding": words[:-left_out]}, left_out) if left_out <= len(words) - 2 else ({}, 0)


def _some(probes: Inputs | None, count: int) -> list[NDArray[Any]]:
    """Some of the inputs that a fit has kept, each without its padding."""
    if probes is None:
        return []
    rows = np.unique(np.linspace(0, len(probes) - 1, min(count, len(probes))).round().astype(int)).tolist()
    if probes.values.ndim == 4:  # images
        return [probes.values[row].numpy() for row in rows]
    return [probes.values[row][probes.mask[row]].numpy() for row in rows]


def _least(probes: Sequence[NDArray[Any]]) -> float:
    return min((float(own.min()) for own in probes), default=0.0)


def _greatest(probes: Sequence[NDArray[Any]]) -> float:
    return max((float(own.max()) for own in probes), default=1.0)


def _is_grey(probes: Sequence[NDArray[Any]], size: int) -> bool:
    """Whether inputs look like pictures that are read row by row: values from 0 to 1, all of one length."""
    alike = len({len(steps) for steps in probes}) == 1 and size > 1
    return alike and all(steps.min() >= 0 and steps.max() <= 1 for steps in probes)


def _examples(probes: Sequence[NDArray[Any]], words: Sequence[str], size: int) -> list[str]:
    """The inputs as they are typed: words, ids, or a line of numbers for each step, or row of an image."""
    if probes and probes[0].ndim == 1:
        known = [steps for steps in probes if steps.max(initial=0) < size]
        return [" ".join(printable(words[token]) if words else str(token) for token in steps) for steps in known]
    short = [steps.reshape(-1, steps.shape[-1]) for steps in probes if steps.size <= LONGEST]
    return ["\n".join(" ".join(f"{value:.4g}" for value in step) for step in steps) for steps in short]


@torch.no_grad()
def _error(
    fit: Fit, weights: Mapping[str, NDArray[Any]], table: Mapping[str, Any], probes: Sequence[NDArray[Any]]
) -> float:
    """The largest difference between what a page computes and the fit itself, on some inputs at some thetas. Without
    inputs, on ones that are made up.
    """
    blueprint, worst, given = fit.emulator.blueprint, 0.0, list(probes)
    if "embedding" in weights:  # words may have been left out
        given = [own[own < len(weights["embedding"])] for own in given]
    given = [own for own in given if len(own)] or _made_up(fit)
    numbers = np.unique(np.linspace(0, len(fit.names) - 1, 8).round().astype(int)).tolist()
    for number in numbers:
        head = blueprint.subjects[number].head
        model, theta = fit.emulator.model_at(fit.emulator.thetas[number], head), fit.theta[number].double().numpy()
        space = blueprint.heads[head][1]
        for own in given:
            steps = 1 if blueprint.inputs.kind == "image" else len(own)
            inputs = Inputs(torch.from_numpy(own)[None], torch.ones(1, steps, dtype=torch.bool))
            wanted = model.trajectory(inputs).outputs[0].double()
            if blueprint.inputs.kind == "image":
                found = torch.from_numpy(run_image(weights, table["blocks"], theta, own, head))
            else:
                found = torch.from_numpy(run(weights, theta, own, head))
            if space.kind == "classes":
                apart = (wanted.softmax(-1) - found.softmax(-1)).abs()
            else:
                apart = (wanted - found).abs() / max(float(wanted.std(unbiased=False)), 1.0)
            worst = max(worst, float(apart.max())) if bool(apart.isfinite().all()) else float("inf")
    return worst


def _made_up(fit: Fit) -> list[NDArray[Any]]:
    space, generator = fit.emulator.blueprint.inputs, np.random.default_rng(0)
    if space.kind == "image":
        return [generator.standard_normal(space.shape).astype(np.float32)]
    if space.kind == "tokens":
        return [generator.integers(min(space.size, 2), size=6)]
    return [generator.standard_normal((6, space.size)).astype(np.float32)]
