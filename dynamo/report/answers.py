"""What ``dynamo analyse`` and ``dynamo embed`` have left in a run folder, as parts of a report."""

import csv
import io
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import attrs
from PIL import Image

from dynamo.analysis.table import Table
from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import one_line, read_bytes
from dynamo.report.plots.fixed_points import read_turning_page
from dynamo.report.section import Section

#: The most bytes of a picture, a table or a page that a report takes.
LARGEST = 2**24


@attrs.frozen
class Question:
    """A question of ``dynamo analyse``, and what its folder holds.

    Attributes:
        folder: in the run folder; the question's name.
        title, reading, caution: as in :class:`~dynamo.report.section.Section`.
        tables: the names of its tables with a caption each, the main one first.
        pictures: of these the first that is there is shown.
    """

    folder: str
    title: str
    reading: str
    caution: str
    tables: Sequence[tuple[str, str]]
    pictures: Sequence[str]


QUESTIONS = (
    Question(
        "clusters",
        "Do the models form clusters?",
        "The map with the clusters outlined, and whether the models of one group lie together: 1 is perfect agreement, "
        "0 is chance.",
        "Metadata can follow the map where no clusters can be shown without it, and among few models hardly any can; "
        "models along a bent line can look like clusters at its ends.",
        (
            ("agreement", "agreement with the metadata"),
            ("cuts", "the cuts that were tried"),
            ("groups", "mean distances"),
        ),
        ("clusters",),
    ),
    Question(
        "order",
        "Does a number follow the map?",
        "Spearman's correlation of the number with the first coordinate and with the way through the models, and how "
        "well a model's neighbours predict it; p compares with shuffled numbers.",
        "A number that follows the map need not be what the map shows: whatever it goes along with would do.",
        (("order", "figures"), ("models", "the models")),
        ("order",),
    ),
    Question(
        "distances",
        "How far apart are the models?",
        "Each model with its nearest and its farthest other, by what their emulators do on the same inputs.",
        "A distance below the noise floor, where one was measured, is no difference: equal models lie as far apart.",
        (("neighbours", "nearest and farthest"),),
        (),
    ),
    Question(
        "alignment",
        "Would another meta-model draw the same map?",
        "The maps of several fits over one another: lines lead from a network's mean place to its place in each map.",
        "With few models and many dimensions unrelated maps fit one another too: compare with shuffled models.",
        (("runs", "pairs of runs"), ("alignment", "the networks, the least stable first")),
        ("alignment",),
    ),
    Question(
        "compare",
        "Do other measures of similarity tell the same groups apart?",
        "The map beside established pairwise measures on the same models and inputs; higher is better but for the "
        "violation rate.",
        "All of this measures whether the named groups are told apart. A measure that sees other differences is not "
        "wrong.",
        (("compare", "figures"), ("costs", "what each costs")),
        ("compare",),
    ),
    Question(
        "averages",
        "What lies between models, and how good is their average?",
        "Test scores of the network at the mean θ, beside averaged weights and the ensemble.",
        "The mean of very different models need not be good.",
        (("ways", "ways from one to the other"), ("averages", "averages")),
        ("ways", "averages"),
    ),
    Question(
        "landscape",
        "How good is the network over the map?",
        "The score on test data over the plane of the first two principal components of θ, relative to the best base "
        "model; the models and their hull lie on top.",
        "The best of many places is chosen on the examples that it is scored on, so its score is rather too good.",
        (("landscape", "the models"),),
        ("landscape",),
    ),
    Question(
        "search",
        "Is there a θ better than every base model?",
        "The way of a search over the map, and every θ that was tried.",
        "The tuning score of the chosen θ is too good; only the score on test data counts.",
        (("search", "scores"),),
        ("search",),
    ),
    Question(
        "few-labels",
        "What can be learned from a few labels by moving θ alone?",
        "Test scores after θ has moved by a few labels, beside other uses of the same labels.",
        "The intervals are over draws of the labels, not over populations.",
        (("few-labels", "methods"),),
        ("few-labels",),
    ),
    Question(
        "embed",
        "Where do new models lie?",
        "The map in the background with new models on it.",
        "A model that is called foreign is imitated too poorly for its place to mean anything.",
        (("embedding", "new models"),),
        ("embedding",),
    ),
    Question(
        "fixed-points",
        "Where does the network stay put?",
        "Fixed and slow points of the dynamics while the input is held, in the space of the states that are visited; "
        "grey lines are trajectories.",
        "Points marked as outliers are far from all visited states, and no search proves that there are no others.",
        (("fixed-points", "points"),),
        ("fixed-points",),
    ),
    Question(
        "attractors",
        "What shape have the attractors, and how do they change over the map?",
        "The shape of the fixed and slow points at several places of the map.",
        "The rule behind the kind of a shape has fixed constants; read it together with the figures.",
        (("attractors", "shapes"),),
        ("points", "attractors"),
    ),
    Question(
        "words",
        "Do models that read words well do the task well?",
        "The word score (equation 8 of the paper) over the map, and against the test score.",
        "The score grows with the size of the logits, so that a confident model can beat a discerning one.",
        (("words", "the models"),),
        ("words",),
    ),
    Question(
        "conjugacy",
        "Do the state maps carry the dynamics over?",
        "How far a step of the network, mapped, is from a step of the base model; 1 is as wrong as standing still.",
        "A small residual is not yet a conjugacy: the state map need not be invertible.",
        (("conjugacy", "the models"),),
        ("conjugacy",),
    ),
)


def answers(run: Path) -> list[Section]:
    """The answers that a run folder holds, in the order of :data:`QUESTIONS`.

    A file that is damaged or too large is left out, with a caution that says so.

    Args:
        run: the run folder.
    """
    found = []
    for question in QUESTIONS:
        folder, problems, picture, space = run / question.folder, list[str](), b"", None
        tables: list[tuple[str, Table]] = []
        if not folder.is_dir():
            continue
        try:
            for name, caption in question.tables:
                if (folder / f"{name}.csv").exists():
                    tables.append((caption, read_table(folder / f"{name}.csv", run)))
            there = [name for name in question.pictures if (folder / f"{name}.png").exists()]
            picture = _read_picture(folder / f"{there[0]}.png", run) if there else b""
            page = folder / f"{question.folder}.html"
            if question.folder == "fixed-points" and page.exists():
                space = read_turning_page(read_bytes(page, within=run, most=LARGEST).decode(), str(page))
        except (DynamoError, UnicodeDecodeError) as error:
            problems = [f"Something is missing here: {error}"]
        if tables or picture or problems:
            cautions = [question.caution, *problems]
            found.append(
                Section(
                    question.folder,
                    question.title,
                    question.reading,
                    _told(question, tables),
                    cautions,
                    picture=picture,
                    space=space,
                    tables=tables,
                )
            )
    return found


def _told(question: Question, tables: Sequence[tuple[str, Table]]) -> list[str]:
    """What a table says in a sentence: how many models are no farther from their nearest than equal models may be."""
    if question.folder != "distances" or not tables:
        return []
    columns, rows = tables[0][1]
    within = [row[columns.index("within noise")] for row in rows] if "within noise" in columns else []
    if not any(cell in ("True", "False") for cell in within):
        return ["The noise floor was not measured: `dynamo analyse distances RUN --twins 8` fits again for it."]
    return [
        f"{within.count('True')} of {len(rows)} models are no farther from their nearest than one that is there twice "
        "is from itself: no difference is shown between these."
    ]


def read_table(path: Path, within: Path) -> Table:
    """A table that an analysis has written; cells that are numbers become numbers.

    Raises:
        DynamoError: it is missing, too large, or no table.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_bytes(path, within=within, most=LARGEST).decode())))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DynamoError(f"cannot read {path}: {error}") from None
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise DynamoError(f"cannot read {path}: its rows have different lengths, or there are none")
    return rows[0], [[_value(cell) for cell in row] for row in rows[1:]]


def _value(cell: str) -> object:
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if isfinite(number) and not cell.strip().isdecimal() else cell


def _read_picture(path: Path, within: Path) -> bytes:
    """A picture with at most 256 colours, which takes a third of the room."""
    content, smaller = read_bytes(path, within=within, most=LARGEST), io.BytesIO()
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(smaller, "PNG", optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DynamoError(f"cannot read {path}: it is no PNG picture ({one_line(error)})") from None
    return smaller.getvalue()
