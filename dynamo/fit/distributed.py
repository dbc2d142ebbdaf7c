"""A fit by many processes, on one machine or several, through torch.distributed.

On one machine the processes are started here (torch.multiprocessing); on several by ``torchrun``, or by any launcher
that sets its environment variables.
"""

from pathlib import Path
from time import sleep

from dynamo.contracts.errors import DynamoError
from dynamo.fit.fit import Fit
from dynamo.fit.job import Job, Listeners
from dynamo.fit.ranks import Ranks
from dynamo.fit.started import start
from dynamo.fit.torch_processes import PATIENCE, joined, memory
from dynamo.population.population import Population
from dynamo.system.process_group import SingleProcess
from dynamo.system.progress import Progress, silent
from dynamo.training.options import FitOptions


def fit(
    population: Population,
    options: FitOptions | None = None,
    ranks: Ranks | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    folder: Path | None = None,
    recorded: Progress = silent,
    progress: Progress = silent,
    out: Path | None = None,
    measured: Progress | None = None,
) -> Fit:
    """Fit a meta-model with as many processes as are asked for. What comes out is that of one process but for rounding.

    Where :func:`fit` starts processes, the calling script must be one that can be imported (``if __name__ ==
    "__main__":`` around what it does), and its live models must be instances of classes that an import finds.

    Args:
        population: the base models.
        options: how to fit.
        ranks: the processes; one where it is None.
        checkpoint: where to save on the way and on Ctrl-C.
        resume: go on from the checkpoint; the number of processes may have changed.
        folder: for recordings on disk.
        recorded: called with (model, models) after recordings of rank 0.
        progress: called with (step, steps, loss), not necessarily after each step.
        out: the run folder to save the fit in, each process the V_n and θ_n of its own models, so that none needs room
            for all; nothing is saved where it is None.
        measured: called with (model, models) while the fidelity of the saved fit is measured, by each process that of
            its own models; it is not measured where it is None.

    Returns:
        The fit. Where a launcher has started the processes, it is whole at rank 0 alone: the others have the V_n and
        θ_n of their own models.

    Raises:
        Interrupted: Ctrl-C; the message says where the checkpoint is.
        DynamoError: what :class:`~dynamo.training.trainer.Trainer` finds; processes that cannot share the fit, cannot
            be given the base models, cannot meet, or die.
    """
    ranks, listeners = ranks or Ranks(), Listeners(recorded, progress, measured or silent)
    job = Job(population, options or FitOptions(), checkpoint, resume, folder, out, measured is not None)
    ranks.check(population, job.options)
    if ranks.size == 1:
        return job.run(SingleProcess(), ranks, listeners)
    if ranks.rank is None:
        return start(job, ranks, listeners)
    try:
        with memory(ranks.rank), joined(ranks, "env://", ranks.device(job.options)) as processes:
            fitted = job.run(processes, ranks, Listeners() if ranks.rank else listeners)
        return fitted if out is None or ranks.rank else Fit.load(out)
    except DynamoError:
        sleep(PATIENCE["failed"] if ranks.rank else 0)
        raise
