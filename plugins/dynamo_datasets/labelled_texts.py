"""From texts and labels to a data set: every corpus ends here."""

from collections.abc import Mapping

import torch

from dynamo import Dataset, Examples, OutputSpace
from dynamo_datasets.encodings import Reader, read_texts
from dynamo_datasets.text import LabelledTexts, find_words, token_space


def text_dataset(
    train: LabelledTexts,
    test: LabelledTexts,
    *,
    readers: Mapping[str, Reader],
    max_length: int,
    outputs: OutputSpace,
) -> Dataset:
    """Texts as a data set: each cut after ``max_length`` words; texts without any word are left out.

    Args:
        train: the training texts.
        test: the test texts.
        readers: the encodings that the texts come in, by name; the first is what the meta-model reads.
        max_length: words read of each text.
        outputs: the task.
    """

    def examples(part: LabelledTexts) -> Examples:
        found = [find_words(text, max_length) for text in part.texts]
        rows = [row for row, own in enumerate(found) if own.words]
        inputs = read_texts([found[row] for row in rows], readers)
        return Examples(inputs, torch.tensor(part.labels, dtype=torch.int64)[rows])

    name, first = next(iter(readers.items()))
    space = token_space(first.vocabulary)
    return Dataset(space, outputs, examples(train), examples(test), first.vocabulary, encoding=name)
