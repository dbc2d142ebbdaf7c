"""From texts and labels to a data set: every corpus ends here."""

from collections.abc import Mapping, Sequence

import torch

from dynamo import Dataset, Examples, OutputSpace
from dynamo_datasets.encodings import Reader, with_encodings
from dynamo_datasets.text import LabelledTexts, encode, find_words, token_space


def text_dataset(
    train: LabelledTexts,
    test: LabelledTexts,
    *,
    words: Sequence[str],
    max_length: int,
    outputs: OutputSpace,
    readers: Mapping[str, Reader] | None = None,
) -> Dataset:
    """Texts as a data set: each cut after ``max_length`` words; texts without any word are left out.

    Args:
        train: the training texts.
        test: the test texts.
        words: the vocabulary of the words that the meta-model reads.
        max_length: words read of each text.
        outputs: the task.
        readers: the other encodings that the texts come in, by name.
    """

    def examples(part: LabelledTexts) -> Examples:
        found = [find_words(text, max_length) for text in part.texts]
        rows = [row for row, own in enumerate(found) if own.words]
        kept = [found[row] for row in rows]
        inputs = with_encodings(encode([own.words for own in kept], words), kept, readers or {})
        return Examples(inputs, torch.tensor(part.labels, dtype=torch.int64)[rows])

    return Dataset(token_space(words), outputs, examples(train), examples(test), tuple(words), encoding="words")
