"""New models on an old map: θ and V for models that the meta-model was not fitted to, while it stays as it is."""

from copy import deepcopy
from functools import lru_cache
from math import inf, isnan, nan, prod
from statistics import fmean
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo.fit.emulated import as_base
from dynamo.fit.fidelity import Fidelity, agreement, measure_fidelity, unexplained
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.population.recording import Recording, live, run
from dynamo.system.bars import progress_of
from dynamo.system.devices import device_of, fast_products, find_device
from dynamo.system.progress import Progress, Setting, silent
from dynamo.training.batch import Batch, Passed
from dynamo.training.optimisation import Annealed
from dynamo.training.options import EmbedOptions as EmbedOptions
from dynamo.training.randomness import Randomness
from dynamo.training.trainer import Trainer

#: On so many test inputs the emulators of neighbours are compared.
COMPARED = 128
#: So many emulators' states are held for that, so that those of a small map are computed once.
HELD = 64
#: So many numbers of the meta-model's states are held while V alone is sought.
ROOM = 2**26


@attrs.frozen(eq=False)
class Embedding:
    """New models on the map of a fit.

    A new model is *foreign* to the map where it is imitated worse than a base model of the same head would be from the
    place of its nearest neighbour: worse than the least f_n − (1 − g_n) over these base models n, in hidden R² or in
    agreement. Here f_n is how well base model n is imitated, and g_n how alike n's emulator is to the emulator at the
    nearest base model's θ (for agreement a bound: decisions that n shares with its emulator, and that with its
    neighbour, n shares with the neighbour).

    Attributes:
        placed: the new models' names, thetas, metadata and state maps under a copy of the fit's meta-model; a fit like
            any other, with ``model_at`` and so on.
        fidelity: how well each new model is imitated, on its test data.
        limits: for each new model the hidden R² and the agreement below which it is foreign, ``[M, 2]``.
    """

    placed: Fit
    fidelity: Fidelity
    limits: Tensor

    __repr__ = brief

    @property
    def names(self) -> list[str]:
        """The new models' names."""
        return self.placed.names

    @property
    def theta(self) -> Tensor:
        """Their places, ``[M, d]``."""
        return self.placed.theta

    @property
    def is_foreign(self) -> Tensor:
        """Which of them the map has no place for, ``[M]`` bool."""
        return (self.figures < self.limits).any(1)

    def with_old(self, fit: Fit) -> Fit:
        """The fit with the new models after its own; its ``distances`` with ``reference=len(fit.names)`` leave those
        between the old models as they are.

        Args:
            fit: the map that the new models were put on.
        """
        emulator, new = deepcopy(fit.emulator), self.placed.emulator
        heads = [name for name, _ in emulator.blueprint.heads]
        subjects = [
            attrs.evolve(subject, head=heads.index(new.group_of(number)))
            for number, subject in enumerate(new.blueprint.subjects)
        ]
        emulator.blueprint = attrs.evolve(emulator.blueprint, subjects=(*emulator.blueprint.subjects, *subjects))
        emulator.readings.extend(new.readings)
        emulator.state_maps.extend(new.state_maps)
        emulator.thetas.extend(new.thetas)
        return attrs.evolve(fit, emulator=emulator, metadata=[*fit.metadata, *self.placed.metadata])

    @property
    def figures(self) -> Tensor:
        """Hidden R² and agreement of each, ``[M, 2]``."""
        return torch.tensor([[model.hidden_r2, model.agreement] for model in self.fidelity.models])


def embed(
    fit: Fit,
    population: Population,
    fidelity: Fidelity | None = None,
    options: EmbedOptions | None = None,
    progress: Progress | Setting = silent,
) -> Embedding:
    """Put new models on a fit's map; the fit stays as it is, to the bit.

    Every new model starts at the base model's θ (or the mean of all) from which its outputs are imitated best; then θ
    and V descend the loss of the fit, all new models in one batch. Whether a model is put there alone or with others
    makes no difference but rounding.

    Args:
        fit: the map.
        population: the new models; their states may have other sizes than the base models'.
        fidelity: that of the fit's base models, which says what a good imitation is; that of the run folder where it is
            None.
        options: how.
        progress: True, "notebook" or False, see :meth:`dynamo.Trainer.run`; or a function that is called with (step,
            steps, loss) after each step.

    Raises:
        DynamoError: inputs, outputs or sites of states that the fit does not know, a label that its heads go by and a
        new model lacks, a fidelity that is not known, or a loss that is not finite.

    Example:
        >>> from dynamo import EmbedOptions, Fit, Population, embed
        >>> new = embed(Fit.load("run"), Population.load("population")[:2], options=EmbedOptions(steps=5))
        >>> new.names, new.theta.shape
        (['digits-gru-100-s0', 'digits-gru-100-s1'], torch.Size([2, 4]))
    """
    options = options or EmbedOptions()
    if population.inputs != fit.emulator.blueprint.inputs:
        raise DynamoError(
            f"the new models take other inputs ({population.inputs}) than the map's ({fit.emulator.blueprint.inputs})"
        )
    fidelity = fidelity or fit.fidelity
    if fidelity is None:
        raise DynamoError(
            "how well the fit imitates its base models is not known: give the fidelity that measure_fidelity(fit, "
            "population) finds"
        )
    missing = set(fit.names) - {model.name for model in fidelity.models}
    if missing:
        raise DynamoError(f"the fidelity of the base model {min(missing)!r} is missing: measure that of this fit")
    trainer = _trainer(fit, population, options)
    _start(fit, trainer, options)
    with fast_products(device_of(trainer.emulator)), progress_of(progress, "embedding") as tick:
        _descend(fit, trainer, options, tick)
    device = device_of(trainer.emulator)
    emulator = trainer.emulator.cpu().requires_grad_(True)
    placed = Fit(emulator, fit.options, [dict(base.metadata) for base in population], probes=fit.probes)
    fidelities = measure_fidelity(placed, population, device=device)
    return Embedding(placed, fidelities, _limits(fit, placed, population, fidelity))


def _trainer(fit: Fit, population: Population, options: EmbedOptions) -> Trainer:
    """A trainer of the new models whose meta-model and heads are frozen copies of the fit's."""
    settings = attrs.evolve(
        fit.options,
        models_per_step=None,
        batch_size=len(population) * options.batch_size,
        recording="memory",
        augmentation="none",
        device=options.device,
    )
    device = find_device(options.device)
    sources = live(population, device)
    recordings = [Recording(*source.batch(_spread(len(source), options.examples))) for source in sources]
    trainer = Trainer(population, settings, recordings)
    emulator, known = trainer.emulator, [name for name, _ in fit.emulator.blueprint.heads]
    for number, (name, space) in enumerate(emulator.blueprint.heads):
        there = fit.emulator.blueprint.heads[known.index(name)][1] if name in known else None
        if there is None or (there.kind, there.size, there.readout) != (space.kind, space.size, space.readout):
            first = next(subject.name for subject in emulator.blueprint.subjects if subject.head == number)
            raise DynamoError(
                f"the fit has no head for the outputs of {first!r}, {space}: it has "
                + "; ".join(f"{head!r} for {outputs}" for head, outputs in fit.emulator.blueprint.heads)
            )
        emulator.heads[number] = deepcopy(fit.emulator.heads[known.index(name)]).to(device)
    emulator.meta_model = deepcopy(fit.emulator.meta_model).to(device)
    emulator.meta_model.requires_grad_(False)
    emulator.heads.requires_grad_(False)
    for number in range(len(population)):
        with Randomness(torch.device("cpu"), options.seed).drawn():  # anew, so that no model depends on those before it
            emulator.state_maps[number] = emulator.new_maps(number).to(device)
    emulator.eval()
    return trainer


@torch.no_grad()
def _start(fit: Fit, trainer: Trainer, options: EmbedOptions) -> None:
    """Each θ to the base model's from which the outputs are imitated best, or to the mean of all thetas."""
    places = torch.cat([fit.theta.mean(0, keepdim=True), fit.theta])
    if fit.options.output_weight == 0:  # the heads have learnt nothing
        places = places[:1]
    thetas = list(trainer.emulator.thetas)
    rows = [_spread(len(source), 4 * options.batch_size) for source in trainer.recordings]
    batch = trainer.read(range(len(thetas)), rows)
    alike = _alike(batch, len(thetas))
    once = attrs.evolve(batch, inputs=batch.inputs[: len(batch.inputs) // alike])
    losses = []
    for place in places.to(thetas[0].device):
        found = trainer.passed(once, place.expand(len(once.inputs), -1))
        features, *states = (part.repeat(alike, *[1] * (part.ndim - 1)) for part in (found.features, *found.states))
        losses.append(trainer.losses_of(Passed(batch, features, tuple(states)))[1])
    for theta, best in zip(thetas, torch.stack(losses).argmin(0), strict=True):
        theta.copy_(places[int(best)])


def _alike(batch: Batch, models: int) -> int:
    """How often the inputs of a batch are there: once for each model where all models see the same; else 1."""
    inputs = batch.inputs
    if len({size for group in batch.groups for size in group.sizes}) > 1:
        return 1
    parts = [part.view(models, -1, *part.shape[1:]) for part in (inputs.values, inputs.mask)]
    return models if all(torch.equal(part, part[:1].expand_as(part)) for part in parts) else 1


def _descend(fit: Fit, trainer: Trainer, options: EmbedOptions, progress: Progress) -> None:
    """Lower every new model's loss: over V alone, so that θ is not led astray by a V that fits nothing; over θ and V;
    over V alone.
    """
    spread = float((fit.theta - fit.theta.mean(0)).square().mean().sqrt())
    thetas = list(trainer.emulator.thetas)
    rates: dict[float, list[nn.Parameter]] = {}
    for state_maps, reading in zip(trainer.emulator.state_maps, trainer.emulator.readings, strict=True):
        parameters, size = list(state_maps.parameters()), 0.0
        if parameters:  # the identity has none
            size = float(nn.utils.parameters_to_vector(parameters).detach().square().mean().sqrt())
        parameters += reading.parameters()
        if parameters:
            rates.setdefault(options.map_rate * (size or 1.0), []).extend(parameters)
    maps: list[dict[str, Any]] = [{"params": parameters, "peak": rate} for rate, parameters in rates.items()]
    places: list[dict[str, Any]] = [{"params": thetas, "peak": options.theta_rate * (spread or 1.0)}]
    phases = [(maps, options.map_steps), (places + maps, options.steps), (maps, options.map_steps)]
    phases = [(groups, steps) for groups, steps in phases if groups]
    everyone = range(len(thetas))
    is_fused = device_of(trainer.emulator).type in ("cpu", "cuda")
    done, total = 0, sum(steps for _, steps in phases)
    for groups, steps in phases:
        for theta in thetas:
            theta.requires_grad_(groups is not maps)
        optimizer = Annealed("adamw", groups, steps, weight_decay=0.0, fused=is_fused)
        passed = _passed(trainer) if groups is maps else None
        for step in range(steps):
            rows = _draw(trainer, options, done)
            hidden, output = trainer.losses(everyone, rows) if passed is None else trainer.losses_of(passed.rows(rows))
            _check(trainer, hidden, output)
            loss = trainer.loss(hidden, output) * len(thetas)  # the sum: no model's step depends on how many there are
            optimizer.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(step)
            done += 1
            progress(done, total, loss.item() / len(thetas))


@torch.no_grad()
def _passed(trainer: Trainer) -> Passed | None:
    """What the meta-model gives for all probe inputs, while no θ moves; None where that takes too much room."""
    emulator, rows = trainer.emulator, [torch.arange(len(source)) for source in trainer.recordings]
    steps = [source.batch(some[:1])[0].mask.shape[1] for source, some in zip(trainer.recordings, rows, strict=True)]
    units = sum(prod(shape) for shape in emulator.meta_model.state_shapes) + emulator.meta_model.feature_size
    if sum(len(some) * own for some, own in zip(rows, steps, strict=True)) * units > ROOM:
        return None
    batch = trainer.read(range(len(rows)), rows)
    return trainer.passed(batch, batch.spread(list(emulator.thetas)))


def _draw(trainer: Trainer, options: EmbedOptions, step: int) -> list[Tensor]:
    """The rows that each model sees in a step: the same, whichever models there are."""
    generators = (np.random.default_rng([options.seed, step]) for _ in trainer.recordings)
    return [
        torch.from_numpy(generator.integers(len(source), size=options.batch_size))
        for generator, source in zip(generators, trainer.recordings, strict=True)
    ]


def _check(trainer: Trainer, hidden: Tensor, output: Tensor) -> None:
    if bool(torch.stack([hidden, output]).isfinite().all()):
        return
    for base, *losses in zip(trainer.population, hidden, output, strict=True):
        if not all(bool(loss.isfinite()) for loss in losses):
            raise DynamoError(
                f"the loss of the new model {base.name!r} is not finite: its states or outputs are not, or theta_rate "
                "or map_rate is too high"
            )


@torch.no_grad()
def _limits(fit: Fit, placed: Fit, population: Population, fidelity: Fidelity) -> Tensor:
    """The hidden R² and the agreement below which each new model is foreign; see :class:`Embedding`."""
    heads: dict[str, Tensor] = {}
    groups = [placed.emulator.group_of(number) for number in range(len(population))]
    for base, head in zip(population, groups, strict=True):
        if head not in heads:
            test = population.dataset(base).test.inputs
            heads[head] = _least(fit, head, test[_spread(len(test), COMPARED)], fidelity)
    return torch.stack([heads[head] for head in groups])


def _least(fit: Fit, head: str, inputs: Inputs, fidelity: Fidelity) -> Tensor:
    """The least f_n − (1 − g_n) over the base models of a head, for hidden R² and for agreement: ``[2]``. Models for
    which it is undefined are left out; with none left nothing is foreign.
    """
    own = {model.name: (model.hidden_r2, model.agreement) for model in fidelity.models}
    numbers = [number for number in range(len(fit.names)) if fit.emulator.group_of(number) == head]
    theta = fit.theta[numbers]
    nearest = torch.cdist(theta, theta).fill_diagonal_(torch.inf).argmin(1)
    model = fit.model_at(theta[0], head).cpu()

    @lru_cache(HELD)  # a model's own, and as often as it is the nearest of another
    def at(place: int) -> Trajectory:
        model.theta.copy_(theta[place])
        return run(model, inputs)

    figures = []
    for place, number in enumerate(numbers):
        unlike = torch.zeros(2)
        if len(numbers) > 1:
            target, guess = at(place), at(int(nearest[place]))
            there, here = (as_base(fit.emulator, number, found.states) for found in (guess, target))
            errors = [float(unexplained(*pair, inputs.mask)) for pair in zip(there, here, strict=True)]
            errors = [error for error in errors if not isnan(error)] or [nan]
            unlike = torch.tensor([fmean(errors), 1 - agreement(guess, target, model.outputs)])
        figures.append(torch.tensor(own[fit.names[number]]) - unlike)
    return torch.stack(figures).nan_to_num(nan=inf).amin(0).nan_to_num(posinf=-inf)


def _spread(count: int, wanted: int) -> Tensor:
    """Up to ``wanted`` of ``count`` rows, spread evenly."""
    return torch.linspace(0, count - 1, min(wanted, count)).round().long()
