"""Data sets: digits, generated tasks with a known ground truth, real texts, and arrays of one's own.

Listing them is instant; what a data set needs is imported when it is built.
"""

from typing import Any, Literal

import attrs

from dynamo import Component, hookimpl, option
from dynamo.contracts import InvalidValueError, at_least, positive, seed

#: The most examples, steps of an example, and kinds of words or classes that an option may ask for.
EXAMPLES, STEPS, WORDS = 10**7, 10**5, 10**6
#: The most numbers in a generated task.
LARGEST_TASK = 10**9


def _check_room(examples: int, steps: int, channels: int = 1) -> None:
    """Check that a generated task is of a size that a computer can hold."""
    if examples * steps * channels > LARGEST_TASK:
        raise InvalidValueError(
            f"{examples:,} examples of {steps:,} steps are too many numbers; {LARGEST_TASK:,} are the most"
        )


def _test_fraction(default: float) -> Any:
    help = "the share of the examples kept for the test"
    return option(default, help, check=lambda value: 0 < value < 1, rule="above 0 and below 1")


def _encodings(what: str) -> Any:
    return option("", f"other encodings that base models may read, joined by '+', of {what}")


@attrs.frozen
class DigitsRowsOptions:
    """Options of ``digits-rows``."""

    test_fraction: float = _test_fraction(0.25)
    seed: int = seed("seed of the split")
    encodings: str = _encodings("pixels and row-pairs")


@attrs.frozen
class SyntheticSentimentOptions:
    """Options of ``synthetic-sentiment``."""

    train_size: int = positive(4000, "training sentences", most=EXAMPLES)
    test_size: int = positive(1000, "test sentences", most=EXAMPLES)
    min_length: int = positive(4, "words in the shortest sentences", most=STEPS)
    max_length: int = positive(16, "words in the longest sentences", most=STEPS)
    neutral_words: int = at_least(0, 20, "words without a valence", most=WORDS)
    positive_words: int = positive(8, "words with a valence above zero", most=WORDS)
    negative_words: int = positive(8, "words with a valence below zero", most=WORDS)
    negations: int = at_least(0, 4, "words that flip the valences among the next 3 words", most=WORDS)
    intensifiers: int = at_least(0, 4, "words that double the next valence", most=WORDS)
    seed: int = seed("seed of the sentences")

    def __attrs_post_init__(self) -> None:
        if self.min_length > self.max_length:
            raise InvalidValueError(
                f"option 'min_length' is {self.min_length}: it must be at most max_length, {self.max_length}"
            )
        _check_room(self.train_size + self.test_size, self.max_length)


@attrs.frozen
class FlipFlopOptions:
    """Options of ``flip-flop``."""

    bits: int = positive(3, "channels, each with its own memory", most=10_000)
    steps: int = positive(50, "steps in a sequence", most=STEPS)
    train_size: int = positive(2000, "training sequences", most=EXAMPLES)
    test_size: int = positive(500, "test sequences", most=EXAMPLES)
    pulse_probability: float = option(
        0.1,
        "probability of a pulse, for each channel and step",
        check=lambda value: 0 < value <= 1,
        rule="above 0 and at most 1",
    )
    seed: int = seed("seed of the pulses")

    def __attrs_post_init__(self) -> None:
        _check_room(self.train_size + self.test_size, self.steps, self.bits)


@attrs.frozen
class SnippetsOptions:
    """Options of ``snippets``."""

    task: Literal["sentiment", "source"] = option("sentiment", "tell good from bad, or where the text comes from")
    sources: str = option("all", "'all', or some of movie, nyt, tweet and amazon joined by '+'")
    path: str = option("", "the .tsv.gz file; empty: $DYNAMO_SNIPPETS, or else ~/.cache/dynamo/snippets.tsv.gz")
    vocabulary_size: int = at_least(
        3, 2000, "words, the most frequent of the training texts, with <pad> and <unk>", most=WORDS
    )
    max_length: int = positive(32, "words read of each text, from its beginning", most=STEPS)
    test_fraction: float = _test_fraction(0.2)
    seed: int = seed("seed of the split and of the order")
    reads: Literal["words", "subwords", "characters"] = option("words", "the encoding that the meta-model reads")
    encodings: str = _encodings("words, characters and subwords")
    subwords: int = at_least(3, 1000, "pieces of words that the encoding 'subwords' knows", most=WORDS)


@attrs.frozen
class CorpusOptions:
    """The options that ``imdb`` and ``ag-news`` share."""

    root: str = option("", "the folder of the unpacked corpus")
    download: bool = option(False, "get the corpus with the 'datasets' library instead of reading root")
    vocabulary: str = option("", "a text file with one word a line; empty: the words of the training texts")
    vocabulary_size: int = at_least(3, 10000, "words taken from the training texts, with <pad> and <unk>", most=WORDS)
    reads: Literal["words", "subwords", "characters"] = option("words", "the encoding that the meta-model reads")
    encodings: str = _encodings("words, characters and subwords")
    subwords: int = at_least(3, 1000, "pieces of words that the encoding 'subwords' knows", most=WORDS)


@attrs.frozen
class IMDBOptions(CorpusOptions):
    """Options of ``imdb``."""

    max_length: int = positive(200, "words read of each review, from its beginning", most=STEPS)


@attrs.frozen
class AGNewsOptions(CorpusOptions):
    """Options of ``ag-news``."""

    max_length: int = positive(64, "words read of each article, from its beginning", most=STEPS)


@attrs.frozen
class ArraysOptions:
    """Options of ``arrays``."""

    path: str = option("", "the .npz file")
    readout: Literal["last", "every"] = option("last", "whether a target belongs to the last step or to every step")
    group: str = option("", "the task's name; empty: the file's name without .npz")
    classes: int = at_least(0, 0, "classes of an integer y; 0: the largest class + 1", most=WORDS)
    vocabulary_size: int = at_least(0, 0, "token ids of an integer x; 0: the largest id + 1", most=WORDS)


COMPONENTS = [
    Component(
        "dataset",
        "digits-rows",
        "dynamo_datasets.digits:digits_rows",
        "handwritten digits, read row by row",
        DigitsRowsOptions,
    ),
    Component(
        "dataset",
        "synthetic-sentiment",
        "dynamo_datasets.synthetic:synthetic_sentiment",
        "generated sentences with negations and intensifiers, and a known score",
        SyntheticSentimentOptions,
    ),
    Component(
        "dataset",
        "flip-flop",
        "dynamo_datasets.flip_flop:flip_flop",
        "n bits of memory, set and reset by pulses",
        FlipFlopOptions,
    ),
    Component(
        "dataset",
        "snippets",
        "dynamo_datasets.snippets:snippets",
        "short English texts from four sources, rated by people",
        SnippetsOptions,
    ),
    Component("dataset", "imdb", "dynamo_datasets.imdb:imdb", "film reviews, good or bad", IMDBOptions),
    Component("dataset", "ag-news", "dynamo_datasets.ag_news:ag_news", "news in four topics", AGNewsOptions),
    Component(
        "dataset", "arrays", "dynamo_datasets.arrays:arrays", "your own arrays, from an .npz file", ArraysOptions
    ),
]


@hookimpl
def dynamo_components() -> list[Component]:
    """The data sets of this plugin."""
    return COMPONENTS
