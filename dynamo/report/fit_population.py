"""The whole way from a population to a run folder: what ``dynamo fit`` does."""

import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from dynamo.contracts.errors import DynamoError
from dynamo.fit import distributed
from dynamo.fit.distance_kinds import kind_named
from dynamo.fit.distances import DEFAULT
from dynamo.fit.fit import Fit
from dynamo.fit.job import measure, stopped
from dynamo.fit.ranks import Ranks
from dynamo.fit.run_folder import RUN
from dynamo.population.population import Population
from dynamo.report.run import EMBEDDING, check_key, write_map
from dynamo.system.bars import stages_of
from dynamo.system.devices import find_device
from dynamo.system.locks import locked
from dynamo.system.process_group import SingleProcess
from dynamo.system.progress import Setting, Stages, later
from dynamo.system.storage import check_writable
from dynamo.training.checkpoint import CHECKPOINT, remove_checkpoint
from dynamo.training.options import FitOptions
from dynamo.training.plan import FitPlan

RECORDING = "recording"


def fit_population(
    population: Population,
    options: FitOptions | None = None,
    out: Path | str | None = None,
    *,
    ranks: Ranks | None = None,
    resume: bool = False,
    colour_by: str | None = None,
    distance: str | None = None,
    progress: Stages | Setting = False,
) -> Fit:
    """Fit a meta-model to a population; save it, then measure its fidelity, then draw the map.

    Args:
        population: the base models.
        options: how to fit; see also :func:`dynamo.preset`. A fit that is saved already, and was stopped before it was
            measured and drawn, stays as it is: then they only say where to measure.
        out: the run folder; where it is None, nothing is written, measured or drawn.
        ranks: the processes that share the fit; this one alone where it is None.
        resume: go on from the run folder's checkpoint, or measure and draw the fit that it holds.
        colour_by: the metadata that colours the map; one is chosen where it is None.
        distance: the kind of distance that the map is drawn by; the default where it is None.
        progress: True, "notebook" or False, see :meth:`dynamo.Trainer.run`; or a function that is called with each
            stage (recording, fitting, measuring), and how many steps it has or None, and returns what is called with
            (step, steps, note).

    Returns:
        The fit. Where a launcher has started several processes, it is whole at rank 0 alone, which alone writes.

    Raises:
        Interrupted: Ctrl-C; the message says what is saved.
        DynamoError: a folder that is in use, holds a finished run or one of another population, or has no checkpoint
            where one is asked for or the other way round; options that do not fit the population (see
            :class:`~dynamo.training.plan.FitPlan`).

    Example:
        >>> from dynamo import Population, fit_population, preset
        >>> population = Population.load("population")
        >>> fit = fit_population(population, preset("laptop", steps=20), "run")
        >>> fit.theta.shape == (len(population), 16)
        True
    """
    ranks = ranks or Ranks()
    with stages_of(progress if callable(progress) or not ranks.rank else False) as stages:  # rank 0 alone shows bars
        return _fit_population(population, options or FitOptions(), out, ranks, resume, colour_by, distance, stages)


def _fit_population(
    population: Population,
    options: FitOptions,
    out: Path | str | None,
    ranks: Ranks,
    resume: bool,
    colour_by: str | None,
    distance: str | None,
    progress: Stages,
) -> Fit:
    check_key([base.metadata for base in population], colour_by)
    kind_named(distance or DEFAULT)
    ranks.check(population, options)
    recorded, fitted = progress("recording base models", len(population)), progress("fitting", None)
    if out is None:
        return distributed.fit(population, options, ranks, recorded=recorded, progress=fitted)
    run, measured = Path(out), later(progress, "measuring fidelity", len(population))
    checkpoint, recording = run / CHECKPOINT, run / RECORDING
    fit_into = partial(
        distributed.fit,
        checkpoint=checkpoint,
        resume=resume,
        folder=recording,
        recorded=recorded,
        progress=fitted,
        out=run,
        measured=measured,
    )
    if ranks.rank:  # started by a launcher: rank 0 alone writes
        if resume and (run / RUN).exists():
            return Fit.load(run)  # nothing is left to do but what rank 0 does alone
        return fit_into(population, options, ranks)
    with ExitStack() as stack:
        stack.enter_context(locked(run))
        _check_folder(run, resume)
        FitPlan.of(population, options)  # what does not fit is told before anything is written
        shutil.rmtree(recording, ignore_errors=True)  # of a process that was killed
        stack.callback(shutil.rmtree, recording, ignore_errors=True)
        if (run / RUN).exists():
            fit = Fit.load(run)  # it was stopped when it measured or drew
            fit.check_population(population)
            measure(fit, population, run, find_device(ranks.device(options)), measured, SingleProcess())
        else:
            fit = fit_into(population, options, ranks)
        try:
            write_map(fit, run, colour_by, distance)
        except KeyboardInterrupt:
            raise stopped(run) from None
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
