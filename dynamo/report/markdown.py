"""A report as a text in Markdown, with its pictures in files beside it."""

import re
from collections.abc import Mapping

from dynamo.analysis.table import Table
from dynamo.contracts.errors import printable
from dynamo.report.content import Content
from dynamo.report.html import ROWS, written
from dynamo.report.pdf import chart_figure, map_figure
from dynamo.report.run import picture_of
from dynamo.report.section import Section


def markdown(content: Content, folder: str) -> tuple[str, Mapping[str, bytes]]:
    """The text of a report, and the content of its pictures by their file names.

    Args:
        content: the report.
        folder: where the pictures will lie, as the text names it.
    """
    pictures = {"map.png": picture_of(map_figure(content), "map")}
    parts = [f"# {content.title}", content.lead, *_section(content.compared, pictures, folder)]
    parts += _section(content.map, pictures, folder)
    parts.insert(len(parts), f"![the map]({folder}/map.png)")
    for section in content.sections:
        parts += _section(section, pictures, folder)
    parts += ["## The networks", _table(content.models_table())]
    return "\n\n".join(parts) + "\n", pictures


def _section(section: Section, pictures: dict[str, bytes], folder: str) -> list[str]:
    parts = [f"## {_plain(section.title)}", f"*{section.reading}*", *map(_plain, section.told)]
    parts += [f"> **Be careful.** {_plain(caution)}" for caution in section.cautions]
    picture = section.picture
    if section.chart is not None:
        picture = picture_of(chart_figure(section.chart), section.name)
    if picture:
        pictures[f"{section.name}.png"] = picture
        parts.append(f"![{_plain(section.title)}]({folder}/{section.name}.png)")
    for caption, (columns, rows) in section.tables:
        parts += [f"{caption[:1].upper()}{caption[1:]}:", _table((columns, rows[:ROWS]))]
        parts += [f"… {len(rows) - ROWS} more rows"] if len(rows) > ROWS else []
    return parts


def _table(table: Table) -> str:
    columns, rows = table
    lines = [columns, ["---"] * len(columns), *([written(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cell if cell == '---' else _plain(cell) for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """A user's text that Markdown takes as it is: on one line, and none of its characters a mark."""
    one_line = " ".join(printable(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", one_line)
