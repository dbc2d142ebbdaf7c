"""The panel beside the map: an input is typed, drawn or pasted, and the network answers."""

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
