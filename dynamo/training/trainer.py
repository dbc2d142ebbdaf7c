"""The generic trainer: Algorithm 1 and its multi-model form, for any plugins."""

from collections.abc import Sequence
from math import inf, isfinite, nan
from pathlib import Path
from time import perf_counter
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from dynamo.contracts.errors import DynamoError, Interrupted
from dynamo.contracts.protocols import Augmentation
from dynamo.contracts.shown import folded
from dynamo.contracts.trajectory import Inputs, Trajectory, send
from dynamo.population.population import Population
from dynamo.population.recording import Elsewhere, Source, kept_on, live, record, state_variances
from dynamo.population.recording_cache import RecordingCache
from dynamo.registry import make
from dynamo.system.allocator import keep_freed_memory
from dynamo.system.bars import progress_of
from dynamo.system.devices import fast_products, find_device
from dynamo.system.interrupts import interrupts
from dynamo.system.process_group import ProcessGroup, SingleProcess, share_step
from dynamo.system.progress import Progress, Setting, silent
from dynamo.training.batch import Batch, Group, Passed
from dynamo.training.checkpoint import check_belongs, load_optimizer, read_checkpoint, write_checkpoint
from dynamo.training.convergence import EVERY, converged_at, has_converged, last_step, latest_start
from dynamo.training.emulator import Emulator
from dynamo.training.objective import losses_together, model_loss, population_loss
from dynamo.training.optimisation import Annealed, matrices_of
from dynamo.training.options import FitOptions
from dynamo.training.plan import FitPlan
from dynamo.training.randomness import Randomness
from dynamo.training.sites import read_together

#: The least variance of a model's states that divides its hidden loss, relative to that of the median model.
LEAST_SCALE = 1e-2
#: On a GPU the trainer waits for the losses of so many steps together, or of half a second.
AHEAD, PATIENCE = 20, 0.5
HISTORY = ("step", "learning_rate", "loss", "hidden", "output")


@attrs.frozen(eq=False)
class _Taken:
    """A step whose losses have not been looked at.

    Attributes:
        number: of the step, from 0.
        chosen: its base models.
        rows: the rows of data that each saw.
        figures: their hidden and output losses, ``[2, K]``.
        loss: equation 4.
    """

    number: int
    chosen: list[int]
    rows: list[Tensor]
    figures: Tensor
    loss: Tensor

    @property
    def row(self) -> Tensor:
        """The loss and the means of both losses, ``[3]``."""
        return torch.stack([self.loss, *self.figures.mean(1)])


class Trainer:
    """Fits a meta-model to a population. It knows no architecture: all it uses are the contracts in
    :mod:`dynamo.contracts.protocols`.

    Args:
        population: the base models.
        options: how to fit.
        recordings: where the base models' trajectories come from, in the population's order; as the options say where
            they are not given.

    Attributes:
        emulator: what is being trained.
        step: steps done.
        seconds: wall time of :meth:`run` so far.
        history: a row of :data:`HISTORY` for every step.

    Raises:
        DynamoError: components, options and population do not fit one another. Nothing has been written then.
    """

    def __init__(
        self,
        population: Population,
        options: FitOptions | None = None,
        recordings: Sequence[Source] | None = None,
        processes: ProcessGroup | None = None,
    ) -> None:
        keep_freed_memory()
        self.plan = FitPlan.of(population, options)
        self.population, self.options = population, self.plan.options
        self._processes = processes or SingleProcess()
        self._device = find_device(self.options.device)
        self._recordings = recordings
        self._random = Randomness(self._device, self.options.seed)
        with self._random.drawn():
            self.emulator = Emulator(self.plan.blueprint, self._processes.owns).place(self._device)
            if self.options.channels_last:
                self.emulator = self.emulator.to(memory_format=torch.channels_last)
        self._scales: list[list[float] | None] | None = None
        self.step, self.seconds = 0, 0.0
        self.history: list[tuple[float, ...]] = []
        self._annealed = self._make_optimizer()
        # Several processes wait for one another at each step anyway.
        self._ahead = AHEAD if self._device.type != "cpu" and self._processes.size == 1 else 1
        self._unseen: list[tuple[_Taken, float]] = []
        self._looked = perf_counter()

    def __repr__(self) -> str:
        loss = f", loss {self.history[-1][2]:.4g}" if self.history else ""
        return folded(
            f"Trainer(step {self.step} of {self.steps}{loss}; {len(self.population)} models, meta-model "
            f"{self.options.meta_model}, on {self._device})"
        )

    @property
    def steps(self) -> int:
        """The steps of the whole fit; as many at most, until it has converged, where it ends then."""
        return self._annealed.steps

    @property
    def recordings(self) -> Sequence[Source]:
        """Where the base models' trajectories come from, in the population's order; see :meth:`record`."""
        return self.record() if self._recordings is None else self._recordings

    def record(self, folder: Path | None = None, progress: Progress | Setting = silent) -> Sequence[Source]:
        """Make the recordings that the options ask for.

        Args:
            folder: for recordings on disk.
            progress: True, "notebook" or False, see :meth:`run`; or a function that is called with (model, models)
                after each, of the models that this process owns.

        Raises:
            DynamoError: what :func:`dynamo.population.recording.record` finds, or no folder for recordings on disk.
        """
        kind, population = self.options.recording, self.population
        if kind == "disk" and folder is None:
            raise DynamoError("recordings on disk need a folder: call trainer.record(folder) before trainer.run()")
        owned = [self._processes.owns(number) for number in range(len(population))]
        mine = population if all(owned) else population.select(owned)
        made: list[Source] = []
        if kind == "live":
            name = self.options.augmentation
            augmentation = None if name == "none" else make("augmentation", name, Augmentation, population.inputs)
            made += live(mine, self._device, augmentation)
        else:
            store = folder if kind == "disk" else None
            with fast_products(self._device), progress_of(progress, "recording base models") as tick:
                recorded = record(mine, store, tick, self.options.recording_precision, self._device, self._cache())
            made += kept_on(recorded, self._device) if kind == "device" else recorded
        sources: list[Source] = [Elsewhere(population.dataset(base).probe_size) for base in population]
        for number, source in zip([number for number, here in enumerate(owned) if here], made, strict=True):
            sources[number] = source
        self._recordings = sources
        return sources

    def _cache(self) -> RecordingCache | None:
        folder, most = self.options.recording_cache, self.options.recording_cache_size
        return None if folder is None else RecordingCache(Path(folder), int(most * 2**30))

    def _make_optimizer(self) -> Annealed:
        options, thetas = self.options, list(self.emulator.thetas)
        matrices = matrices_of(self.emulator) if options.optimizer == "muon" else []
        marked = {id(parameter) for parameter in (*thetas, *matrices)}
        rest = [parameter for parameter in self.emulator.parameters() if id(parameter) not in marked]
        theta_rate = options.theta_learning_rate or options.learning_rate
        groups: list[dict[str, Any]] = [
            {"params": rest, "peak": options.learning_rate},
            {"params": thetas, "peak": theta_rate},
        ]
        if matrices:
            groups.append({"params": matrices, "peak": options.learning_rate, "orthogonal": True})
        settings: dict[str, Any] = {"momentum": options.momentum}
        if options.optimizer != "sgd":
            settings = {"betas": (options.beta1, options.beta2), "eps": options.epsilon}
            settings["fused"] = self._device.type in ("cpu", "cuda")  # torch's SGD fails where models are drawn in turn
        steps = self.plan.steps
        made = Annealed(options.optimizer, groups, steps, weight_decay=options.weight_decay, **settings)
        made.start = latest_start(steps) if options.until == "converged" else 0
        return made

    @property
    def scales(self) -> list[list[float] | None]:
        """What divides each model's hidden loss at each site: nothing, or the variance of its states there, summed over
        units, on up to 2,048 of its probe inputs. It is infinity, so that the site has no weight, where they do not
        vary, and never below :data:`LEAST_SCALE` of the median model's: a model that hardly moves would drown all
        others. All processes ask for it together; each has nothing for models that it does not own.
        """
        if self._scales is None:
            self._scales = self._measure_scales() if self.options.scale_hidden else [None] * len(self.population)
        return self._scales

    def _measure_scales(self) -> list[list[float] | None]:
        sites = [len(base.state_shapes) for base in self.population]
        variances = torch.zeros(len(self.population), max(sites), dtype=torch.float64)
        with torch.random.fork_rng(devices=[]):
            for number, source in enumerate(self.recordings):
                if self._processes.owns(number):
                    rows = torch.arange(min(len(source), 2048))
                    own = state_variances(source.batch(rows)[1])
                    variances[number, : sites[number]] = torch.tensor(own, dtype=torch.float64)
        self._processes.add(variances)
        least = LEAST_SCALE * variances.masked_fill(variances == 0, nan).nanmedian(dim=0).values
        scales = torch.where(variances > 0, variances.maximum(least), inf)
        every = [own[:count] for own, count in zip(scales.tolist(), sites, strict=True)]
        return [own if self._processes.owns(number) else None for number, own in enumerate(every)]

    def draw(self, step: int) -> tuple[list[int], list[Tensor]]:
        """The base models of a step and the rows of data that each sees: a function of the seed and the step alone."""
        generator = np.random.default_rng([self.options.seed, step])
        chosen = generator.choice(len(self.population), size=self.plan.models_per_step, replace=False)
        sizes = np.array([len(self.recordings[number]) for number in chosen])
        rows = torch.from_numpy(generator.integers(sizes[:, None], size=(len(chosen), self.plan.examples_per_model)))
        return chosen.tolist(), list(rows)

    def losses(self, chosen: Sequence[int], rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The hidden and the output loss (equations 2 and 1) of each chosen model on its rows, ``[K]`` each, from one
        pass of the meta-model. Models of one kind stand together in the batch and are compared together.
        """
        batch = self.read(chosen, rows)
        return self.losses_of(self.passed(batch, batch.spread(list(self.emulator.thetas))))

    def read(self, chosen: Sequence[int], rows: Sequence[Tensor]) -> Batch:
        """The rows of each chosen model, on the device."""
        batch = Batch.read(chosen, rows, self.plan.kinds, self.recordings)
        return batch.to(self._device, self.emulator.thetas[0].dtype)

    def passed(self, batch: Batch, theta: Tensor) -> Passed:
        """What the meta-model gives for the inputs of a batch at a θ for each, ``[B, d]``."""
        inputs, meta_model = batch.inputs, self.emulator.meta_model
        if self.options.channels_last and inputs.values.ndim == 4:
            inputs = inputs.with_values(inputs.values.contiguous(memory_format=torch.channels_last))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            states = meta_model.states(inputs, theta)
            features = meta_model.features(states)
        return Passed(batch, features.to(theta.dtype), tuple(state.to(theta.dtype) for state in states))

    def losses_of(self, passed: Passed) -> tuple[Tensor, Tensor]:
        """The hidden and the output loss of each model of a batch, ``[K]`` each, from what the meta-model gives."""
        batch = passed.batch
        parts = zip(*(batch.split(tensor) for tensor in (passed.features, *passed.states)), strict=True)
        losses = [
            self._losses_of(group, own_features, own_states)
            for group, (own_features, *own_states) in zip(batch.groups, parts, strict=True)
        ]
        hidden, output = batch.restore(torch.cat(losses, dim=1))
        return hidden, output

    def _losses_of(self, group: Group, features: Tensor, states: Sequence[Tensor]) -> Tensor:
        """The losses ``[2, K]`` of the K models of a group, from what the meta-model gives for its examples."""
        first = group.numbers[0]
        states = read_together([self.emulator.reading_of(number) for number in group.numbers], states, group.sizes)
        losses = losses_together(
            (self.plan.hidden[first], self.plan.output[first]),
            [self.emulator.maps_of(number) for number in group.numbers],
            self.emulator.head_of(first),
            states,
            features,
            group.targets,
            group.sizes,
            [self.scales[number] for number in group.numbers],
            self.options.block_outputs,
            "every" if self.options.output_steps == "all" else self.population[first].outputs.readout,
        )
        return torch.stack(losses)

    def loss(self, hidden: Tensor, output: Tensor) -> Tensor:
        """Equation 4 over the chosen models, from their losses ``[K]``."""
        return population_loss(model_loss(hidden, output, self.options.output_weight))

    def run(self, checkpoint: Path | str | None = None, progress: Progress | Setting = silent) -> None:
        """Train from :attr:`step` to the end.

        Args:
            checkpoint: where to save on the way and on Ctrl-C; nothing is saved where it is None.
            progress: True for a bar on the terminal or in the notebook, ``"notebook"`` for one of a notebook in any
                case, False for none; or a function that is called with (step, steps, loss) after each step; on a GPU,
                which works ahead, some steps later.

        Raises:
            Interrupted: Ctrl-C; the message says where the checkpoint is.
            DynamoError: a loss is not finite; the message names the step, the model and the loss. On a GPU some more
                steps have been taken then.
        """
        with progress_of(progress, "fitting") as tick:
            self._run(checkpoint, tick)

    def _run(self, checkpoint: Path | str | None, progress: Progress) -> None:
        self.emulator.train()
        _ = self.scales
        before, started = self.seconds, perf_counter()
        try:
            with interrupts() as interrupted, fast_products(self._device), self._random.drawn():
                while self.step < self.steps:
                    self._advance()
                    to_judge = self.step < self._annealed.start and self.step % EVERY == 0
                    if to_judge or self.step == self.steps or self._is_time_to_look():
                        self._look(progress)
                    if to_judge and has_converged(self._losses_so_far):
                        self._end_soon(self.step)
                    self.seconds = before + perf_counter() - started
                    stop = self._processes.any(interrupted.is_set())
                    if stop or (checkpoint is not None and self.step % self.options.checkpoint_every == 0):
                        self._look(progress)
                        if checkpoint is not None:
                            self.save(checkpoint)
                    if stop:
                        saved = f"saved in {checkpoint}" if checkpoint else "nothing was saved"
                        raise Interrupted(f"stopped at step {self.step} of {self.steps}; {saved}")
        finally:
            self.emulator.eval()

    def _advance(self) -> None:
        """One optimiser step; the models that were not drawn keep their θ and V untouched (Algorithm 1).

        Each process works on those drawn models that it owns. Its loss is their part of equation 4, so that the
        gradients of all processes add up to those of the whole. The CPU does not wait for a GPU here.
        """
        chosen, rows = self.draw(self.step)
        mine = [place for place, number in enumerate(chosen) if self._processes.owns(number)]
        share, common = len(mine) / len(chosen), nn.ModuleList([self.emulator.meta_model, self.emulator.heads])
        buffers = [(buffer, buffer.clone()) for buffer in common.buffers()] if self._processes.size > 1 else []
        self._annealed.optimizer.zero_grad(set_to_none=True)
        if self._processes.size > 1:  # what is drawn on the way is a function of seed, step and rank
            place = [self.options.seed, self.step, self._processes.rank + 1]
            self._random.seed(int(np.random.default_rng(place).integers(2**63)))
        figures = torch.zeros(2, len(chosen), dtype=self.emulator.thetas[0].dtype, device=self._device)
        if mine:
            losses = self.losses([chosen[place] for place in mine], [rows[place] for place in mine])
            figures.index_copy_(1, send(torch.tensor(mine), self._device), torch.stack(losses).detach())
            (share * self.loss(*losses)).backward()  # type: ignore[no-untyped-call]
        share_step(self._processes, list(common.parameters()), buffers, share, figures)
        taken = _Taken(self.step, chosen, rows, figures, self.loss(*figures.unbind()))
        if self._ahead == 1 and not bool(taken.loss.isfinite()):
            self._blame(taken)  # before the optimiser spoils the emulator
        self._unseen.append((taken, self._annealed.step(self.step)))
        self.step += 1
        self._random.keep()

    @property
    def _losses_so_far(self) -> list[float]:
        return [row[HISTORY.index("loss")] for row in self.history]

    def _end_soon(self, start: int) -> None:
        """Anneal from a step on, and end then."""
        self._annealed.start, self._annealed.steps = start, min(last_step(start), self.plan.steps)

    def _is_time_to_look(self) -> bool:
        is_late = self._ahead > 1 and perf_counter() - self._looked > PATIENCE
        return is_late or len(self._unseen) >= self._ahead

    def _look(self, progress: Progress) -> None:
        """Wait for the losses of the last steps, keep and tell them."""
        unseen, self._unseen = self._unseen, []
        rows = torch.stack([taken.row for taken, _ in unseen]).tolist() if unseen else []
        for (taken, rate), (loss, hidden, output) in zip(unseen, rows, strict=True):
            if not isfinite(loss):
                self._blame(taken)
            self.history.append((taken.number + 1, rate, loss, hidden, output))
            progress(taken.number + 1, self.steps, loss)
        self._looked = perf_counter()

    def _blame(self, taken: _Taken) -> None:
        """Say whose loss is not finite, and whether the base model or the fit is to blame."""
        spoilt = [
            self._processes.owns(number) and not _is_finite(self.recordings[number].batch(own))
            for number, own in zip(taken.chosen, taken.rows, strict=True)
        ]
        spoilt = [self._processes.any(broken) for broken in spoilt]
        for number, broken, *losses in zip(taken.chosen, spoilt, *taken.figures, strict=True):
            for kind, value in zip(("hidden", "output"), losses, strict=True):
                if not bool(value.isfinite()):
                    name = self.population[number].name
                    why = "lower learning_rate (or use precision float32); the last checkpoint is from before"
                    if broken:
                        why = "its own states or outputs, or its inputs, are NaN or infinite: leave it out"
                    raise DynamoError(
                        f"the {kind} loss of model {name!r} is {value.item()} at step {taken.number + 1}: {why}"
                    )
        raise DynamoError(f"the loss is not finite at step {taken.number + 1}: lower learning_rate")

    def save(self, path: Path | str) -> None:
        """Write a checkpoint, whole or not at all; all processes call this, and each writes what is its own."""
        self._look(silent)
        content = {
            "step": self.step,
            "population": self.population.fingerprint,
            "data": self.population.data_fingerprints,
            "options": attrs.asdict(self.options),
            "rng": self._random.states[0],
            "device_rng": self._random.states[1:],
            "seconds": self.seconds,
            "history": torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(HISTORY)),
        }
        write_checkpoint(path, content, self.emulator, self._annealed.optimizer, self._processes)

    def resume(self, path: Path | str) -> None:
        """Go on from a checkpoint: on the CPU the result is bit for bit that of an uninterrupted run.

        Raises:
            DynamoError: it is missing, damaged, of another format, population or options.
        """
        content = read_checkpoint(path, self._processes.owns)
        check_belongs(path, content, self.population, self.options)
        if content["history"].shape != (content["step"], len(HISTORY)) or content["step"] > self.steps:
            raise DynamoError(f"{path} has a history of other steps than the {content['step']} it says: start again")
        kept = {name for name, tensor in self.emulator.state_dict().items() if not tensor.is_meta}
        weights = {name: tensor for name, tensor in content["emulator"].items() if name in kept}
        try:
            load_optimizer(self._annealed.optimizer, content["optimizer"])
            self.emulator.load_state_dict(weights, strict=self._processes.size == 1)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DynamoError(f"{path} does not fit this population and these options: {error}") from None
        self.step, self.seconds = content["step"], content["seconds"]
        self._random.load([content["rng"], *content["device_rng"]], self.options.seed + self.step)
        self.history = [tuple(row) for row in content["history"].tolist()]
        if self.options.until == "converged":
            start = converged_at(self._losses_so_far[: self._annealed.start - 1])
            if start is not None:
                self._end_soon(start)


def _is_finite(batch: tuple[Inputs, Trajectory]) -> bool:
    """Whether inputs and trajectory hold no NaN and nothing infinite on real steps."""
    inputs, trajectory = batch
    values = inputs.values[inputs.mask] if inputs.is_sequence else inputs.values
    real = (values, *(part[trajectory.mask] for part in (*trajectory.states, trajectory.outputs)))
    return all(bool(part.isfinite().all()) for part in real)
