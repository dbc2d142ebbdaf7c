"""A report as one web page that needs nothing else: no server, no network, no other file.

The page states in its own policy what it may do: run the one script and use the one style that are in it, by their
digests, and show pictures that it carries. So nothing that comes with a run, such as a name, can make it do more.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

from dynamo.analysis.table import Table
from dynamo.contracts.shown import brief
from dynamo.report.charts import chart
from dynamo.report.content import Content
from dynamo.report.markup import Markup, element, together
from dynamo.report.page_data import page_data
from dynamo.report.panel import caution, map_panel, network_panel
from dynamo.report.programs import PAGE, PAGE_STYLE, own
from dynamo.report.section import Section
from dynamo.version import __version__

#: Rows of an analysis' table that the page shows.
ROWS = 12

#: Above so many models their table is laid out only when it is seen.
MANY = 200


@attrs.frozen(eq=False)
class Behind:
    """A server behind the page, whose panel takes that of the network that runs in the page.

    Attributes:
        panel: the panel.
        network: what the page's programs must know of the network, see :func:`~dynamo.report.network.asked_of`.
        scripts: its programs by the names of those of the page that they replace, or come before.
        style: its style, after that of the page.
        footer: what the page says of itself.
    """

    panel: Markup
    network: Mapping[str, Any]
    scripts: Mapping[str, str]
    style: str
    footer: str

    __repr__ = brief


def html(content: Content, behind: Behind | None = None) -> str:
    """The page of a report, with a server behind it or without."""
    return written_page(content, behind)[0]


def written_page(content: Content, behind: Behind | None = None) -> tuple[str, str]:
    """The page, and its policy, which a server says in a header too."""
    spaces = [section.space for section in content.sections if section.space is not None]
    script, style = own(*PAGE), own(*PAGE_STYLE)
    table, footer = (
        page_data(content, spaces),
        f"Made by dynamo {__version__}. This page is one file and asks for nothing.",
    )
    if behind is not None:
        script = Markup("\n".join(behind.scripts.get(name, own(name)) for name in PAGE))
        style, footer = Markup(f"{style}\n{behind.style}"), behind.footer
        table = {**table, "network": behind.network}
    policy = _policy(script, style, asks=behind is not None)
    data = json.dumps(table, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{content.title}: {content.run.resolve().name}"),
        element("style", style),
    )
    body = element(
        "body",
        _header(content),
        element("main", *_main(content, behind)),
        element("footer", element("p", footer)),
        # In a JSON text a "<" can only stand in a string, where this is another way to write it.
        element("script", Markup(data.replace("<", "\\u003c")), type="application/json", id="data"),
        element("script", script, type="module"),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n", policy


def _policy(script: str, style: str, *, asks: bool) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_digest(script)}",
            f"style-src {_digest(style)}",
            "img-src data:",
            *(["connect-src 'self'"] if asks else []),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _header(content: Content) -> Markup:
    entries = [("compared", "What"), ("map-part", "Map"), ("network", "Network")]
    entries += [(section.name, _SHORT.get(section.name, section.name.capitalize())) for section in content.sections]
    entries.append(("models", "Models"))
    links = [element("li", element("a", text, href=f"#{name}")) for name, text in entries]
    return element(
        "header",
        element("h1", content.title),
        element("p", content.lead, class_="lead"),
        element("nav", element("ul", *links), aria_label="contents"),
    )


#: Short names of sections for the list of contents.
_SHORT = {"few-labels": "Few labels", "fixed-points": "Fixed points", "embed": "New models", "compare": "Rivals"}


def _main(content: Content, behind: Behind | None) -> list[Markup]:
    spaces = 0
    parts = [_section(content.compared), _map(content, behind)]
    for section in content.sections:
        parts.append(_section(section, spaces))
        spaces += section.space is not None
    parts.append(_models(content))
    return parts


def _section(section: Section, space: int = 0) -> Markup:
    parts: list[Markup] = []
    if section.chart:
        parts.append(element("figure", chart(section.chart, " ".join(section.told)), class_="chart"))
    if section.space is not None:
        canvas = element(
            "canvas",
            tabindex="0",
            data_space=str(space),
            role="img",
            aria_label="fixed and slow points in three dimensions; arrow keys turn, + and - zoom",
        )
        told = element("figcaption", f"{section.space['title']}. Drag, or use the arrow keys, to turn.")
        parts.append(element("figure", canvas, element("ul", class_="legend"), told, class_="space"))
    if section.picture:
        parts.append(element("figure", _picture(section.picture, section.title), class_="picture"))
    parts += [_table(table, caption, folded=number > 0) for number, (caption, table) in enumerate(section.tables)]
    words = element("div", element("h2", section.title), _reading(section), class_="words")
    return element("section", words, element("div", *parts, class_="shown"), id=section.name, class_="part")


def _reading(section: Section) -> Markup:
    told = [element("p", text) for text in section.told]
    return together(element("p", section.reading, class_="reading"), *told, *map(caution, section.cautions))


def _picture(content: bytes, told: str) -> Markup:
    return element("img", src=f"data:image/png;base64,{base64.b64encode(content).decode()}", alt=told)


def _table(table: Table, caption: str, *, folded: bool = False) -> Markup:
    columns, rows = table
    head = element("tr", *(element("th", column, scope="col") for column in columns))
    body = [element("tr", _head_of_row(row[0]), *map(_cell, row[1:])) for row in rows[:ROWS] if row]
    drawn = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    parts = [element("div", drawn, class_="scroll", tabindex="0", role="region", aria_label=caption)]
    if len(rows) > ROWS:
        parts.append(element("p", f"… {len(rows) - ROWS} more rows in the run folder.", class_="more"))
    if folded:
        return element("details", element("summary", caption[:1].upper() + caption[1:]), *parts)
    return together(*parts)


def _head_of_row(value: object) -> Markup:
    return element("th", element("bdi", written(value)), scope="row")


def _cell(value: object) -> Markup:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return element("td", element("bdi", written(value)), class_="number" if number else False)


def written(value: object) -> str:
    """A cell of a table as a text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        small = value != 0 and abs(value) < 1e-3
        return "" if value != value else f"{value:.3g}" if small or abs(value) >= 1e4 else f"{value:.3f}"
    return "" if value is None else str(value)


def _map(content: Content, behind: Behind | None) -> Markup:
    still = str(content.run / "map.png")
    noscript = element("noscript", element("p", f"The map needs JavaScript. {still} is a picture of it."))
    return element(
        "section",
        element("h2", content.map.title),
        _reading(content.map),
        element(
            "div",
            element("div", *map_panel(walk=behind is not None), noscript),
            network_panel(content.network) if behind is None else behind.panel,
            class_="explorer",
        ),
        id="map-part",
    )


def _models(content: Content) -> Markup:
    columns, rows = content.models_table()
    head = element("tr", *(element("th", element("button", name, type="button"), scope="col") for name in columns))
    body = [
        element(
            "tr",
            element("th", element("button", element("bdi", written(row[0])), type="button"), scope="row"),
            *map(_cell, row[1:]),
            data_model=str(number),
        )
        for number, row in enumerate(rows)
    ]
    table = element(
        "table",
        element("caption", "A press on a name shows the network on the map, one on a head sorts."),
        element("thead", head),
        element("tbody", *body),
        id="models-table",
        data_sortable=True,
    )
    return element(
        "section",
        element("h2", "The networks"),
        element("p", "Their metadata, and how well each is imitated on test data.", class_="reading"),
        element("div", table, class_="scroll tall", tabindex="0", role="region", aria_label="the networks"),
        id="models",
        class_="many" if len(rows) > MANY else False,
    )
