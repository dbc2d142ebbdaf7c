"""Texts in other encodings than words: as characters, and as pieces of words.

A population may hold networks that read the same texts in different ways; see :class:`dynamo.Encoding`. All encodings
read a text as far as its last word that is kept, in lower case and without tags, and meet at the ends of words.

Pieces of words are found by byte-pair encoding (R. Sennrich, B. Haddow and A. Birch, 2016, Neural Machine Translation
of Rare Words with Subword Units, ACL). It is written out here, since it must give the same pieces for ever: a data set
is told from a changed one by its content.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise

import attrs
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dynamo import DynamoError, Encoding, Inputs
from dynamo.contracts import match_steps
from dynamo.contracts.errors import did_you_mean
from dynamo_datasets.text import PADDING, UNKNOWN, Words, count_words, encode, find_words, token_space

#: How a piece starts that is not the first of its word.
INNER = "##"
#: The most different characters that are known: the most frequent ones of the training texts.
CHARACTERS = 256

#: What one way of reading makes of a text: its tokens, and where in the text each ends.
Read = Callable[[Words], tuple[Sequence[str], Sequence[int]]]


@attrs.frozen
class Reader:
    """One way to read texts.

    Attributes:
        vocabulary: its tokens, ``<pad>`` and ``<unk>`` first.
        read: gives the tokens of a text, and where each ends.
    """

    vocabulary: tuple[str, ...]
    read: Read


def characters(texts: Iterable[str], subwords: int) -> Reader:
    """Character by character, blanks and punctuation too."""
    counts: Counter[str] = Counter()
    for text in texts:
        found = find_words(text)
        counts.update(found.text[: found.end])
    known = tuple(character for character, _ in _ranked(counts)[:CHARACTERS])

    def read(words: Words) -> tuple[list[str], list[int]]:
        return list(words.text[: words.end]), list(range(1, words.end + 1))

    return Reader((PADDING, UNKNOWN, *known), read)


def pieces(texts: Iterable[str], subwords: int) -> Reader:
    """Word by word, each in pieces of a vocabulary of that size."""
    counts = count_words(texts)
    letters = [symbol for symbol, _ in _ranked(Counter(symbol for word in counts for symbol in _symbols(word)))]
    merges = learn_merges(counts, max(subwords - len(letters) - 2, 0))
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    vocabulary = dict.fromkeys([PADDING, UNKNOWN, *letters, *(_merged(*pair) for pair in merges)])

    @cache
    def split(word: str) -> list[str]:
        return split_word(word, ranks)

    def read(words: Words) -> tuple[list[str], list[int]]:
        tokens, ends = list[str](), list[int]()
        for word, end in zip(words.words, words.ends, strict=True):
            own = split(word)
            lengths = [len(piece.removeprefix(INNER)) for piece in own]
            tokens += own
            ends += [end - len(word) + read for read in accumulate(lengths)]
        return tokens, ends

    return Reader(tuple(vocabulary), read)


MADE: Mapping[str, Callable[[Iterable[str], int], Reader]] = {"characters": characters, "subwords": pieces}
WORDS = "words"


def choose_readers(
    reads: str, others: str, training: Sequence[str], words: Sequence[str], subwords: int
) -> dict[str, Reader]:
    """The ways to read texts by name; the first is what the meta-model reads.

    Args:
        reads: its name.
        others: those that base models may read besides, joined by ``+``; empty for none.
        training: the texts that characters and pieces of words are made of.
        words: the vocabulary of words.
        subwords: how many pieces of words there are.

    Raises:
        DynamoError: an unknown name.
    """
    names = [name.strip() for name in others.split("+") if name.strip()]
    for name in (reads, *names):
        if name != WORDS and name not in MADE:
            raise DynamoError(f"texts have no encoding {name!r}: {did_you_mean(name, [WORDS, *MADE])}")
    return {
        name: Reader(tuple(words), _words) if name == WORDS else MADE[name](training, subwords)
        for name in dict.fromkeys([reads, *names])
    }


def read_texts(texts: Sequence[Words], readers: Mapping[str, Reader]) -> Inputs:
    """Texts as token ids of the first way to read them, which the others meet where tokens of both end.

    Args:
        texts: the texts, each with the words that are read of it.
        readers: the ways by name.
    """
    first, *others = readers
    inputs, times = _read(texts, readers[first])
    for name in others:
        own, ends = _read(texts, readers[name])
        steps = match_steps(times, inputs.mask, ends, own.mask)
        inputs = inputs.with_encoding(name, Encoding(token_space(readers[name].vocabulary), own, steps))
    return inputs


def _read(texts: Sequence[Words], reader: Reader) -> tuple[Inputs, Tensor]:
    """The texts as token ids, and where each token ends."""
    read = [reader.read(text) for text in texts]
    ends = torch.zeros(0, 0, dtype=torch.int64)
    if read:
        rows = [torch.tensor(row, dtype=torch.int64) for _, row in read]
        ends = pad_sequence(rows, batch_first=True)
    return encode([tokens for tokens, _ in read], reader.vocabulary), ends


def _words(words: Words) -> tuple[Sequence[str], Sequence[int]]:
    return words.words, words.ends


def learn_merges(counts: Mapping[str, int], most: int) -> list[tuple[str, str]]:
    """The pairs of pieces that are joined, the most frequent first; at most that many, of pairs that come twice.

    Args:
        counts: how often each word comes.
        most: how many pairs to join.
    """
    words = [(_symbols(word), count) for word, count in sorted(counts.items())]
    frequency: Counter[tuple[str, str]] = Counter()
    places = defaultdict[tuple[str, str], set[int]](set)
    for number, (symbols, count) in enumerate(words):
        for pair in pairwise(symbols):
            frequency[pair] += count
            places[pair].add(number)
    queue = [(-count, pair) for pair, count in frequency.items()]
    heapify(queue)
    merges: list[tuple[str, str]] = []
    while queue and len(merges) < most:
        count, pair = heappop(queue)
        if -count != frequency[pair]:  # it was changed since, and stands there again
            continue
        if -count < 2:
            break
        merges.append(pair)
        changed = set[tuple[str, str]]()
        for number in places.pop(pair):
            symbols, count = words[number]
            joined = _join(symbols, pair)
            for sign, own in ((-1, symbols), (1, joined)):
                for other in pairwise(own):
                    frequency[other] += sign * count
                    changed.add(other)
                    if sign > 0:
                        places[other].add(number)
            words[number] = joined, count
        for other in changed - {pair}:
            heappush(queue, (-frequency[other], other))
    return merges


def split_word(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """A word in pieces: its letters, joined in the order in which the joins were learnt."""
    symbols = _symbols(word)
    while len(symbols) > 1:
        best = min(pairwise(symbols), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        symbols = _join(symbols, best)
    return symbols


def _symbols(word: str) -> list[str]:
    return [word[0], *(INNER + letter for letter in word[1:])]


def _merged(first: str, second: str) -> str:
    return first + second.removeprefix(INNER)


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """The symbols with each such pair in one."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] = _merged(*pair)
        else:
            joined.append(symbol)
    return joined


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent first; ties in alphabetical order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
