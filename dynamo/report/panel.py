"""The map with its controls; and the panel beside it: an input is typed, drawn or pasted, and the network answers."""

from collections.abc import Mapping
from typing import Any

from dynamo.report.markup import Markup, element
from dynamo.report.network import Network


def button(text: str, name: str, told: str, **attributes: str | bool) -> Markup:
    """A button of the page, with what it does as its title."""
    return element("button", text, type="button", id=name, title=told, **attributes)


def caution(text: str) -> Markup:
    """A warning."""
    return element("p", element("b", "Be careful. "), text, class_="caution")


#: That a place on the map is made up.
BETWEEN = (
    "Coordinates are those of distances. A place between the models gets the mean θ of the nearest: "
    "that network is made up by the map, and no trained one stands behind it."
)


def map_panel(*, walk: bool) -> list[Markup]:
    """The map with its controls, its legend, and what is chosen on it. They say nothing of any run.

    Args:
        walk: whether the pointer can also be dragged along to ask the network on the way.
    """
    sides = element(
        "div",
        button("2-D", "flat", "the first two coordinates", aria_pressed="true"),
        button("3-D", "turnable", "the first three, to be turned", aria_pressed="false"),
        class_="group",
        id="sides",
        role="group",
        aria_label="dimensions",
    )
    walking = button("Walk", "walk", "drag over the map; the network answers along the way", aria_pressed="false")
    tools = element(
        "div",
        button("Look", "look", "click on a network or anywhere between; drag to move or turn", aria_pressed="true"),
        button("Lasso", "lasso", "draw around networks to get their names and a table", aria_pressed="false"),
        walking if walk else "",
        class_="group",
        id="tools",
        role="group",
        aria_label="what the pointer does",
    )
    zoom = element(
        "div",
        button("−", "farther", "zoom out", aria_label="zoom out"),
        button("+", "nearer", "zoom in (also Ctrl and the wheel)", aria_label="zoom in"),
        button("Reset", "whole", "show the whole map"),
        class_="group",
    )
    colour = element("label", "Colour ", element("select", element("option", "none", value=""), id="colour"))
    same, none = element("option", "as colour", value="same"), element("option", "none", value="")
    shape = element("label", "Shape ", element("select", same, none, id="shape"))
    canvas = element(
        "canvas",
        id="map",
        tabindex="0",
        role="application",
        data_tool="look",
        aria_label="Map of the networks. Arrow keys go from network to network, Enter goes there, the space bar adds "
        "it to the selection, Escape clears.",
        aria_describedby="tip",
    )
    selection = element(
        "div",
        element("p", element("b", id="selection-count"), " "),
        element("ul", id="selection-names"),
        element(
            "p",
            button("Save as CSV", "download", "names, metadata, fidelity, coordinates and thetas"),
            " ",
            button("Clear", "unselect", "select none"),
        ),
        id="selection",
        hidden=True,
    )
    return [
        element("div", sides, tools, zoom, colour, shape, class_="controls"),
        element("div", canvas, element("div", id="tip", role="status", hidden=True), class_="stage"),
        element("ul", id="legend", class_="legend"),
        selection,
    ]


def network_panel(network: Network | str) -> Markup:
    """The panel in which the network runs, or why there is none."""
    if not isinstance(network, Network):
        return element("div", element("p", network, class_="reading"), id="network")
    return element(
        "div",
        element("h3", "The network, running here"),
        element(
            "p", "Click anywhere on the map: the network at that place answers, in this page alone.", class_="reading"
        ),
        *asking(network.table, bool(network.words)),
        element("p", _weights(network), class_="more"),
        caution(BETWEEN),
        id="network",
    )


def asking(table: Mapping[str, Any], known: bool) -> list[Markup]:
    """Where the reader is on the map, what is asked there, and the answer.

    Args:
        table: what the page knows of the network, see :func:`~dynamo.report.network.asked_of`.
        known: whether the words behind token ids are known.
    """
    tokens, grey = table["kind"] == "tokens", table["paint"]
    if tokens:
        asked, rows = ("Type a sentence", "2") if known else ("Type token ids", "1")
        hint = "Words that it does not know are read as <unk>." if known else ""
    elif grey:
        asked, rows, hint = "Draw, or change the numbers", "8", "With Shift the pointer wipes."
        hint = hint if table["kind"] == "image" else f"Each row is a step. {hint}"
    else:
        asked, rows, hint = "Paste a sequence", "8", "One step a line."
    told = "the sequence as a picture; the numbers beside it can be edited"
    paint = element("canvas", id="paint", role="img", aria_label=told) if grey else ""
    area = element("textarea", id="input", rows=rows, spellcheck="false")
    python = element(
        "details",
        element("summary", "The same in Python"),
        element("p", "from dynamo import Fit", class_="code"),
        element("pre", id="python"),
    )
    typed = element(
        "div", element("label", asked, for_="input"), area, element("p", hint, class_="more"), class_="typed"
    )
    return [
        element("p", id="where", aria_live="polite"),
        element("label", "Head ", element("select", id="head")),
        element("div", paint, typed, class_="ask"),
        element(
            "p",
            button("Another example", "example", "an input that the run has kept"),
            " ",
            button("Clear", "clear", "begin anew"),
        ),
        element("p", id="answer-problem", role="alert"),
        element("div", id="answer", aria_live="polite"),
        python,
    ]


def _weights(network: Network) -> str:
    size = f"{network.size / 1e6:.1f} MB" if network.size >= 1e5 else f"{network.size / 1e3:.0f} kB"
    kind = "the run's inputs" if network.examples else "made-up inputs"
    told = (
        f"Its weights: {network.bits} bits each, {size}. On {kind} the outputs differ from the fit's own by at most "
        f"{network.error:.1g}."
    )
    if network.left_out:
        told += f" {network.left_out:,} words, those with the highest ids, were left out for want of room."
    return told
