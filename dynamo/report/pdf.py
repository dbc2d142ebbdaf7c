"""A report on paper: a page for each part, with the same figures."""

import io
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from dynamo.contracts.errors import printable
from dynamo.report.charts import MOST
from dynamo.report.content import Content
from dynamo.report.html import written
from dynamo.report.plots.map import COLOURS, draw_order, draw_points
from dynamo.report.plots.picture import TICK, Picture, as_text
from dynamo.report.section import Bars, Dots, Line, Section

#: Inches of a page (A4), letters in a line, and the rows and columns of a table that there is room for.
PAGE, LETTERS, ROWS, COLUMNS = (8.27, 11.69), 92, 20, 8


def pdf(content: Content) -> bytes:
    """The pages of a report as a file."""
    buffer = io.BytesIO()
    with PdfPages(buffer, metadata={"Title": content.title, "CreationDate": None}) as pages:
        first = _page(f"{content.title}", [content.lead, *content.compared.told])
        _draw_table(first, content.compared, 0.72)
        pages.savefig(first)
        around = _page(content.map.title, _texts(content.map))
        _draw_map(around.add_axes((0.12, 0.2, 0.8, 0.5)), content)
        pages.savefig(around)
        for section in content.sections:
            pages.savefig(_section(section))
        models = [("the networks", content.models_table())]
        pages.savefig(_section(Section("models", "The networks", "Their metadata and fidelity.", tables=models)))
    return buffer.getvalue()


def map_figure(content: Content) -> Figure:
    """The map alone."""
    figure = Picture(figsize=(6.4, 5.2), layout="constrained")
    _draw_map(figure.subplots(), content)
    return figure


def chart_figure(chart: Bars | Dots | Line) -> Figure:
    """A drawing of a section alone."""
    figure = Picture(figsize=(6.4, 2.6), layout="constrained")
    _draw_chart(figure.subplots(), chart)
    return figure


def _draw_map(axes: Axes, content: Content) -> None:
    values = None if content.colour is None else content.fit.values_of(content.colour)
    draw_points(axes, content.drawn.places, content.colour, values, content.drawn.kind)
    draw_order(axes, content.drawn.places, content.lines, None)


def _draw_chart(axes: Axes, chart: Bars | Dots | Line) -> None:
    if isinstance(chart, Bars):
        heights = [*chart.heights][:MOST]
        colours = [COLOURS[0] if number < chart.marked else "0.8" for number in range(len(heights))]
        axes.bar(np.arange(1, len(heights) + 1), heights, color=colours)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("coordinate")
        axes.set_ylabel("share of variance")
    elif isinstance(chart, Dots):
        for number, (_, values) in enumerate(chart.rows):
            axes.scatter(values, [-number] * len(values), s=14, c=COLOURS[0], alpha=0.4, linewidths=0)
            known = [value for value in values if np.isfinite(value)]
            if known:
                axes.plot([np.median(known)] * 2, [-number - 0.3, -number + 0.3], color="black")
        axes.set_yticks([-number for number in range(len(chart.rows))], [name for name, _ in chart.rows])
    else:
        axes.plot(np.arange(1, len(chart.values) + 1), chart.values, color=COLOURS[0])
        if min(chart.values) > 0:
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
    axes.spines[["top", "right"]].set_visible(False)


def _page(title: str, texts: list[str]) -> Figure:
    figure = Picture(figsize=PAGE)
    figure.text(0.1, 0.95, "\n".join(textwrap.wrap(title, 60)), fontsize=16, weight="bold", va="top")
    lines = "\n\n".join("\n".join(textwrap.wrap(printable(text), LETTERS)) for text in texts)
    figure.text(0.1, 0.9, lines, fontsize=9, va="top", linespacing=1.35)
    return figure


def _texts(section: Section) -> list[str]:
    return [section.reading, *section.told, *(f"Be careful. {caution}" for caution in section.cautions)]


def _section(section: Section) -> Figure:
    figure = _page(section.title, _texts(section))
    if section.chart is not None:
        _draw_chart(figure.add_axes((0.28, 0.48, 0.62, 0.2)), section.chart)
    if section.picture:
        axes = figure.add_axes((0.08, 0.38, 0.84, 0.34))
        axes.imshow(imread(io.BytesIO(section.picture)))
        axes.set_axis_off()
    _draw_table(figure, section, 0.36 if section.picture or section.chart else 0.72)
    return figure


def _draw_table(figure: Figure, section: Section, top: float) -> None:
    """Draw the first table of a section, as much of it as there is room for, from a height downwards."""
    if not section.tables or not section.tables[0][1][1]:
        return
    caption, (columns, rows) = section.tables[0]
    shown = [[as_text(written(cell), TICK * 2) for cell in row[:COLUMNS]] for row in rows[:ROWS]]
    height = min(top - 0.06, 0.016 * (len(shown) + 1))
    axes = figure.add_axes((0.1, top - height - 0.02, 0.82, height))
    axes.set_axis_off()
    heads = [as_text(column, TICK) for column in columns[:COLUMNS]]
    drawn = axes.table(shown, colLabels=heads, loc="upper left", cellLoc="left", bbox=Bbox.unit(), edges="horizontal")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)
    left_out = len(rows) > ROWS or len(columns) > COLUMNS
    figure.text(0.1, top, f"{caption}{' (the first rows and columns)' if left_out else ''}", fontsize=8, color="0.4")
