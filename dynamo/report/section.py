"""One part of a report, in whatever form the report is written: a question, its answer, and how to read it."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from dynamo.analysis.table import Table


@attrs.frozen(eq=False)
class Section:
    """A part of a report.

    Attributes:
        name: a word for links and files.
        title: its question.
        reading: one sentence on how to read it.
        told: what was found, a sentence each.
        cautions: where it should not be trusted, a sentence each.
        chart: a drawing, as SVG.
        picture: a picture, as PNG.
        space: points and lines in three dimensions, see :func:`~dynamo.report.plots.fixed_points.read_turning_page`.
        tables: each with its caption.
    """

    name: str
    title: str
    reading: str
    told: Sequence[str] = ()
    cautions: Sequence[str] = ()
    chart: str = ""
    picture: bytes = b""
    space: Mapping[str, Any] | None = None
    tables: Sequence[tuple[str, Table]] = ()
