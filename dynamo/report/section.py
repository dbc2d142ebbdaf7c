"""One part of a report, in whatever form the report is written: a question, its answer, and how to read it."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from dynamo.analysis.table import Table


@attrs.frozen
class Bars:
    """Heights from 0, of which the first ``marked`` stand out."""

    heights: Sequence[float]
    marked: int


@attrs.frozen
class Dots:
    """Rows of numbers on one axis, each with its name."""

    rows: Sequence[tuple[str, Sequence[float]]]


@attrs.frozen
class Line:
    """Numbers in order, all above 0 on a logarithmic axis."""

    values: Sequence[float]


@attrs.frozen(eq=False)
class Section:
    """A part of a report.

    Attributes:
        name: a word for links and files.
        title: its question.
        reading: one sentence on how to read it.
        told: what was found, a sentence each.
        cautions: where it should not be trusted, a sentence each.
        chart: what is drawn.
        picture: a picture, as PNG.
        space: points and lines in three dimensions, see :func:`~dynamo.report.plots.fixed_points.read_turning_page`.
        tables: each with its caption.
    """

    name: str
    title: str
    reading: str
    told: Sequence[str] = ()
    cautions: Sequence[str] = ()
    chart: Bars | Dots | Line | None = None
    picture: bytes = b""
    space: Mapping[str, Any] | None = None
    tables: Sequence[tuple[str, Table]] = ()
