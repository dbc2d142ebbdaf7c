"""Snippets: 23,619 short English texts from four sources, each rated from -4 to 4 by twenty people.

C. J. Hutto and E. Gilbert, 2014, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text,
ICWSM. :mod:`dynamo_datasets.snippets_download` gets the file.

The rows are split into training and test before anything is chosen of them, and the vocabulary comes from all training
rows. So the two tasks, and any choice of sources, have one vocabulary and agree on what is a test row, as long as
``path``, ``vocabulary_size``, ``test_fraction`` and ``seed`` are the same; so have their other encodings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from dynamo import Dataset, DynamoError, OutputSpace
from dynamo.contracts.errors import did_you_mean
from dynamo.contracts.files import read_gzip
from dynamo_datasets.encodings import choose_readers
from dynamo_datasets.labelled_texts import text_dataset
from dynamo_datasets.snippets_download import COLUMNS, locate
from dynamo_datasets.split import split_rows
from dynamo_datasets.text import LabelledTexts, count_words, most_frequent, tokenise

if TYPE_CHECKING:
    from dynamo_datasets import SnippetsOptions

#: The classes of the task ``source``, in their order.
SOURCES = ("movie", "nyt", "tweet", "amazon")

_LARGEST = 2**28


@attrs.frozen
class Snippet:
    """One row of the file."""

    source: str
    rating: float
    text: str


def snippets(options: "SnippetsOptions") -> Dataset:
    """The texts as token ids, for one of two tasks, read at the last step.

    ``sentiment``: the sign of the rating, 0 below and 1 above zero; rows rated exactly zero are left out.
    ``source``: the place in :data:`SOURCES`, four classes whichever sources are chosen.

    Raises:
        DynamoError: the file is missing or malformed, or the sources are unknown or too few.
    """
    sources = choose_sources(options.sources)
    if options.task == "source" and len(sources) < 2:
        raise DynamoError(f"data set 'snippets': sources={options.sources} leaves one class; choose two or more")
    rows = [row for row in read(locate(options.path)) if tokenise(row.text)]
    train, test = (
        [rows[index] for index in part.tolist()]
        for part in split_rows(len(rows), options.test_fraction, options.seed, name="snippets")
    )
    texts = [row.text for row in train]
    words = most_frequent(count_words(texts), options.vocabulary_size)
    readers = choose_readers(options.reads, options.encodings, texts, words, options.subwords)

    def labelled(part: Sequence[Snippet]) -> LabelledTexts:
        chosen = [row for row in part if row.source in sources]
        if options.task == "source":
            return LabelledTexts([row.text for row in chosen], [SOURCES.index(row.source) for row in chosen])
        rated = [row for row in chosen if row.rating]
        return LabelledTexts([row.text for row in rated], [int(row.rating > 0) for row in rated])

    outputs = OutputSpace("classes", len(SOURCES) if options.task == "source" else 2, group=options.task)
    dataset = text_dataset(
        labelled(train), labelled(test), readers=readers, max_length=options.max_length, outputs=outputs
    )
    dataset.check("snippets")
    return dataset


def choose_sources(text: str) -> frozenset[str]:
    """The sources of ``all`` or of names joined by ``+``.

    Raises:
        DynamoError: an unknown name.
    """
    if text == "all":
        return frozenset(SOURCES)
    names = [name.strip() for name in text.split("+")]
    for name in names:
        if name not in SOURCES:
            raise DynamoError(f"data set 'snippets' has no source {name!r}: {did_you_mean(name, SOURCES)}")
    return frozenset(names)


def read(path: Path) -> list[Snippet]:
    """The rows of the file, in its order.

    Raises:
        DynamoError: there is no such file, it is damaged, or its columns or a row are malformed.
    """
    if not path.is_file():
        raise DynamoError(
            f"data set 'snippets': there is no file {path}. Get it with 'python -m dynamo_datasets.snippets_download', "
            "which takes the data archive out of the source distribution of vaderSentiment 3.3.2; "
            "or give its place as the option path or in the environment variable DYNAMO_SNIPPETS"
        )
    try:
        lines = read_gzip(path, most=_LARGEST).decode("utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DynamoError(f"{path} is not a gzipped UTF-8 table ({error}); get it again") from None
    if tuple(lines[0].split("\t")) != COLUMNS:
        raise DynamoError(f"{path} has the columns {lines[0]!r}; they must be {', '.join(COLUMNS)}, separated by tabs")
    return [_row(line, f"{path}, row {number}") for number, line in enumerate(lines[1:], start=1)]


def _row(line: str, where: str) -> Snippet:
    try:
        source, rating, text = line.split("\t")
        row = Snippet(source, float(rating), text)
    except ValueError:
        raise DynamoError(f"{where} is malformed: it must have a source, a number and a text") from None
    if row.source not in SOURCES:
        raise DynamoError(f"{where} has the source {row.source!r}: {did_you_mean(row.source, SOURCES)}")
    return row
