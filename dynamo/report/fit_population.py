"""The whole way from a population to a run folder: what ``dynamo fit`` does."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from dynamo.contracts.errors import DynamoError
from dynamo.fit import distributed
from dynamo.fit.fidelity import measure_fidelity, write_fidelity
from dynamo.fit.fit import RUN, Fit
from dynamo.fit.ranks import Ranks
from dynamo.population.population import Population
from dynamo.report.run import EMBEDDING, check_key, write_map
from dynamo.system.locks import locked
from dynamo.system.progress import Stages, silent_stages
from dynamo.system.storage import check_writable
from dynamo.training.checkpoint import remove_checkpoint
from dynamo.training.options import FitOptions
from dynamo.training.plan import FitPlan

CHECKPOINT = "checkpoint.pt"
RECORDING = "recording"


def fit_population(
    population: Population,
    options: FitOptions | None = None,
    out: Path | str | None = None,
    *,
    ranks: Ranks | None = None,
    resume: bool = False,
    colour_by: str | None = None,
    progress: Stages = silent_stages,
) -> Fit:
    """Fit a meta-model to a population; save it, then measure its fidelity, then draw the map.

    Args:
        population: the base models.
        options: how to fit; see also :func:`dynamo.preset`.
        out: the run folder; where it is None, nothing is written, measured or drawn.
        ranks: the processes that share the fit; this one alone where it is None.
        resume: go on from the run folder's checkpoint.
        colour_by: the metadata that colours the map; one is chosen where it is None.
        progress: one stage each for recording, fitting and measuring.

    Returns:
        The fit. Where a launcher has started several processes, it is whole at rank 0 alone, which alone writes.

    Raises:
        Interrupted: Ctrl-C; the message says where the checkpoint is.
        DynamoError: a folder that is in use, holds a finished run, or has no checkpoint where one is asked for or the
            other way round; options that do not fit the population (see :class:`~dynamo.training.plan.FitPlan`).

    Example:
        >>> from dynamo import Population, fit_population, preset
        >>> population = Population.load("population")
        >>> fit = fit_population(population, preset("laptop", steps=20), "run")
        >>> fit.theta.shape == (len(population), 16)
        True
    """
    options, ranks = options or FitOptions(), ranks or Ranks()
    check_key([base.metadata for base in population], colour_by)
    ranks.check(population, options)
    recorded, fitted = progress("recording base models", len(population)), progress("fitting", None)
    if out is None:
        return distributed.fit(population, options, ranks, recorded=recorded, progress=fitted)
    run = Path(out)
    checkpoint, recording = run / CHECKPOINT, run / RECORDING
    if ranks.rank:  # started by a launcher: rank 0 alone writes
        return distributed.fit(population, options, ranks, checkpoint, resume, recording, recorded, fitted)
    with ExitStack() as stack:
        stack.enter_context(locked(run))
        _check_folder(run, resume)
        FitPlan.of(population, options)  # what does not fit is told before anything is written
        shutil.rmtree(recording, ignore_errors=True)  # of a process that was killed
        stack.callback(shutil.rmtree, recording, ignore_errors=True)
        if (run / RUN).exists():
            fit = Fit.load(run)  # it was stopped when it measured or drew
        else:
            fit = distributed.fit(population, options, ranks, checkpoint, resume, recording, recorded, fitted)
            fit.save(run)
        measured = measure_fidelity(fit, population, progress("measuring fidelity", len(population)))
        write_fidelity(measured, run)
        write_map(fit, run, colour_by)
        remove_checkpoint(checkpoint)
    return fit


def is_finished(run: Path) -> bool:
    """Whether a run folder has all that :func:`fit_population` leaves, and not only what it leaves on its way."""
    return (run / RUN).exists() and (run / EMBEDDING).exists() and not (run / CHECKPOINT).exists()


def _check_folder(run: Path, resume: bool) -> None:
    """Check that a run can be written to a folder, from the start or from where it was stopped."""
    check_writable(run)
    begun = [name for name in (RUN, CHECKPOINT) if (run / name).exists()]
    if is_finished(run):
        raise DynamoError(f"{run} holds a finished run already: choose another folder with --out")
    if begun and not resume:
        what = "a fit that is neither measured nor drawn yet" if RUN in begun else "a checkpoint"
        raise DynamoError(f"{run} has {what}: add --resume to go on from it, or choose another folder")
    if resume and not begun:
        raise DynamoError(f"{run} has no checkpoint: leave --resume out")
