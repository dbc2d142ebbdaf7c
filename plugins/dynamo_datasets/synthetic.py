"""Sentences whose sentiment is known exactly, with negations and intensifiers.

A generated counterpart of sentiment analysis by recurrent networks (N. Maheswaranathan et al., 2019, Reverse
engineering recurrent networks for sentiment classification reveals line attractor dynamics; N. Maheswaranathan and
D. Sussillo, 2020, How recurrent networks implement contextual processing in sentiment analysis). The rules:

- ``positiveI`` has the valence 1 + I mod 3, ``negativeI`` the same below zero, ``neutralI`` none;
- ``notI`` flips the sign of every valence among the next :data:`NEGATION_REACH` words; two of them cancel out;
- ``veryI`` multiplies the next valence, however far, by :data:`INTENSITY`; several of them multiply;
- the score is the sum of the valences so changed. The class is 1 where it is above zero and 0 where it is below.
"""

from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from dynamo import Dataset, DynamoError, Examples, OutputSpace
from dynamo_datasets.text import PADDING, UNKNOWN, encode, token_space

if TYPE_CHECKING:
    from dynamo_datasets import SyntheticSentimentOptions

NEGATION_REACH = 3
INTENSITY = 2

_SIGNS = {"neutral": 0, "positive": 1, "negative": -1, "not": 0, "very": 0}


def score(sentence: str | Sequence[str]) -> int:
    """The sentiment of a sentence, given as text or as a list of words.

    Raises:
        DynamoError: a word that is none of the task's.
    """
    words = sentence.split() if isinstance(sentence, str) else sentence
    total, factor = 0, 1
    negations: list[int] = []
    for position, word in enumerate(words):
        kind, valence = meaning(word)
        if kind == "not":
            negations.append(position)
        elif kind == "very":
            factor *= INTENSITY
        elif valence:
            flips = sum(position - negation <= NEGATION_REACH for negation in negations)
            total += valence * factor * (-1) ** flips
            factor = 1
    return total


@cache
def meaning(word: str) -> tuple[str, int]:
    """A word's kind and its valence: ``positive4`` is ("positive", 2).

    Raises:
        DynamoError: a word that is none of the task's.
    """
    kind = word.rstrip("0123456789")
    number = word[len(kind) :]
    if kind not in _SIGNS or not number:
        raise DynamoError(f"{word!r} is no word of this task: write {', '.join(_SIGNS)} with a number, as in 'not1'")
    return kind, _SIGNS[kind] * (1 + int(number) % 3)


def synthetic_sentiment(options: "SyntheticSentimentOptions") -> Dataset:
    """Generate the sentences: lengths and words are drawn uniformly; all are different and none has the score 0.

    Raises:
        DynamoError: there are not as many different sentences.
    """
    kinds = {
        "neutral": options.neutral_words,
        "positive": options.positive_words,
        "negative": options.negative_words,
        "not": options.negations,
        "very": options.intensifiers,
    }
    words = [f"{kind}{number}" for kind, count in kinds.items() for number in range(count)]
    scores = _sentences(options, words)
    vocabulary = (PADDING, UNKNOWN, *words)

    def examples(first: int, last: int) -> Examples:
        part = list(islice(scores, first, last))
        labels = [int(scores[sentence] > 0) for sentence in part]
        return Examples(encode(part, vocabulary), torch.tensor(labels, dtype=torch.int64))

    total = options.train_size + options.test_size
    train, test = examples(0, options.train_size), examples(options.train_size, total)
    outputs = OutputSpace("classes", 2, group="sentiment")
    return Dataset(token_space(vocabulary), outputs, train, test, vocabulary)


def _sentences(options: "SyntheticSentimentOptions", words: Sequence[str]) -> dict[tuple[str, ...], int]:
    """At least as many different sentences as are wanted, each with its score, in random order."""
    wanted = options.train_size + options.test_size
    generator = np.random.default_rng(options.seed)
    scores: dict[tuple[str, ...], int] = {}
    while len(scores) < wanted:
        before = len(scores)
        lengths = generator.integers(options.min_length, options.max_length, size=wanted, endpoint=True)
        draws = generator.integers(len(words), size=(wanted, options.max_length))
        for draw, length in zip(draws.tolist(), lengths.tolist(), strict=True):
            sentence = tuple(words[index] for index in draw[:length])
            if total := score(sentence):
                scores[sentence] = total
        if len(scores) == before:
            raise DynamoError(
                f"data set 'synthetic-sentiment': found {before} different sentences of {wanted}; "
                "ask for fewer, for longer ones or for more words"
            )
    return scores
