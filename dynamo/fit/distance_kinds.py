"""The kinds of distance between emulators that are known by name."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import cast

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.protocols import Head
from dynamo.contracts.shown import brief
from dynamo.fit.emulated import Block, Emulated, Matrix, as_base
from dynamo.training.emulator import Emulator
from dynamo.training.options import FitOptions, hidden_divergence, output_divergence
from dynamo.training.sites import depth_among

#: Steps on which ``procrustes`` compares clouds of states.
POSITIONS = 1024

#: The least unit of activity in ``combined``.
ACTIVITY = 0.1


@attrs.frozen
class DistanceKind:
    """A way to compare emulators.

    Attributes:
        name: its name.
        help: what it is, in a line.
        measure: the distances ``[N, N]``, from the emulators on their probes and the options of the fit.
        is_metric: whether the triangle inequality holds.
        cost: the order of the work beside one pass of the meta-model for each model, in N models, P steps of probes,
            and H units of the meta-model.
        needs_probes: whether the emulators are run.
        projects: whether many models are compared by a random projection.
    """

    name: str
    help: str
    measure: Callable[[Emulated, FitOptions], Matrix]
    is_metric: bool
    cost: str
    needs_probes: bool = True
    projects: bool = False

    __repr__ = brief


def kind_named(name: str) -> DistanceKind:
    """A kind by its name.

    Raises:
        DynamoError: there is none of that name.
    """
    if name not in KINDS:
        raise DynamoError(f"no kind of distance is called {name!r}: {did_you_mean(name, KINDS)}")
    return KINDS[name]


def _theta(emulated: Emulated, options: FitOptions) -> Matrix:
    return _euclidean(emulated.thetas.double())


def _euclidean(points: Tensor) -> Matrix:
    return cast(Matrix, torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").numpy())


def _states(emulated: Emulated, options: FitOptions) -> Matrix:
    squared, variances = emulated.squared(lambda block: block.states)
    return _root(np.mean([own / (spread or 1.0) for own, spread in zip(squared, variances, strict=True)], axis=0))


def _root(squared: Matrix) -> Matrix:
    return cast(Matrix, np.sqrt(np.maximum(squared, 0.0)))


def _pullback(emulated: Emulated, options: FitOptions) -> Matrix:
    """√(Δθᵀ G Δθ), G = JᵀJ, J being the derivative of the states with respect to θ at the mean of the thetas, from
    central differences.
    """
    thetas = emulated.thetas.double()
    known = thetas[: emulated.reference]
    centre, dimensions = known.mean(0), thetas.shape[1]
    step = 0.05 * (float((known - centre).square().mean().sqrt()) or 1.0)
    shifts = step * torch.eye(dimensions, dtype=thetas.dtype)
    places = torch.cat([centre + shifts, centre - shifts])
    around = attrs.evolve(
        emulated, thetas=places, names=["the mean of all thetas"] * len(places), projection=0, reference=None, kept=None
    )
    # A row of zeros beside the slopes: the products of slopes follow from their distances to it and to each other.
    squared, _ = around.squared(lambda block: [_slopes(state, step) for state in block.states])
    _, variances = emulated.squared(lambda block: block.states)
    metric = np.zeros((dimensions, dimensions))
    for own, spread in zip(squared, variances, strict=True):
        lengths = own[-1, :-1]
        metric += (lengths[:, None] + lengths - own[:-1, :-1]) / 2 / (spread or 1.0) / len(squared)
    differences = (thetas[:, None] - thetas).numpy()
    return _root(np.einsum("mni,ij,mnj->mn", differences, metric, differences))


def _slopes(states: Tensor, step: float) -> Tensor:
    ahead, behind = states.chunk(2)
    return torch.cat([(ahead - behind) / (2 * step), torch.zeros_like(ahead[:1])])


def _outputs(emulated: Emulated, options: FitOptions) -> Matrix:
    """The root of the mean over heads; every head at every θ, since no head depends on θ."""
    heads = emulated.emulator.blueprint.heads
    total = np.zeros((len(emulated), len(emulated)))
    for block in emulated.blocks():
        for head, (_, space) in zip(emulated.emulator.heads, heads, strict=True):
            compare = _jensen_shannon if space.kind == "classes" else _squares
            total += compare(_answers(cast(Head, head), block), block.real_weights) / len(heads)
    return _root(total)


@torch.no_grad()
def _answers(head: Head, block: Block) -> Tensor:
    """The outputs of all emulators on real steps, ``[N, P, K]``."""
    features = block.real(block.features)
    found: Tensor = head(features.to(next(head.parameters(), features).device))
    return found.cpu()


def _squares(rows: Tensor, weights: Tensor) -> Matrix:
    """Σ_p w_p ‖a_p − b_p‖² of every two rows ``[N, P, K]``."""
    scaled = ((rows - rows.mean(0)).double() * weights.double().sqrt()[:, None]).flatten(1)
    gram = scaled @ scaled.T
    sizes = gram.diagonal()
    return cast(Matrix, (sizes[:, None] + sizes - 2 * gram).numpy())


def _jensen_shannon(rows: Tensor, weights: Tensor) -> Matrix:
    """Σ_p w_p JS(a_p, b_p) in nats of every two rows of logits ``[N, P, K]``; its root is a metric (D. Endres and J.
    Schindelin, 2003, IEEE Transactions on Information Theory 49(7)).
    """
    # Of two alike it is a small difference of entropies: in single precision, rounding alone.
    chances = functional.softmax(rows.double(), dim=-1).clamp_min(1e-30).flatten(1)
    weights = weights.double().repeat_interleave(rows.shape[-1])

    def entropy(chances: Tensor) -> Tensor:
        return -(chances.log().mul_(chances) @ weights)

    own = entropy(chances)
    found = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for number in range(len(rows) - 1):
        middle = entropy((chances[number + 1 :] + chances[number]) / 2)
        found[number, number + 1 :] = middle - (own[number + 1 :] + own[number]) / 2
    return cast(Matrix, (found + found.T).numpy())


def _mapped(emulated: Emulated, options: FitOptions) -> Matrix:
    """√(½(u_mn + u_nm)): u_mn is the share of the variance of V_n(h_n) that V_n(h_m) leaves unexplained, the mean over
    the sites of base model n.
    """
    emulator, count = emulated.emulator, len(emulated)
    sites = [len(emulator.maps_of(number)) for number in range(count)]
    errors, sizes = np.zeros((max(sites), count, count)), np.zeros((max(sites), count))
    means: dict[tuple[int, int], Tensor] = {}
    for block in emulated.blocks():
        weights = block.real_weights
        for site, number, rows in _readings(emulator, block):
            own = rows[number]
            errors[site, :, number] += ((rows - own).square().sum(-1) @ weights).double().numpy()
            sizes[site, number] += float(own.square().sum(-1) @ weights)
            means[site, number] = means.get((site, number), 0) + weights @ own
    for (site, number), mean in means.items():
        errors[site, :, number] /= max(sizes[site, number] - float(mean.square().sum()), 1e-12)
    shares = errors.sum(0) / sites
    return _root((shares + shares.T) / 2)


@torch.no_grad()
def _readings(emulator: Emulator, block: Block) -> Iterator[tuple[int, int, Tensor]]:
    """For every model n and each of its sites what V_n makes of all emulators' states on real steps, ``[N, P, D]``."""
    shape = block.states[0].shape[:2]
    for number in range(len(emulator.thetas)):
        mapped = as_base(emulator, number, [states.flatten(0, 1) for states in block.states])
        for site, found in enumerate(mapped):
            yield site, number, block.real(found.reshape(*shape, *found.shape[1:])).flatten(2)


def _objective(emulated: Emulated, options: FitOptions) -> Matrix:
    """½(L_mn + L_nm): L_mn is the loss of equation 3 of m's emulator with n's emulator, under V_n, in the base model's
    place. With ``scale_hidden`` the hidden loss is not divided here.
    """
    emulator = emulated.emulator
    losses = np.zeros((len(emulated), len(emulated)))
    subjects = emulator.blueprint.subjects
    hidden = [hidden_divergence(options, subject.name, emulator.group_of(n)) for n, subject in enumerate(subjects)]
    output = [
        output_divergence(options, subject.name, emulator.group_of(n), emulator.blueprint.heads[subject.head][1])
        for n, subject in enumerate(subjects)
    ]
    for block in emulated.blocks():
        weights = block.real_weights
        for _, number, rows in _readings(emulator, block):
            losses[:, number] += _against(hidden[number], rows, number, weights) / len(emulator.maps_of(number))
        for head, module in enumerate(emulator.heads):
            rows = _answers(cast(Head, module), block)
            for number in (n for n, subject in enumerate(subjects) if subject.head == head):
                losses[:, number] += options.output_weight * _against(output[number], rows, number, weights)
    return (losses + losses.T) / 2


def _against(divergence: Callable[[Tensor, Tensor], Tensor], rows: Tensor, number: int, weights: Tensor) -> Matrix:
    """The mean divergence of every emulator's rows from those of one."""
    return cast(Matrix, (divergence(rows, rows[number].expand_as(rows)) @ weights).double().numpy())


def _procrustes(emulated: Emulated, options: FitOptions) -> Matrix:
    """The mean over sites of the angle between two clouds of emulated states."""
    return _angles(_clouds(emulated, lambda number, states: states))


def _aligned(emulated: Emulated, options: FitOptions) -> Matrix:
    """The same of V_n(h_n), which other coordinates of the emulated states leave as it is if V_n goes with them. At
    each site of the meta-model it takes that site of a base model whose depth is nearest.
    """
    count = len(emulated.emulator.meta_model.state_shapes)

    def read(number: int, states: Sequence[Tensor]) -> Sequence[Tensor]:
        own = list(as_base(emulated.emulator, number, states))
        places = [depth_among(site, count, len(own)) for site in range(count)]
        return [own[place + (share > 0.5)] for place, share in places]

    return _angles(_clouds(emulated, read))


def _angles(sites: Sequence[Sequence[Tensor]]) -> Matrix:
    """The mean over sites of the angle between clouds ``[P, D]``, centred and of norm 1, after the best rotation (A.
    Williams et al., 2021, Generalized shape metrics on neural representations).
    """
    total = np.zeros((len(sites[0]), len(sites[0])))
    for clouds in sites:
        for one, other in combinations(range(len(clouds)), 2):
            match = float(torch.linalg.svdvals(clouds[one].T @ clouds[other]).sum())
            total[one, other] += np.arccos(min(1.0, match)) / len(sites)
    return total + total.T


@torch.no_grad()
def _clouds(emulated: Emulated, read: Callable[[int, Sequence[Tensor]], Sequence[Tensor]]) -> list[list[Tensor]]:
    """At each site what is read of every emulator's states on some steps, ``[P, D]``: centred, of norm 1, D at most P.

    Args:
        emulated: the emulators.
        read: takes the number of a model and its states ``[B, T, *S]`` at each site.
    """
    sites, count = len(emulated.emulator.meta_model.state_shapes), len(emulated)
    kept = torch.zeros(int(emulated.probes.mask.sum()), dtype=torch.bool)
    generator = torch.Generator().manual_seed(emulated.seed)
    kept[torch.randperm(len(kept), generator=generator)[:POSITIONS]] = True
    parts: list[list[list[Tensor]]] = [[[] for _ in range(count)] for _ in range(sites)]
    start = 0
    for block in emulated.blocks():
        some = kept[start : start + len(block.real_weights)]
        start += len(some)
        for number in range(count):
            for site, states in enumerate(read(number, [states[number] for states in block.states])):
                rows = block.real(states[None])[0]
                parts[site][number].append(rows[some].flatten(1))
    return [[_unit(torch.cat(rows).double()) for rows in clouds] for clouds in parts]


def _unit(cloud: Tensor) -> Tensor:
    cloud = cloud - cloud.mean(0)
    if cloud.shape[1] > cloud.shape[0]:
        cloud = torch.linalg.qr(cloud.T, mode="r")[1].T
    return cloud / max(float(cloud.norm()), 1e-300)


@torch.no_grad()
@torch.no_grad()
def _activity(emulated: Emulated, options: FitOptions) -> Matrix:
    """The root mean square over sites of the differences of log s_n: s_n is the root mean variance of a unit of
    V_n(h_n), over real steps and examples, at the depths of the meta-model's sites. Other coordinates of the emulated
    states leave it as it is if V_n goes with them, and so does a base model whose units are permuted, doubled, or
    flipped in sign.
    """
    emulator, count = emulated.emulator, len(emulated)
    moments: dict[tuple[int, int], Tensor] = {}
    for block in emulated.blocks():
        weights = block.real_weights.double()
        for number in range(count):
            for site, states in enumerate(as_base(emulator, number, [part[number] for part in block.states])):
                rows = block.real(states[None])[0].flatten(1).double()
                own = torch.stack([weights @ rows, weights @ rows.square()])
                moments[site, number] = moments.get((site, number), 0) + own
    of_sites: list[list[float]] = [[] for _ in range(count)]
    for (_, number), (mean, square) in sorted(moments.items(), key=lambda entry: entry[0]):
        of_sites[number].append(float((square - mean.square()).mean()))
    sites = len(emulator.meta_model.state_shapes)
    variances = np.array([[_at_depth(own, site, sites) for own in of_sites] for site in range(sites)])
    # A dead network is far from the others, not infinitely far.
    least = 1e-8 * variances[:, : emulated.reference].max(1, keepdims=True)
    logs = 0.5 * np.log(np.maximum(variances, np.where(least > 0, least, 1.0)))
    return _root(np.square(logs[:, :, None] - logs[:, None]).mean(0))


def _at_depth(figures: Sequence[float], site: int, sites: int) -> float:
    """Figures of a model's sites, interpolated at the depth of one of the meta-model's."""
    place, share = depth_among(site, sites, len(figures))
    return figures[place] + share * (figures[place + 1] - figures[place]) if share else figures[place]


def _combined(emulated: Emulated, options: FitOptions) -> Matrix:
    """√(⅓(s² + o² + a²)): ``states``, ``outputs`` and ``activity``, each in units of its median between different
    models; the unit of activity is at least a tenth, so that where it varies as little as by chance it hardly counts.
    """
    emulated, upper = emulated.run_once(), np.triu_indices(emulated.setting_units, 1)
    kinds = ((_states, 0.0), (_outputs, 0.0), (_activity, ACTIVITY))
    parts = [_in_medians(measure(emulated, options), upper, least) for measure, least in kinds]
    return _root(np.mean(np.square(parts), axis=0))


def _in_medians(matrix: Matrix, upper: tuple[NDArray[np.intp], ...], least: float) -> Matrix:
    unit = max(least, float(np.median(matrix[upper])) if len(upper[0]) else 0.0)
    return matrix / (unit or 1.0)


#: The kinds known by name.
KINDS: dict[str, DistanceKind] = {
    kind.name: kind
    for kind in (
        DistanceKind("theta", "Euclidean, of the model embeddings", _theta, True, "O(N²·d)", needs_probes=False),
        DistanceKind(
            "states",
            "root mean square difference of the emulated states, in units of their spread",
            _states,
            True,
            "O(N²·P·H), with a projection O(N·P·H)",
            projects=True,
        ),
        DistanceKind(
            "outputs",
            "root mean Jensen-Shannon divergence of the emulated classes, or mean square difference of real outputs",
            _outputs,
            True,
            "O(N²·P·K)",
        ),
        DistanceKind(
            "activity",
            "difference of the log of the states' root mean variance, as the base models have it, V(h)",
            _activity,
            True,
            "O(N·P·H·H')",
        ),
        DistanceKind(
            "combined",
            "root mean square of states, outputs and activity, each in units of its median",
            _combined,
            True,
            "that of the three",
            projects=True,
        ),
        DistanceKind(
            "mapped",
            "share of the variance that one model's V leaves of another's emulated states, root",
            _mapped,
            False,
            "O(N²·P·H·H')",
        ),
        DistanceKind(
            "objective", "the fit's own loss of one emulator against another", _objective, False, "O(N²·P·H·H')"
        ),
        DistanceKind(
            "pullback",
            "Euclidean, of the embeddings in the metric that the emulated states give at their mean",
            _pullback,
            True,
            "O(d·P·H)",
        ),
        DistanceKind(
            "procrustes",
            "angle between the emulated states after the best rotation",
            _procrustes,
            True,
            "O(N²·(P·H² + H³))",
        ),
        DistanceKind(
            "aligned",
            "angle between the emulated states of base models, V(h), after the best rotation",
            _aligned,
            True,
            "O(N²·(P·H'² + H'³)), H' units of a base model",
        ),
    )
}
