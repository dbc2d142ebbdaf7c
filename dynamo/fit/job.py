"""What every process of a fit is told, and what it does."""

from pathlib import Path
from typing import Literal

import attrs
import torch

from dynamo.contracts.errors import Interrupted
from dynamo.fit.fidelity import measure_fidelity, write_fidelity
from dynamo.fit.fit import Fit
from dynamo.fit.ranks import Ranks
from dynamo.fit.run_folder import save_fit
from dynamo.population.population import Population
from dynamo.system.devices import find_device
from dynamo.system.process_group import ProcessGroup
from dynamo.system.progress import Progress, silent
from dynamo.training.checkpoint import gather_emulator
from dynamo.training.options import FitOptions
from dynamo.training.trainer import Trainer

Stage = Literal["recorded", "fitted", "measured"]


@attrs.frozen
class Listeners:
    """Who is told how far each stage of a fit has come."""

    recorded: Progress = silent
    fitted: Progress = silent
    measured: Progress = silent


@attrs.frozen(eq=False)
class Job:
    """What every process is told; the attributes are the arguments of :func:`dynamo.fit.distributed.fit`."""

    population: Population
    options: FitOptions
    checkpoint: Path | str | None
    resume: bool
    folder: Path | None
    out: Path | None
    measure: bool

    def run(self, processes: ProcessGroup, ranks: Ranks, listeners: Listeners) -> Fit:
        """A process's work."""
        device = ranks.device(self.options)
        fitted = self._train(processes, device, listeners)  # recordings and optimiser are let go of
        if self.out is None:
            return attrs.evolve(fitted, emulator=gather_emulator(fitted.emulator, processes))
        save_fit(fitted, self.out, processes)
        if self.measure:
            measure(fitted, self.population, self.out, find_device(device), listeners.measured, processes)
        return attrs.evolve(fitted, folder=self.out)

    def _train(self, processes: ProcessGroup, device: str, listeners: Listeners) -> Fit:
        trainer = Trainer(self.population, attrs.evolve(self.options, device=device), processes=processes)
        if self.resume and self.checkpoint is not None:
            trainer.resume(self.checkpoint)
        trainer.record(self.folder, listeners.recorded)
        trainer.run(self.checkpoint, listeners.fitted)
        return attrs.evolve(Fit.of(trainer), options=self.options)


def measure(
    fit: Fit, population: Population, run: Path, device: torch.device, measured: Progress, processes: ProcessGroup
) -> None:
    """Measure the fidelity of a fit that is saved, each process that of its own base models, and write it.

    Raises:
        Interrupted: Ctrl-C.
    """
    try:
        measured(0, len(population))
        found = measure_fidelity(fit, population, measured, device, processes)
        if processes.rank == 0:
            write_fidelity(found, run)
    except KeyboardInterrupt:
        raise stopped(run) from None


def stopped(run: Path) -> Interrupted:
    """What is said of Ctrl-C when the fit is saved, but not measured and drawn."""
    return Interrupted(f"stopped; the fit is saved in {run}: --resume measures and draws it")
