"""Text to token ids: split it into words, choose the words to know, encode.

Id 0 is the padding ``<pad>`` and id 1 any word that is not known, ``<unk>``.
"""

import hashlib
import html
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from unicodedata import category, normalize

import attrs
import numpy as np
import torch

from dynamo import DynamoError, Inputs, InputSpace
from dynamo.contracts.errors import DynamoWarning, printable
from dynamo.contracts.files import read_text

PADDING = "<pad>"
UNKNOWN = "<unk>"

#: The share of unknown words that is worth a warning.
_MANY = 0.5

_TAG = re.compile(r"</?[a-z][^<>]*>")


def _marks() -> str:
    """Unicode's marks that belong to the letter before them, for a class of characters: vowel signs and accents, but no
    variation selectors, which choose between pictures. Python's ``\\w`` has none of them.
    """
    places = [*range(0x300, 0xFE00), *range(0xFE10, 0x1F000)]
    return "".join(re.escape(chr(place)) for place in places if category(chr(place)) in ("Mn", "Mc"))


#: Letters and digits with their marks; the two joiners of Persian and of Indian scripts stand inside words.
_WORD = rf"[^\W_](?:[^\W_]|[{_marks()}]|[\u200c\u200d](?=[^\W_]))*"
_TOKEN = re.compile(rf"{_WORD}(?:'{_WORD})*|[!?]")


@attrs.frozen
class LabelledTexts:
    """Texts and the class of each, from 0."""

    texts: Sequence[str]
    labels: Sequence[int]


@attrs.frozen
class Words:
    """A text with the words that stand in it.

    Attributes:
        text: the text in lower case, without tags.
        words: its words, and its ``!`` and ``?``.
        ends: where in the text each ends.
    """

    text: str
    words: Sequence[str]
    ends: Sequence[int]

    @property
    def end(self) -> int:
        """Where the last word ends."""
        return self.ends[-1] if self.ends else 0


def find_words(text: str, most: int | None = None) -> Words:
    """A text with its words, the first of them where ``most`` says how many.

    HTML entities are resolved; tags such as ``<br />`` part words and are dropped. Letters keep their accents and vowel
    signs; one that Unicode writes in two ways is written in one (its form NFC).
    """
    lower = normalize("NFC", html.unescape(text.lower()).lower()).replace("’", "'")
    plain = _TAG.sub(" ", lower)
    found = list(islice(_TOKEN.finditer(plain), most))
    return Words(plain, [match.group() for match in found], [match.end() for match in found])


def tokenise(text: str) -> list[str]:
    """The words of a text in lower case, those with apostrophes whole, and its ``!`` and ``?``; all other punctuation
    is dropped. See :func:`find_words`.
    """
    return list(find_words(text).words)


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word comes in the texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenise(text))
    return counts


def most_frequent(counts: Counter[str], size: int) -> tuple[str, ...]:
    """A vocabulary of at most ``size`` words: ``<pad>``, ``<unk>``, then the most frequent; ties in alphabetical order.

    Raises:
        DynamoError: there are no words.
    """
    if not counts:
        raise DynamoError("there are no words in the training texts to make a vocabulary of")
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return (PADDING, UNKNOWN, *(word for word, _ in ranked[: size - 2]))


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """A vocabulary from a text file with one word a line; ``<pad>`` and ``<unk>`` come first, written there or not.

    Raises:
        DynamoError: there is no such file, or it has no words, more than one word in a line, or a word twice.
    """
    words: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        found = line.split()
        if len(found) > 1:
            raise DynamoError(f"vocabulary {path}, line {number}: {line!r} is more than one word; write one a line")
        words += [normalize("NFC", word) for word in found if word not in (PADDING, UNKNOWN)]
    if not words:
        raise DynamoError(f"vocabulary {path} has no words: write one a line")
    word, times = Counter(words).most_common(1)[0]
    if times > 1:
        raise DynamoError(f"vocabulary {path} has the word {word!r} {times} times: keep one")
    return (PADDING, UNKNOWN, *words)


def token_space(words: Sequence[str]) -> InputSpace:
    """The input space of a vocabulary; equal vocabularies have equal spaces."""
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]
    return InputSpace("tokens", (len(words),), digest)


def encode(sentences: Iterable[Sequence[str]], words: Sequence[str]) -> Inputs:
    """Sentences as token ids ``[B, T]`` padded on the right, T being the words of the longest."""
    ids = {word: index for index, word in enumerate(words)}
    unknown = ids[UNKNOWN]
    rows = [[ids.get(word, unknown) for word in sentence] for sentence in sentences]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    values = np.full(mask.shape, ids[PADDING], dtype=np.int64)
    values[mask] = np.fromiter(chain.from_iterable(rows), np.int64, count=int(lengths.sum()))
    return Inputs(torch.from_numpy(values), torch.from_numpy(mask))


def check_known(words: Sequence[str], counts: Counter[str]) -> None:
    """Check a vocabulary that was not made of the training texts against them; few of their words in it are warned of.

    Args:
        words: the vocabulary.
        counts: how often each word comes in the texts.

    Raises:
        DynamoError: it has none of their words.
    """
    known = set(words)
    missing = Counter({word: count for word, count in counts.items() if word not in known})
    unknown = missing.total() / max(counts.total(), 1)
    if unknown <= _MANY:
        return
    example = missing.most_common(1)[0][0]
    about = f"words of the vocabulary are such as {words[2]!r}, those of the texts such as {example!r}"
    if unknown == 1:
        raise DynamoError(
            f"the training texts have no word of the vocabulary: {about}; give whole words in lower case, or leave the "
            "vocabulary out"
        )
    told = f"{unknown:.0%} of the words of the training texts are unknown: {about}"
    warnings.warn(printable(told), DynamoWarning, stacklevel=2)
