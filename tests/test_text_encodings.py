"""Texts as characters and as pieces of words, and images of other sizes and channels."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
import torch

from dynamo import DynamoError, OutputSpace, component
from dynamo_datasets.encodings import INNER, choose_readers, learn_merges, split_word
from dynamo_datasets.labelled_texts import text_dataset
from dynamo_datasets.text import LabelledTexts, count_words, find_words, most_frequent

TEXTS = [
    "The <b>lowest</b> price, the LOWEST!",
    "new and newer: the newest of all",
    "It's wider, it’s lower?",
    "…",
    "wide wide wide",
]


def plain_merges(counts: Counter[str], most: int) -> list[tuple[str, str]]:
    """Byte-pair encoding as it is told: count all pairs, join the most frequent, again."""
    words = {word: [word[0], *(INNER + letter for letter in word[1:])] for word in counts}
    merges = []
    while len(merges) < most:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += counts[word]
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, symbols in words.items():
            joined: list[str] = []
            for symbol in symbols:
                if joined and (joined[-1], symbol) == best:
                    joined[-1] += symbol.removeprefix(INNER)
                else:
                    joined.append(symbol)
            words[word] = joined
    return merges


@pytest.mark.parametrize("seed", range(5))
def test_merges_are_those_of_the_plain_algorithm(seed):
    random = Random(seed)
    counts = Counter("".join(random.choices("abc", k=random.randint(1, 9))) for _ in range(60))
    assert learn_merges(counts, 40) == plain_merges(counts, 40)


def test_pieces_make_up_their_word():
    counts = count_words(TEXTS)
    ranks = {pair: rank for rank, pair in enumerate(learn_merges(counts, 30))}
    for word in [*counts, "unseen", "x"]:
        found = split_word(word, ranks)
        assert "".join(piece.removeprefix(INNER) for piece in found) == word
        assert [piece.startswith(INNER) for piece in found] == [False] + [True] * (len(found) - 1)
    assert split_word("wide", ranks) == ["wide"]


def made(reads="words", others="characters+subwords"):
    part = LabelledTexts(TEXTS, [0, 1, 0, 1, 1])
    words = most_frequent(count_words(TEXTS), 100)
    readers = choose_readers(reads, others, TEXTS, words, 40)
    outputs = OutputSpace("classes", 2, group="toy")
    return text_dataset(part, part, readers=readers, max_length=4, outputs=outputs), readers


def test_words_meet_their_last_character_and_their_last_piece():
    dataset, readers = made()
    dataset.check("toy")
    inputs = dataset.train.inputs
    assert len(inputs) == 4  # the text without a word is left out
    kept = [find_words(text, 4) for text in TEXTS if find_words(text).words]
    for name, reader in list(readers.items())[1:]:
        own = inputs.read_as(name)
        assert own.space == dataset.encodings[name]
        for row, words in enumerate(kept):
            tokens = [reader.vocabulary[token] for token in own.inputs.values[row][own.inputs.mask[row]]]
            steps = own.steps[row][inputs.mask[row]].tolist()
            assert len(steps) == len(words.words)
            start = 0
            for word, step in zip(words.words, steps, strict=True):
                read = "".join(token.removeprefix(INNER) for token in tokens[start : step + 1])
                assert read.endswith(word)
                start = step + 1
            assert steps[-1] == len(tokens) - 1
    spelled = inputs.read_as("characters")
    first = "".join(readers["characters"].vocabulary[token] for token in spelled.inputs.values[0])
    assert first.rstrip("<pad>") == "the  lowest  price, the"  # as far as the last word that is kept


def test_the_meta_model_may_read_any_of_them():
    one, _ = made()
    other, _ = made("characters", "words+subwords")
    other.check("toy")
    assert other.encoding == "characters"
    assert other.inputs == one.encodings["characters"]
    assert other.tokens[2] in "abcdefghijklmnopqrstuvwxyz ,"
    for name in ("characters", "subwords"):
        assert torch.equal(
            one.train.inputs.read_as(name).inputs.values,
            (other.train.inputs if name == "characters" else other.train.inputs.read_as(name).inputs).values,
        )
    # the two clocks are inverse to one another where they meet
    words, letters = one.train.inputs, other.train.inputs
    there, back = words.read_as("characters").steps, letters.read_as("words").steps
    for row in range(len(words)):
        met = there[row][words.mask[row]]
        assert back[row, met].tolist() == list(range(len(met)))
        assert int((back[row] >= 0).sum()) == len(met)


def test_words_alone_are_as_they_were():
    alone, _ = made(others="")
    assert torch.equal(alone.train.inputs.values, made()[0].train.inputs.values)
    assert not alone.encodings
    with pytest.raises(DynamoError, match=r"no encoding 'letters'"):
        made(others="letters")


def test_images_come_in_half_their_size_and_without_colour():
    data = component("dataset", "digits").make({"encodings": "half+grey"})
    data.check("digits")
    inputs = data.test.inputs
    assert data.encodings["half"].shape == (1, 4, 4)
    blocks = inputs.values.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5))
    torch.testing.assert_close(inputs.read_as("half").inputs.values, blocks)
    assert torch.equal(inputs.read_as("grey").inputs.values, inputs.values)  # they have one channel
    with pytest.raises(DynamoError, match=r"'digits' has no encoding 'gray': did you mean 'grey'"):
        component("dataset", "digits").make({"encodings": "gray"})
