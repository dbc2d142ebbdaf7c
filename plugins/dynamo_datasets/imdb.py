"""IMDB: 50,000 film reviews, half good and half bad.

A. L. Maas et al., 2011, Learning Word Vectors for Sentiment Analysis, ACL. The folder ``aclImdb`` of the official
archive has one review a file in ``train/neg``, ``train/pos``, ``test/neg`` and ``test/pos``.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from dynamo import Dataset, DynamoError, OutputSpace
from dynamo.contracts.files import read_text
from dynamo_datasets.corpora import corpus
from dynamo_datasets.text import LabelledTexts

if TYPE_CHECKING:
    from dynamo_datasets import IMDBOptions

CLASSES = ("neg", "pos")


def imdb(options: "IMDBOptions") -> Dataset:
    """The reviews as token ids; two classes (bad, good), read at the last step.

    Raises:
        DynamoError: the folder, one of its parts or the vocabulary is missing, or the download fails.
    """
    outputs = OutputSpace("classes", len(CLASSES), group="sentiment")
    return corpus("imdb", options, read=read, hub_name="stanfordnlp/imdb", outputs=outputs)


def read(root: Path, part: str) -> LabelledTexts:
    """One part, ``train`` or ``test``, of the folder ``aclImdb``: all bad reviews, then all good ones.

    Raises:
        DynamoError: there are no reviews of a class.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(CLASSES):
        folder = root / part / name
        found = sorted(file for file in folder.glob("*.txt") if not file.name.startswith("."))  # of macOS: ._0_1.txt
        if not found:
            raise DynamoError(
                f"data set 'imdb': {folder} has no *.txt files; root must be the folder aclImdb of the official "
                "archive, with train/neg, train/pos, test/neg and test/pos"
            )
        files += found
        labels += [label] * len(found)
    return LabelledTexts([read_text(file) for file in files], labels)
