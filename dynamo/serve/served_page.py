"""The page of the explorer: that of the report, with a panel whose network runs in Python."""

from pathlib import Path
from typing import Any

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import RecurrentMetaModel
from dynamo.report.content import content_of
from dynamo.report.html import Behind, written_page
from dynamo.report.markup import Markup, element
from dynamo.report.network import asked_of
from dynamo.report.panel import BETWEEN, asking, button, caution
from dynamo.report.programs import own
from dynamo.serve.explorer import Explorer
from dynamo.system.progress import Stages, silent_stages
from dynamo.version import __version__

#: The programs, in the order in which they build on one another.
SCRIPTS = ("talk.js", "between.js", "points.js", "jobs.js", "learn.js", "explore.js")


def served_page(
    explorer: Explorer,
    population: Path | None = None,
    colour_by: str | None = None,
    uploads: bool = False,
    progress: Stages = silent_stages,
) -> tuple[str, str]:
    """The page and its policy.

    Args:
        explorer: the run.
        population: the folder of the base models; the one that the run remembers where it is None.
        colour_by: the metadata that colours the map; one is chosen where it is None.
        uploads: whether new models can be embedded.
        progress: a stage for what takes time.

    Raises:
        DynamoError: what :func:`~dynamo.report.content.content_of` finds.
    """
    content = content_of(
        [explorer.folder], population=population, colour_by=colour_by, with_network=False, progress=progress
    )
    asked = asked_of(explorer.fit, _words(explorer))
    behind = Behind(
        panel=_panel(explorer, asked, uploads),
        network=asked,
        scripts={"play.js": own(*SCRIPTS, package="dynamo.serve")},
        style=own("explore.css", package="dynamo.serve"),
        footer=f"Served by dynamo {__version__} from this machine. This page asks nobody else for anything.",
    )
    return written_page(content, behind)


def _words(explorer: Explorer) -> tuple[str, ...]:
    """Those behind token ids; none where the data is not at hand, or has no words."""
    try:
        models = explorer.population
        return tuple(models.dataset(models[0]).tokens) if models is not None else ()
    except DynamoError:
        return ()


def _panel(explorer: Explorer, asked: dict[str, Any], uploads: bool) -> Markup:
    recurrent = isinstance(explorer.fit.emulator.meta_model, RecurrentMetaModel)
    return element(
        "div",
        element("h3", "The network, running in Python"),
        element(
            "p",
            "Click anywhere on the map, or choose Walk and drag: the network at that place answers.",
            class_="reading",
        ),
        *asking(asked, bool(asked["words"])),
        *(_picture() if asked["paint"] else []),
        caution(BETWEEN),
        *_between(),
        *_points(),
        *(_fixed_points() if recurrent else []),
        *(_few_labels() if explorer.population is not None else []),
        *(_embed() if uploads else []),
        id="network",
    )


def _picture() -> list[Markup]:
    door = element("input", type="file", id="picture", accept="image/*")
    return [element("p", element("label", "A picture from a file ", door), class_="row")]


def _between() -> list[Markup]:
    return [
        element("h3", "From one to another"),
        element(
            "div",
            element("label", "From ", element("select", id="from")),
            element("label", "to ", element("select", id="to")),
            element(
                "input", type="range", id="along", min="0", max="100", value="0", aria_label="how far on the way, in %"
            ),
            element("span", "0 %", id="along-told"),
            class_="row",
        ),
    ]


def _points() -> list[Markup]:
    return [
        element("h3", "Points with names"),
        element(
            "div",
            element("input", type="text", id="point-name", maxlength="80", aria_label="the name", placeholder="a name"),
            button("Save this point", "save-point", "keep the θ that answers now, in points.toml of the run"),
            button(
                "Save the mean of the chosen",
                "save-mean",
                "the mean θ of the models inside the lasso",
                disabled=True,
            ),
            class_="row",
        ),
        element("p", id="points-told", class_="told", role="alert"),
        element("div", *_job("onnx"), class_="row"),
        element("ul", id="points"),
        element("pre", id="lines", hidden=True, tabindex="0", aria_label="Python"),
    ]


def _job(name: str) -> list[Markup]:
    return [
        element("progress", id=f"{name}-bar", hidden=True, aria_label="progress"),
        element("button", "Cancel", type="button", id=f"{name}-stop", hidden=True),
    ]


def _fixed_points() -> list[Markup]:
    held = element(
        "select", element("option", "zeros", value="zeros"), element("option", "mean", value="mean"), id="held"
    )
    return [
        element("h3", "Fixed points"),
        element("p", "Where the network stands still while its input is held.", class_="reading"),
        element(
            "div",
            element("label", "Input ", held),
            button("Look for them here", "fixed-points-start", "fixed and slow points at the θ that answers now"),
            *_job("fixed-points"),
            class_="row",
        ),
        element("p", id="fixed-points-told", class_="told", role="status"),
        element("figure", id="fixed-points-shown", class_="space", hidden=True),
    ]


def _few_labels() -> list[Markup]:
    return [
        element("h3", "Learning from a few labels"),
        element("p", "θ moves by the labels alone; the network around it stays.", class_="reading"),
        element(
            "div",
            element("label", "Labels ", element("input", type="number", id="labels", min="1", value="30")),
            button("Learn from here", "few-labels-start", "begin at the θ that answers now; the walk is drawn"),
            *_job("few-labels"),
            class_="row",
        ),
        element("p", id="few-labels-told", class_="told", role="status"),
        element("div", id="few-labels-scores"),
        element("ul", id="few-labels-ends", class_="ends"),
    ]


def _embed() -> list[Markup]:
    return [
        element("h3", "New models on this map"),
        element(
            "div",
            element(
                "input",
                type="text",
                id="folder",
                aria_label="a population's folder",
                placeholder="a population's folder",
            ),
            button("Put it on the map", "embed-start", "find θ of every model in the folder, under that of --uploads"),
            *_job("embed"),
            class_="row",
        ),
        element("p", id="embed-told", class_="told", role="status"),
        element("ul", id="embedded"),
    ]
