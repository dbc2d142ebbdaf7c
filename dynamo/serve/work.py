"""What a job does, in its own process."""

from base64 import b64encode
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from dynamo.analysis.arrays import Floats
from dynamo.analysis.dynamics.linearisation import Linearisation
from dynamo.analysis.dynamics.state_space import StateSpace, state_space
from dynamo.analysis.networks.few_labels import few_labels
from dynamo.analysis.networks.labels import has_classes
from dynamo.analysis.networks.task import task_of
from dynamo.contracts.errors import DynamoError, printable
from dynamo.contracts.shown import brief
from dynamo.fit.embedding import EmbedOptions, embed
from dynamo.fit.exports import onnx_bytes
from dynamo.fit.fit import Fit
from dynamo.population.population import Population
from dynamo.report.answer import plain
from dynamo.report.coordinates import map_coordinates, places_of, with_new_models
from dynamo.system.progress import Progress

#: Starts of a search for fixed points, and inputs whose states they are.
STARTS, INPUTS = 256, 64

#: Draws of few labels, and after how many steps of learning θ is shown.
DRAWS, SHOWN = 2, 5

#: Takes what a job has to show before it has ended.
Show = Callable[[dict[str, Any]], None]


@attrs.frozen
class Work:
    """What is to be done; it goes to another process.

    Attributes:
        kind: a key of :data:`KINDS`.
        run: the run folder.
        theta: where; empty for ``embed``.
        head: that reads the states.
        held: the constant input of ``fixed-points``: ``zeros`` or ``mean``.
        population: the folder of new models, or of the run's own for ``few-labels``.
        labels: how many, for ``few-labels``.
    """

    kind: str
    run: Path
    theta: tuple[float, ...] = ()
    head: str = ""
    held: str = "zeros"
    population: Path | None = None
    labels: int = 0

    __repr__ = brief


def work(asked: Work, told: Connection) -> None:
    """Do it, and tell: ``("progress", done, total, note)`` and ``("part", what)``, at last ``("done", result)`` or
    ``("failed", why)``.
    """
    torch.set_num_threads(1)  # answers come first

    def progress(done: int, total: int, note: str | float = "", /) -> None:
        told.send(("progress", int(done), int(total), note if isinstance(note, str) else f"loss {note:.4g}"))

    try:
        told.send(("done", KINDS[asked.kind](asked, progress, lambda part: told.send(("part", part)))))
    except DynamoError as error:
        told.send(("failed", printable(str(error))))
    except Exception as error:  # a fault of ours, which the browser should see rather than a job without an end
        told.send(("failed", printable(f"{type(error).__name__}: {error}")[:500]))
    finally:
        told.close()


def _fixed_points(asked: Work, progress: Progress, show: Show) -> dict[str, Any]:
    """Fixed and slow points as the report's page draws them."""
    fit = Fit.load(asked.run)
    if fit.probes is None:
        raise DynamoError("this run has kept no inputs, from whose states the search could start")
    model = fit.model_at(list(asked.theta), asked.head)
    inputs = fit.probes[:INPUTS]
    found = state_space(model, inputs, asked.held, starts=STARTS, progress=progress)
    told = found.points.describe(found.linearisation)
    if found.linearisation is None or found.portrait is None:
        return {"told": told, "space": None}
    return {"told": told, "space": _space(found, found.linearisation)}


def _space(found: StateSpace, near: Linearisation) -> dict[str, Any]:
    points, portrait = found.points, found.portrait
    assert portrait is not None
    inside, stable = ~points.is_outlier, near.is_stable
    sorts = {
        "stable fixed points": inside & points.is_fixed & stable,
        "unstable fixed points": inside & points.is_fixed & ~stable,
        "slow points": inside & ~points.is_fixed,
    }
    places = portrait.coordinates(points.states)
    kinds = [
        {"name": name, "places": places[which.numpy()].round(5).tolist()}
        for name, which in sorts.items()
        if bool(which.any())
    ]
    axes = [f"component {number + 1} ({share:.0%})" for number, share in enumerate(portrait.shares)]
    return {"kinds": kinds, "lines": [line.round(5).tolist() for line in portrait.trajectories], "axes": axes}


def _embed(asked: Work, progress: Progress, show: Show) -> dict[str, Any]:
    """New models on the map: θ, where they lie, and whether they are foreign."""
    fit = Fit.load(asked.run)
    assert asked.population is not None
    new = embed(fit, Population.load(asked.population), options=EmbedOptions(), progress=progress)
    _, places = with_new_models(fit, new)
    return {
        "models": [
            {
                "name": printable(name),
                "theta": theta,
                "head": new.placed.emulator.group_of(number),
                "place": place,
                "foreign": bool(foreign),
                "figures": [None if value != value else value for value in figures],
            }
            for number, (name, theta, place, foreign, figures) in enumerate(
                zip(
                    new.names,
                    new.theta.tolist(),
                    _flat(places).tolist(),
                    new.is_foreign.tolist(),
                    new.figures.tolist(),
                    strict=True,
                )
            )
        ]
    }


def _few_labels(asked: Work, progress: Progress, show: Show) -> dict[str, Any]:
    """What few labels teach, from a θ on; each part is the θ of every draw and where it lies, every few steps."""
    fit = Fit.load(asked.run)
    population, start = fit.open_population(asked.population), torch.tensor(asked.theta)
    like, drawn, steps = int((fit.theta - start).norm(dim=1).argmin()), map_coordinates(fit), 0

    def watch(thetas: Floats) -> None:
        nonlocal steps
        if steps % SHOWN == 0:
            show(
                {"step": steps, "theta": thetas.tolist(), "places": _flat(places_of(fit, drawn, thetas, like)).tolist()}
            )
        steps += 1

    def others(done: int, total: int, note: str | float = "", /) -> None:
        progress(done, total, "other uses of the labels")

    def moving(done: int, total: int, note: str | float = "", /) -> None:
        progress(done, total, "moving θ")

    task = task_of(fit, population, asked.head)
    learned = few_labels(
        fit,
        population,
        asked.labels,
        draws=DRAWS,
        balanced=has_classes(task.space),
        start=asked.theta,
        head=asked.head,
        watch=watch,
        progress=moving,
        baseline_progress=others,
    )
    columns, rows = learned.table()
    places = _flat(places_of(fit, drawn, learned.learned, like)).tolist()
    ends = [
        {"theta": theta, "place": place, "steps": count, "head": asked.head}
        for theta, place, count in zip(learned.learned.tolist(), places, learned.steps, strict=True)
    ]
    told: dict[str, Any] = plain({"told": learned.describe(), "columns": columns, "rows": rows, "ends": ends})
    return told


def _onnx(asked: Work, progress: Progress, show: Show) -> dict[str, Any]:
    """The network at a θ as a file of ONNX, in letters."""
    progress(0, 0, "writing ONNX")
    return {"file": b64encode(onnx_bytes(Fit.load(asked.run), asked.theta, asked.head)).decode()}


def _flat(places: Floats) -> Floats:
    """The first two coordinates, ``[M, 2]``."""
    flat = np.zeros((len(places), 2))
    flat[:, : places.shape[1]] = places[:, :2]
    return flat


#: The kinds of work by name.
KINDS: dict[str, Callable[[Work, Progress, Show], dict[str, Any]]] = {
    "fixed-points": _fixed_points,
    "embed": _embed,
    "few-labels": _few_labels,
    "onnx": _onnx,
}
