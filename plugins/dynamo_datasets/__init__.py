"""Data sets: digits, generated tasks with a known ground truth, real texts, and arrays of one's own.

Listing them is instant; what a data set needs is imported when it is built.
"""

from typing import TYPE_CHECKING, Any, Literal

import attrs

from dynamo import Component, DynamoError, hookimpl, option
from dynamo.contracts.options import positive

if TYPE_CHECKING:
    from dynamo import Dataset


def _at_least(least: int, default: int, help: str) -> Any:
    return option(default, help, check=lambda value: value >= least, rule=f"at least {least}")


def _seed(help: str) -> Any:
    return _at_least(0, 0, help)


def _test_fraction(default: float) -> Any:
    help = "the share of the examples kept for the test"
    return option(default, help, check=lambda value: 0 < value < 1, rule="above 0 and below 1")


@attrs.frozen
class DigitsRowsOptions:
    """Options of ``digits-rows``."""

    test_fraction: float = _test_fraction(0.25)
    seed: int = _seed("seed of the split")


@attrs.frozen
class SyntheticSentimentOptions:
    """Options of ``synthetic-sentiment``."""

    train_size: int = positive(4000, "training sentences")
    test_size: int = positive(1000, "test sentences")
    min_length: int = positive(4, "words in the shortest sentences")
    max_length: int = positive(16, "words in the longest sentences")
    neutral_words: int = _at_least(0, 20, "words without a valence")
    positive_words: int = positive(8, "words with a valence above zero")
    negative_words: int = positive(8, "words with a valence below zero")
    negations: int = _at_least(0, 4, "words that flip the valences among the next 3 words")
    intensifiers: int = _at_least(0, 4, "words that double the next valence")
    seed: int = _seed("seed of the sentences")

    def __attrs_post_init__(self) -> None:
        if self.min_length > self.max_length:
            raise DynamoError(
                f"option 'min_length' is {self.min_length}: it must be at most max_length, {self.max_length}"
            )


@attrs.frozen
class FlipFlopOptions:
    """Options of ``flip-flop``."""

    bits: int = positive(3, "channels, each with its own memory")
    steps: int = positive(50, "steps in a sequence")
    train_size: int = positive(2000, "training sequences")
    test_size: int = positive(500, "test sequences")
    pulse_probability: float = option(
        0.1,
        "probability of a pulse, for each channel and step",
        check=lambda value: 0 < value <= 1,
        rule="above 0 and at most 1",
    )
    seed: int = _seed("seed of the pulses")


@attrs.frozen
class SnippetsOptions:
    """Options of ``snippets``."""

    task: Literal["sentiment", "source"] = option("sentiment", "tell good from bad, or where the text comes from")
    sources: str = option("all", "'all', or some of movie, nyt, tweet and amazon joined by '+'")
    path: str = option("", "the .tsv.gz file; empty: $DYNAMO_SNIPPETS, or else ~/.cache/dynamo/snippets.tsv.gz")
    vocabulary_size: int = _at_least(3, 2000, "words, the most frequent of the training texts, with <pad> and <unk>")
    max_length: int = positive(32, "words read of each text, from its beginning")
    test_fraction: float = _test_fraction(0.2)
    seed: int = _seed("seed of the split and of the order")


@attrs.frozen
class CorpusOptions:
    """The options that ``imdb`` and ``ag-news`` share."""

    root: str = option("", "the folder of the unpacked corpus")
    download: bool = option(False, "get the corpus with the 'datasets' library instead of reading root")
    vocabulary: str = option("", "a text file with one word a line; empty: the words of the training texts")
    vocabulary_size: int = _at_least(3, 10000, "words taken from the training texts, with <pad> and <unk>")


@attrs.frozen
class IMDBOptions(CorpusOptions):
    """Options of ``imdb``."""

    max_length: int = positive(200, "words read of each review, from its beginning")


@attrs.frozen
class AGNewsOptions(CorpusOptions):
    """Options of ``ag-news``."""

    max_length: int = positive(64, "words read of each article, from its beginning")


@attrs.frozen
class ArraysOptions:
    """Options of ``arrays``."""

    path: str = option("", "the .npz file")
    readout: Literal["last", "every"] = option("last", "whether a target belongs to the last step or to every step")
    group: str = option("", "the task's name; empty: the file's name without .npz")
    classes: int = _at_least(0, 0, "classes of an integer y; 0: the largest class + 1")
    vocabulary_size: int = _at_least(0, 0, "token ids of an integer x; 0: the largest id + 1")


def _digits_rows(options: DigitsRowsOptions) -> "Dataset":
    from dynamo_datasets.digits import digits_rows

    return digits_rows(options)


def _synthetic_sentiment(options: SyntheticSentimentOptions) -> "Dataset":
    from dynamo_datasets.synthetic import synthetic_sentiment

    return synthetic_sentiment(options)


def _flip_flop(options: FlipFlopOptions) -> "Dataset":
    from dynamo_datasets.flip_flop import flip_flop

    return flip_flop(options)


def _snippets(options: SnippetsOptions) -> "Dataset":
    from dynamo_datasets.snippets import snippets

    return snippets(options)


def _imdb(options: IMDBOptions) -> "Dataset":
    from dynamo_datasets.imdb import imdb

    return imdb(options)


def _ag_news(options: AGNewsOptions) -> "Dataset":
    from dynamo_datasets.ag_news import ag_news

    return ag_news(options)


def _arrays(options: ArraysOptions) -> "Dataset":
    from dynamo_datasets.arrays import arrays

    return arrays(options)


COMPONENTS = [
    Component("dataset", "digits-rows", _digits_rows, "handwritten digits, read row by row", DigitsRowsOptions),
    Component(
        "dataset",
        "synthetic-sentiment",
        _synthetic_sentiment,
        "generated sentences with negations and intensifiers, and a known score",
        SyntheticSentimentOptions,
    ),
    Component("dataset", "flip-flop", _flip_flop, "n bits of memory, set and reset by pulses", FlipFlopOptions),
    Component(
        "dataset", "snippets", _snippets, "short English texts from four sources, rated by people", SnippetsOptions
    ),
    Component("dataset", "imdb", _imdb, "film reviews, good or bad", IMDBOptions),
    Component("dataset", "ag-news", _ag_news, "news in four topics", AGNewsOptions),
    Component("dataset", "arrays", _arrays, "your own arrays, from an .npz file", ArraysOptions),
]


@hookimpl
def dynamo_components() -> list[Component]:
    """The data sets of this plugin."""
    return COMPONENTS
